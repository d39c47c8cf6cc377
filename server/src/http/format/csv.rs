//! Comma-separated values with a header.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use merganser_formats::{csv_header, csv_lines};

use super::Encode;
use crate::engine::Error;

/// Lines of values.
pub(super) struct Csv(pub(super) SchemaRef);

impl Encode for Csv {
    fn head(&mut self) -> Result<Vec<u8>, Error> {
        Ok(csv_header(&self.0))
    }

    fn rows(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, Error> {
        Ok(csv_lines(batch)?)
    }

    fn tail(&mut self) -> Result<Vec<u8>, Error> {
        Ok(Vec::new())
    }
}
