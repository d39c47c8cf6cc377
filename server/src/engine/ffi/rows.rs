//! A result, fetched chunk by chunk as Arrow.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use libduckdb_sys as c;

use super::{DuckError, arrow, connection::RawConnection, text};

/// The rows of one execution. Dropping it ends the query.
pub(crate) struct Rows {
    result: c::duckdb_result,
    schema: SchemaRef,
    connection: Arc<RawConnection>,
}

// SAFETY: the result belongs to one connection, which locks; the owner moves it as a whole.
unsafe impl Send for Rows {}

impl Drop for Rows {
    fn drop(&mut self) {
        // SAFETY: filled once by DuckDB and destroyed only here.
        unsafe { c::duckdb_destroy_result(&mut self.result) };
    }
}

impl Rows {
    /// # Safety
    /// `result` was filled by the call that returned `state`, on `connection`.
    pub(super) unsafe fn new(
        result: c::duckdb_result,
        state: c::duckdb_state,
        connection: Arc<RawConnection>,
    ) -> Result<Self, DuckError> {
        let mut rows = Self { result, schema: Arc::new(arrow_schema::Schema::empty()), connection };
        if state != c::duckdb_state_DuckDBSuccess {
            return Err(rows.error());
        }
        // SAFETY: the result is live and indexes stay below its column count.
        rows.schema = unsafe {
            let count = c::duckdb_column_count(&mut rows.result);
            let result = &raw mut rows.result;
            arrow::export_schema(rows.connection.arrow_options(), count, |index| {
                (text(c::duckdb_column_name(result, index)), c::duckdb_column_logical_type(result, index))
            })?
        };
        Ok(rows)
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// True when the result is rows, not the count of a write or nothing.
    pub(crate) fn has_rows(&mut self) -> bool {
        // SAFETY: the result is live; DuckDB reads it by value.
        unsafe {
            c::duckdb_result_return_type(self.result) == c::duckdb_result_type_DUCKDB_RESULT_TYPE_QUERY_RESULT
        }
    }

    /// Rows that a write changed.
    pub(crate) fn rows_changed(&mut self) -> u64 {
        // SAFETY: the result is live.
        unsafe { c::duckdb_rows_changed(&mut self.result) }
    }

    /// The next rows, at most one vector of them; `None` after the last.
    pub(crate) fn next(&mut self) -> Result<Option<RecordBatch>, DuckError> {
        // SAFETY: the result is live; the chunk is owned here and destroyed after its copy to Arrow.
        unsafe {
            let mut chunk = c::duckdb_fetch_chunk(self.result);
            if chunk.is_null() {
                // The end and a failure look the same here; only the error text tells them apart.
                let error = self.error();
                return if error.message.is_empty() { Ok(None) } else { Err(error) };
            }
            let batch = arrow::export_chunk(self.connection.arrow_options(), chunk, &self.schema);
            c::duckdb_destroy_data_chunk(&mut chunk);
            batch.map(Some)
        }
    }

    fn error(&mut self) -> DuckError {
        // SAFETY: the result is live; the text is copied.
        unsafe { DuckError::from_raw(c::duckdb_result_error(&mut self.result)) }
    }
}
