//! DuckDB hands out 2,048 rows at a time; the network wants messages of about two megabytes. What cannot be fetched in that size
//! is copied into it here.

use arrow_array::{Array, RecordBatch};
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;

use super::{Error, Result, ffi::Rows};

/// A batch is complete at this many rows,
const TARGET_ROWS: usize = 65_536;
/// or at about this many bytes, whichever comes first.
const TARGET_BYTES: usize = 2 << 20;
/// The first batch leaves early; each one after it may be this many times as large.
const GROWTH: usize = 8;

/// A row may take so many bytes. It cannot be split, and on its way out there are several copies of it; gRPC ends at four times
/// as much.
const MAX_ROW_BYTES: usize = 1 << 30;

/// Collects small batches into large ones, starting small so that the first rows leave at once.
pub(crate) struct Coalescer {
    schema: SchemaRef,
    pending: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
    target_rows: usize,
}

impl Coalescer {
    pub(crate) fn new(schema: SchemaRef) -> Self {
        Self { schema, pending: Vec::new(), rows: 0, bytes: 0, target_rows: 1 }
    }

    /// The next rows of a result, at best just those that complete a batch.
    ///
    /// # Errors
    /// DuckDB's.
    pub(crate) fn fetch(&self, rows: &mut Rows) -> Result<Option<RecordBatch>> {
        Ok(rows.next_of(self.target_rows - self.rows, TARGET_BYTES - self.bytes)?)
    }

    /// Takes rows; gives a large batch when one is complete.
    ///
    /// # Errors
    /// [`Error::RowTooLarge`].
    pub(crate) fn push(&mut self, batch: RecordBatch) -> Result<Option<RecordBatch>> {
        let bytes = batch.get_array_memory_size();
        if bytes > MAX_ROW_BYTES {
            check_rows(&batch, MAX_ROW_BYTES)?;
        }
        self.rows += batch.num_rows();
        self.bytes += bytes;
        self.pending.push(batch);
        if self.rows < self.target_rows && self.bytes < TARGET_BYTES {
            return Ok(None);
        }
        self.target_rows = (self.rows * GROWTH).min(TARGET_ROWS);
        self.finish()
    }

    /// Gives what is left.
    pub(crate) fn finish(&mut self) -> Result<Option<RecordBatch>> {
        let complete = match self.pending.len() {
            0 => None,
            1 => self.pending.pop(),
            _ => Some(concat_batches(&self.schema, &self.pending)?),
        };
        self.pending.clear();
        self.rows = 0;
        self.bytes = 0;
        Ok(complete)
    }
}

/// Refuses a batch in which a row takes more than `most` bytes.
fn check_rows(batch: &RecordBatch, most: usize) -> Result<()> {
    for row in 0..batch.num_rows() {
        let row = batch.slice(row, 1);
        let bytes: usize = row
            .columns()
            .iter()
            .map(|column| column.to_data().get_slice_memory_size())
            .sum::<Result<usize, _>>()?;
        if bytes > most {
            return Err(Error::RowTooLarge(most));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, StringArray};

    use super::*;

    #[test]
    fn it_is_the_row_that_is_too_large_and_not_the_batch() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(600), "y".repeat(600)]));
        let batch = RecordBatch::try_from_iter([("text", texts)]).unwrap();
        check_rows(&batch, 1_000).unwrap();
        assert!(matches!(check_rows(&batch, 500), Err(Error::RowTooLarge(500))));
    }
}
