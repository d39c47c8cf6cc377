//! Record batches as bytes, in the formats that a client may ask for. Pure functions of batches: nothing here
//! knows of requests, and what has no exact form is refused before the first byte.

mod arrow;
mod csv;
mod json;
mod parquet;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use crate::{engine::Error, failure::Failure};

/// A form that rows can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// One object with `columns` and `rows`.
    Json,
    /// An object a line.
    Ndjson,
    /// Comma-separated values with a header.
    Csv,
    /// The Arrow IPC stream.
    Arrow,
    /// One Parquet file.
    Parquet,
}

impl Format {
    /// All, the default first.
    pub(super) const ALL: [Self; 5] = [Self::Json, Self::Ndjson, Self::Csv, Self::Arrow, Self::Parquet];

    /// How `?format=` calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Arrow => "arrow",
            Self::Parquet => "parquet",
        }
    }

    /// How `Accept` calls it.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv",
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }

    /// What `Content-Type` says.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8; header=present",
            other => other.media_type(),
        }
    }

    /// Begins a result with these columns.
    ///
    /// # Errors
    /// UNSUPPORTED_TYPE where a column has no place in the format.
    pub(super) fn encoder(self, schema: &SchemaRef) -> Result<Box<dyn Encode>, Failure> {
        Ok(match self {
            Self::Json => Box::new(json::Document::new(schema)),
            Self::Ndjson => Box::new(json::Lines::new(schema)),
            Self::Csv => Box::new(csv::Csv(SchemaRef::clone(schema))),
            Self::Arrow => Box::new(arrow::Stream::new(schema)?),
            Self::Parquet => Box::new(parquet::File::new(schema)?),
        })
    }
}

/// Turns one result into bytes, from its first to its last.
pub(super) trait Encode: Send {
    /// What comes before the first row.
    fn head(&mut self) -> Result<Vec<u8>, Error>;

    /// Some rows; there may be no bytes for them yet.
    fn rows(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, Error>;

    /// What comes after the last row.
    fn tail(&mut self) -> Result<Vec<u8>, Error>;
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// A whole result.
    pub(crate) fn encoded(format: Format, batches: &[RecordBatch]) -> Vec<u8> {
        let mut encoder = format.encoder(&batches[0].schema()).unwrap();
        let mut bytes = encoder.head().unwrap();
        for batch in batches {
            bytes.extend(encoder.rows(batch).unwrap());
        }
        bytes.extend(encoder.tail().unwrap());
        bytes
    }

    /// The same as text.
    pub(crate) fn text(format: Format, batches: &[RecordBatch]) -> String {
        String::from_utf8(encoded(format, batches)).unwrap()
    }
}
