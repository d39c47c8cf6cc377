//! A result, fetched chunk by chunk as Arrow.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use libduckdb_sys as c;

use super::{
    DuckError,
    arrow::{self, LogicalTypes},
    connection::RawConnection,
    gather::Gatherer,
    range::Ranges,
    recast::Recast,
    text,
};

/// So many bytes are gathered at the most before the last chunk comes to them: offsets of texts have 31 bits.
const MOST_GATHERED: usize = 1 << 30;

/// The rows of one execution. Dropping it ends the query.
pub(crate) struct Rows {
    result: RawResult,
    schema: SchemaRef,
    recast: Option<Recast>,
    ranges: Ranges,
    /// Where all columns are plain.
    gatherer: Option<Gatherer>,
    /// Fetched, and too large for the batch before.
    put_back: Option<Chunk>,
    /// All are fetched; DuckDB cannot be asked once more.
    has_ended: bool,
    connection: Arc<RawConnection>,
}

/// A result; destroyed when dropped.
struct RawResult(c::duckdb_result);

// SAFETY: the result belongs to one connection, which locks; the owner moves it as a whole.
unsafe impl Send for RawResult {}

impl Drop for RawResult {
    fn drop(&mut self) {
        // SAFETY: filled once by DuckDB and destroyed only here.
        unsafe { c::duckdb_destroy_result(&mut self.0) };
    }
}

/// At most one vector of rows; destroyed when dropped.
struct Chunk(c::duckdb_data_chunk);

// SAFETY: a chunk owns its vectors.
unsafe impl Send for Chunk {}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: fetched once from DuckDB and destroyed only here.
        unsafe { c::duckdb_destroy_data_chunk(&mut self.0) };
    }
}

impl RawResult {
    fn error(&mut self, connection: &RawConnection) -> DuckError {
        // SAFETY: the result is live; the text is copied.
        connection.examine(unsafe { DuckError::from_raw(c::duckdb_result_error(&mut self.0)) })
    }

    fn names_and_types(&mut self) -> (Vec<String>, LogicalTypes) {
        let result = &raw mut self.0;
        // SAFETY: the result is live and indexes stay below its column count.
        unsafe {
            let columns = 0..c::duckdb_column_count(result);
            (
                columns.clone().map(|index| text(c::duckdb_column_name(result, index))).collect(),
                LogicalTypes::new(columns.map(|index| c::duckdb_column_logical_type(result, index))),
            )
        }
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
        let mut result = RawResult(result);
        if state != c::duckdb_state_DuckDBSuccess {
            return Err(result.error(&connection));
        }
        let (names, types) = result.names_and_types();
        let logical = types.read();
        let needs_recast = logical.iter().any(|column| column.is_recast() || column.has_listed_interval());
        let ranges = Ranges::new(names.iter().map(String::as_str).zip(&logical));
        let mut gatherer = None;
        let (recast, schema) = if needs_recast {
            let recast = Recast::new(&connection, types, &logical)?;
            let schema = arrow::export_schema(&connection, &names, &recast.prepared().column_types())?;
            (Some(recast), schema)
        } else {
            let schema = arrow::export_schema(&connection, &names, &types)?;
            gatherer = Gatherer::new(&logical, &schema);
            (None, schema)
        };
        Ok(Self { result, schema, recast, ranges, gatherer, put_back: None, has_ended: false, connection })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// True when the result is rows, not the count of a write or nothing.
    pub(crate) fn has_rows(&mut self) -> bool {
        // SAFETY: the result is live; DuckDB reads it by value.
        unsafe {
            c::duckdb_result_return_type(self.result.0)
                == c::duckdb_result_type_DUCKDB_RESULT_TYPE_QUERY_RESULT
        }
    }

    /// Rows that a write changed.
    pub(crate) fn rows_changed(&mut self) -> u64 {
        // SAFETY: the result is live.
        unsafe { c::duckdb_rows_changed(&mut self.result.0) }
    }

    /// The next rows, at most one vector of them; `None` after the last. A value that Arrow cannot hold is an
    /// error of class [`OutOfRange`](super::Class::OutOfRange).
    pub(crate) fn next(&mut self) -> Result<Option<RecordBatch>, DuckError> {
        let Some(chunk) = self.fetch()? else { return Ok(None) };
        // SAFETY: the chunk is this result's, as it was fetched.
        unsafe { self.export(chunk.0) }.map(Some)
    }

    /// The next rows: where that needs no copy of them, as many vectors as it takes to have so many rows or bytes; else those of
    /// one vector, as [`next`](Self::next) gives them.
    pub(crate) fn next_of(&mut self, rows: usize, bytes: usize) -> Result<Option<RecordBatch>, DuckError> {
        let Some(gatherer) = &self.gatherer else { return self.next() };
        let bytes = bytes.min(MOST_GATHERED);
        let mut gathered = gatherer.begin();
        while gathered.rows < rows && gathered.bytes() < bytes {
            let Some(chunk) = self.fetch()? else { break };
            // SAFETY: the chunk is this result's, and flat, as DuckDB fetches them.
            if !unsafe { gathered.push(chunk.0) } {
                self.put_back = Some(chunk);
                break;
            }
        }
        let Some(gatherer) = self.gatherer.as_mut().filter(|_| gathered.rows > 0) else { return self.next() };
        let batch = gatherer.finish(gathered)?;
        self.ranges.check_batch(&batch)?;
        Ok(Some(batch))
    }

    /// Runs to the end for nothing but the error that there may be.
    pub(crate) fn discard(mut self) -> Result<(), DuckError> {
        while self.fetch()?.is_some() {}
        Ok(())
    }

    fn fetch(&mut self) -> Result<Option<Chunk>, DuckError> {
        if let Some(chunk) = self.put_back.take() {
            return Ok(Some(chunk));
        }
        if self.has_ended {
            return Ok(None);
        }
        // SAFETY: the result is live; the chunk is owned from here on.
        let chunk = unsafe { c::duckdb_fetch_chunk(self.result.0) };
        if !chunk.is_null() {
            return Ok(Some(Chunk(chunk)));
        }
        // The end and a failure look the same here; only the error text tells them apart.
        self.has_ended = true;
        let error = self.result.error(&self.connection);
        if error.message.is_empty() { Ok(None) } else { Err(error) }
    }

    /// # Safety
    /// `chunk` is a live chunk of this result, as DuckDB fetches them: flat, but for what is inside lists.
    unsafe fn export(&mut self, chunk: c::duckdb_data_chunk) -> Result<RecordBatch, DuckError> {
        let (ranges, options, schema) = (&self.ranges, self.connection.arrow_options(), &self.schema);
        // SAFETY: the schema is that of the chunk which is exported; intervals inside lists are recast, and
        // what comes out of that is flat throughout.
        let export = |chunk| unsafe {
            ranges.check_chunk(chunk)?;
            arrow::export_chunk(options, chunk, schema)
        };
        let batch = match &self.recast {
            // SAFETY: the chunk has the types that the recast was made for.
            Some(recast) => unsafe { recast.apply(chunk, export) }?,
            None => export(chunk)?,
        };
        self.ranges.check_batch(&batch)?;
        Ok(batch)
    }
}
