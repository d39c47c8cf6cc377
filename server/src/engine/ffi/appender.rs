//! DuckDB's appender: rows into a table, without SQL.

use std::{ptr, sync::Arc};

use libduckdb_sys as c;

use super::{Connection, DataChunk, DuckError, c_string, connection::RawConnection};

/// Appends chunks to one table inside the connection's transaction.
///
/// Destroying a DuckDB appender flushes it. So dropping this one clears it first: rows that were not
/// flushed on purpose never reach the table, whatever happens to the transaction afterwards.
pub(crate) struct Appender {
    raw: c::duckdb_appender,
    connection: Arc<RawConnection>,
}

impl Drop for Appender {
    fn drop(&mut self) {
        // SAFETY: made once in `open`; clearing an appender that failed is allowed.
        unsafe {
            c::duckdb_appender_clear(self.raw);
            c::duckdb_appender_destroy(&mut self.raw);
        }
    }
}

impl Appender {
    /// Opens an appender; `columns` are those that the chunks carry, `None` for all of the table's.
    pub(crate) fn open(
        connection: &Connection,
        (catalog, schema, table): (&str, &str, &str),
        columns: Option<&[String]>,
    ) -> Result<Self, DuckError> {
        let connection = connection.shared();
        let (catalog, schema, table) = (c_string(catalog)?, c_string(schema)?, c_string(table)?);
        let mut raw = ptr::null_mut();
        // SAFETY: all pointers are live; a failed create still makes a handle, which dropping frees.
        let appender = unsafe {
            let state = c::duckdb_appender_create_ext(
                connection.raw(),
                catalog.as_ptr(),
                schema.as_ptr(),
                table.as_ptr(),
                &mut raw,
            );
            let appender = Self { raw, connection };
            appender.check(state)?;
            appender
        };
        for column in columns.unwrap_or_default() {
            let column = c_string(column)?;
            // SAFETY: appender and name are live.
            appender.check(unsafe { c::duckdb_appender_add_column(appender.raw, column.as_ptr()) })?;
        }
        Ok(appender)
    }

    /// Adds rows; DuckDB casts them to the column types.
    pub(crate) fn append(&self, chunk: &DataChunk) -> Result<(), DuckError> {
        // SAFETY: both handles are live; DuckDB copies the rows.
        self.check(unsafe { c::duckdb_append_data_chunk(self.raw, chunk.raw()) })
    }

    /// Moves what was appended into the transaction. Constraints are checked here.
    pub(crate) fn flush(&self) -> Result<(), DuckError> {
        // SAFETY: the handle is live.
        self.check(unsafe { c::duckdb_appender_flush(self.raw) })
    }

    fn check(&self, state: c::duckdb_state) -> Result<(), DuckError> {
        if state == c::duckdb_state_DuckDBSuccess {
            return Ok(());
        }
        // SAFETY: the appender is live; the error data is ours and freed by `from_error_data`.
        unsafe { DuckError::from_error_data(c::duckdb_appender_error_data(self.raw)) }
            .map_err(|error| self.connection.examine(error))?;
        Err(DuckError::from_message("Unknown Error: the appender failed without a reason".into()))
    }
}
