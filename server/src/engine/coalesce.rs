//! DuckDB hands out 2,048 rows at a time; the network wants messages of about two megabytes.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;

use super::Result;

/// A batch is complete at this many rows,
const TARGET_ROWS: usize = 65_536;
/// or at about this many bytes, whichever comes first.
const TARGET_BYTES: usize = 2 << 20;
/// The first batch leaves early; each one after it may be this many times as large.
const GROWTH: usize = 8;

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

    /// Takes rows; gives a large batch when one is complete.
    pub(crate) fn push(&mut self, batch: RecordBatch) -> Result<Option<RecordBatch>> {
        self.rows += batch.num_rows();
        self.bytes += batch.get_array_memory_size();
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
