//! Engine batches as Flight data.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_flight::{FlightData, encode::FlightDataEncoderBuilder, error::FlightError};
use arrow_schema::SchemaRef;
use futures::{Stream, TryStreamExt};
use tonic::{Response, Status};

use super::{Answers, Reply, error::engine_status};
use crate::{
    engine::{BatchStream, Error},
    session::Fetched,
    statement_log::Entry,
};

/// Messages are split at about this size: clients accept 16 MiB at most by default.
const MESSAGE_BYTES: usize = 2 << 20;

/// A DoGet answer: the schema first, always, then the rows as they come. Dropping it stops the query.
pub(super) fn rows(batches: BatchStream, entry: Entry) -> Reply<Answers<FlightData>> {
    let schema = batches.schema();
    Ok(encode(schema, entry.follow(batches)))
}

/// A DoGet answer of batches that are there already.
pub(super) fn ready(schema: SchemaRef, batches: Vec<RecordBatch>) -> Reply<Answers<FlightData>> {
    Ok(encode(schema, futures::stream::iter(batches.into_iter().map(Ok))))
}

/// A DoGet answer of what a statement returned that has run before.
pub(super) fn kept(rows: Fetched) -> Response<Answers<FlightData>> {
    encode(rows.schema(), rows.batches())
}

fn encode(
    schema: SchemaRef,
    batches: impl Stream<Item = Result<RecordBatch, Error>> + Send + 'static,
) -> Response<Answers<FlightData>> {
    let data = FlightDataEncoderBuilder::new()
        .with_max_flight_data_size(MESSAGE_BYTES)
        .with_schema(Arc::clone(&schema))
        .build(batches.map_err(|error| FlightError::Tonic(Box::new(engine_status(error)))))
        .map_err(Status::from);
    Response::new(Box::pin(data))
}

/// An answer of one item.
pub(super) fn one<T: Send + 'static>(item: T) -> Response<Answers<T>> {
    Response::new(Box::pin(futures::stream::iter([Ok(item)])))
}

/// An answer of several items.
pub(super) fn many<T: Send + 'static>(items: Vec<T>) -> Response<Answers<T>> {
    Response::new(Box::pin(futures::stream::iter(items.into_iter().map(Ok))))
}
