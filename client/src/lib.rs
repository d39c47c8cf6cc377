//! Client library for Merganser, an Arrow Flight SQL server over DuckDB.
//!
//! A [`Client`] is one connection that any number of tasks share: clone it freely. Queries come back as
//! a [`RowStream`] of Arrow record batches; [`Client::ingest`] sends record batches to a table as one
//! atomic unit and returns once they are on disk. A [`Loader`] sends many units over one stream and loses and
//! repeats none, whatever breaks in between.
//!
//! ```no_run
//! use futures::TryStreamExt;
//! use merganser::{Client, Error};
//!
//! # async fn example() -> Result<(), Error> {
//! let client = Client::connect("grpc://127.0.0.1:8815").await?;
//! let mut rows = client.query("SELECT 42 AS answer").await?;
//! while let Some(batch) = rows.try_next().await? {
//!     println!("{} rows", batch.num_rows());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Everything travels as stock Arrow Flight SQL, so that this crate is a convenience and never a
//! requirement: any Flight SQL driver talks to the same server.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

mod activity;
mod advice;
mod auth;
mod backup;
mod client;
mod codec;
mod error;
mod greeting;
mod ingest;
mod ingest_options;
mod jobs;
mod loader;
mod options;
mod retry;
mod rows;
mod split;
mod table_path;
mod tables;
mod upload;
mod url;

pub use client::Client;
pub use error::Error;
pub use greeting::wrong_port;
pub use ingest_options::{IngestKey, IngestMode, IngestOptions, Merge, NewColumns, OnConflict};
pub use loader::{Acknowledged, Committed, Loader, LoaderOptions, Start, Window};
pub use merganser_proto::IngestAck;
pub use options::{ClientOptions, Credentials, TlsOptions};
pub use retry::{OnTrouble, RetryPolicy};
pub use rows::RowStream;
pub use table_path::TablePath;
pub use tables::TableInfo;
pub use url::DEFAULT_PORT;
