//! The HTTP API under `/v1`: SQL in, rows out in the form that the client accepts, errors as problems (RFC 9457).
//!
//! A request passes the [`door`], which leaves a [`Visit`](door::Visit) in it: who asks, and the way to the engine.
//! There is no other way, so that no handler can forget to ask. Handlers answer rows through [`answer::respond`] and
//! failures as [`problem::Problem`]s.

mod accept;
mod address;
mod answer;
mod arrow_rows;
mod body;
mod csv_rows;
mod cursor_token;
mod cursors;
mod door;
mod double;
mod head;
mod json_columns;
mod json_members;
mod json_objects;
mod json_rows;
mod listed;
mod nested;
mod once;
mod openapi;
mod parameters;
mod problem;
mod queries;
mod responses;
mod rows;
mod schemas;
mod sql;
mod tables;

use std::{sync::Arc, time::Duration};

use axum::{
    Router, middleware,
    routing::{get, post},
};
use tower_http::{
    CompressionLevel,
    compression::{
        CompressionLayer,
        predicate::{NotForContentType, Predicate, SizeAbove},
    },
};

use super::{Shared, format::Format};
use crate::{
    engine::Engine,
    session::{Authenticator, Sessions},
    statement_log::StatementLog,
};
pub(crate) use cursors::Cursors;

/// Answers that are smaller are not worth packing.
const LEAST_PACKED_BYTES: u16 = 1_024;

/// What the API works on, while the server serves.
pub(crate) struct Api {
    /// What the queries are asked of.
    pub(crate) engine: Engine,
    /// Pages that are to come.
    pub(crate) cursors: Cursors,
    /// Where a request gets its session.
    pub(crate) sessions: Arc<Sessions>,
    /// Who may come in.
    pub(crate) authenticator: Arc<Authenticator>,
    /// Where each statement leaves its line.
    pub(crate) log: Arc<StatementLog>,
}

/// What a request may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes of a request's body.
    pub(crate) body_bytes: usize,
    /// How long a body may take to come.
    pub(crate) body_time: Duration,
}

/// The API's routes, all behind the door.
pub(super) fn routes(shared: &Shared) -> Router<Shared> {
    let packed =
        SizeAbove::new(LEAST_PACKED_BYTES).and(NotForContentType::const_new(Format::Parquet.media_type()));
    Router::new()
        .route("/v1/sql", post(sql::run))
        .route("/v1/tables", get(tables::list))
        .route("/v1/queries", get(queries::list))
        .route("/v1/queries/{name}", get(queries::call).post(queries::call))
        .route("/v1/openapi.json", get(openapi::describe))
        .route_layer(middleware::from_fn_with_state(shared.clone(), door::admit))
        // Packing is done on the threads of the network, so it had better be quick.
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(packed))
}

pub(super) use problem::{no_such_method, no_such_path};
