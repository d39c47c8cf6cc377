//! Parsing and preparing.

use std::{ptr, sync::Arc};

use arrow_array::Array;
use arrow_schema::{Field, SchemaRef};
use libduckdb_sys as c;

use super::{
    Class, Connection, DuckError, Rows,
    arrow::{self, LogicalTypes},
    c_string,
    connection::{Interrupt, RawConnection, take_text},
    logical::LogicalType,
    text, value,
};

/// What a statement is, as DuckDB's parser says. The kind is not the access: `SELECT nextval('s')`
/// writes, and only the READ ONLY transaction knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementKind {
    /// SELECT, FROM, VALUES, SHOW, DESCRIBE and the like.
    Select,
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE and TRUNCATE.
    Delete,
    /// MERGE INTO.
    Merge,
    /// EXPLAIN, with or without ANALYZE.
    Explain,
    /// PREPARE.
    Prepare,
    /// EXECUTE.
    Execute,
    /// CREATE of anything.
    Create,
    /// ALTER and COMMENT ON.
    Alter,
    /// DROP of anything.
    Drop,
    /// BEGIN, COMMIT, ROLLBACK.
    Transaction,
    /// COPY.
    Copy,
    /// EXPORT DATABASE and COPY FROM DATABASE.
    Export,
    /// SET, RESET, USE.
    Set,
    /// PRAGMA.
    Pragma,
    /// CALL and CHECKPOINT.
    Call,
    /// ATTACH.
    Attach,
    /// DETACH.
    Detach,
    /// VACUUM and ANALYZE.
    Vacuum,
    /// Anything else.
    Other,
}

impl StatementKind {
    fn from_raw(raw: c::duckdb_statement_type) -> Self {
        match raw {
            c::duckdb_statement_type_DUCKDB_STATEMENT_TYPE_SELECT
            | c::duckdb_statement_type_DUCKDB_STATEMENT_TYPE_RELATION => Self::Select,
            c::duckdb_statement_type_DUCKDB_STATEMENT_TYPE_INSERT => Self::Insert,
            c::duckdb_statement_type_DUCKDB_STATEMENT_TYPE_UPDATE => Self::Update,
            c::duckdb_statement_type_DUCKDB_STATEMENT_TYPE_DELETE => Self::Delete,
            c::duckdb_statement_type_DUCKDB_STATEMENT_TYPE_MERGE_INTO => Self::Merge,
            c::duckdb_statement_type_DUCKDB_STATEMENT_TYPE_EXPLAIN => Self::Explain,
            c::duckdb_statement_type_DUCKDB_STATEMENT_TYPE_PREPARE => Self::Prepare,
            c::duckdb_statement_type_DUCKDB_STATEMENT_TYPE_EXECUTE => Self::Execute,
            c::duckdb_statement_type_DUCKDB_STATEMENT_TYPE_CREATE
            | c::duckdb_statement_type_DUCKDB_STATEMENT_TYPE_CREATE_FUNC => Self::Create,
            c::duckdb_statement_type_DUCKDB_STATEMENT_TYPE_ALTER => Self::Alter,
            c::duckdb_statement_type_DUCKDB_STATEMENT_TYPE_DROP => Self::Drop,
            c::duckdb_statement_type_DUCKDB_STATEMENT_TYPE_TRANSACTION => Self::Transaction,
            c::duckdb_statement_type_DUCKDB_STATEMENT_TYPE_COPY => Self::Copy,
            c::duckdb_statement_type_DUCKDB_STATEMENT_TYPE_EXPORT
            | c::duckdb_statement_type_DUCKDB_STATEMENT_TYPE_COPY_DATABASE => Self::Export,
            c::duckdb_statement_type_DUCKDB_STATEMENT_TYPE_SET
            | c::duckdb_statement_type_DUCKDB_STATEMENT_TYPE_VARIABLE_SET => Self::Set,
            c::duckdb_statement_type_DUCKDB_STATEMENT_TYPE_PRAGMA => Self::Pragma,
            c::duckdb_statement_type_DUCKDB_STATEMENT_TYPE_CALL => Self::Call,
            c::duckdb_statement_type_DUCKDB_STATEMENT_TYPE_ATTACH => Self::Attach,
            c::duckdb_statement_type_DUCKDB_STATEMENT_TYPE_DETACH => Self::Detach,
            c::duckdb_statement_type_DUCKDB_STATEMENT_TYPE_VACUUM
            | c::duckdb_statement_type_DUCKDB_STATEMENT_TYPE_ANALYZE => Self::Vacuum,
            _ => Self::Other,
        }
    }
}

/// A parsed script.
pub(crate) struct Statements {
    raw: c::duckdb_extracted_statements,
    count: usize,
    connection: Arc<RawConnection>,
}

// SAFETY: the parse tree belongs to this object alone; DuckDB ties it to no thread.
unsafe impl Send for Statements {}

impl Drop for Statements {
    fn drop(&mut self) {
        // SAFETY: made once in `extract`.
        unsafe { c::duckdb_destroy_extracted(&mut self.raw) };
    }
}

impl Statements {
    pub(super) fn extract(connection: &Connection, sql: &str) -> Result<Self, DuckError> {
        let sql = c_string(sql)?;
        let connection = connection.shared();
        let mut raw = ptr::null_mut();
        // SAFETY: the connection is live, `sql` outlives the call, and `raw` is owned by the new object,
        // which frees it also when the parse failed.
        unsafe {
            let count = c::duckdb_extract_statements(connection.raw(), sql.as_ptr(), &mut raw);
            let statements = Self { raw, count: count as usize, connection };
            let message = text(c::duckdb_extract_statements_error(raw));
            if count == 0 && !message.is_empty() {
                return Err(statements.connection.examine(DuckError::from_message(message)));
            }
            Ok(statements)
        }
    }

    /// The connection that has parsed it.
    pub(crate) fn connection(&self) -> Connection {
        Connection::of(&self.connection)
    }

    /// How many statements there are; 0 for an empty text or only comments.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Plans statement `index`. Those before it must have run where it depends on them.
    pub(crate) fn prepare(&self, index: usize) -> Result<Prepared, DuckError> {
        let mut raw = ptr::null_mut();
        // SAFETY: index and handles are valid; a failed prepare still makes a handle, which holds the
        // error and which dropping `prepared` frees. No other call may touch it: asking a failed
        // statement for its type ends the process.
        unsafe {
            let state = c::duckdb_prepare_extracted_statement(
                self.connection.raw(),
                self.raw,
                index as c::idx_t,
                &mut raw,
            );
            let prepared = Prepared { raw, connection: Arc::clone(&self.connection) };
            if state != c::duckdb_state_DuckDBSuccess {
                return Err(self.connection.examine(DuckError::from_raw(c::duckdb_prepare_error(raw))));
            }
            Ok(prepared)
        }
    }
}

/// A planned statement. Its plan holds the statistics of the moment it was made: run it in the same
/// transaction, or know that nothing has committed since.
pub(crate) struct Prepared {
    raw: c::duckdb_prepared_statement,
    connection: Arc<RawConnection>,
}

// SAFETY: the statement belongs to one connection, which locks; the owner moves both together.
unsafe impl Send for Prepared {}

impl Drop for Prepared {
    fn drop(&mut self) {
        // SAFETY: made once by DuckDB; results made from it own what they need.
        unsafe { c::duckdb_destroy_prepare(&mut self.raw) };
    }
}

impl Prepared {
    /// By which any thread can stop it while it runs.
    pub(crate) fn interrupt(&self) -> Interrupt {
        Interrupt::of(&self.connection)
    }

    pub(crate) fn kind(&self) -> StatementKind {
        // SAFETY: only successfully prepared statements become a `Prepared` that callers see.
        StatementKind::from_raw(unsafe { c::duckdb_prepared_statement_type(self.raw) })
    }

    /// The columns of its result, by DuckDB's own mapping to Arrow; none for most writes.
    pub(crate) fn schema(&self) -> Result<SchemaRef, DuckError> {
        self.export_schema(&self.column_names(), self.column_types())
    }

    fn column_names(&self) -> Vec<String> {
        // SAFETY: the handle is live, indexes stay below the count, and names are freed by `take_text`.
        unsafe {
            (0..c::duckdb_prepared_statement_column_count(self.raw))
                .map(|index| take_text(c::duckdb_prepared_statement_column_name(self.raw, index)))
                .collect()
        }
    }

    /// Its columns, each with the type to which it is cast for a file of Parquet, if it has to be.
    pub(crate) fn parquet_columns(&self) -> Vec<(String, Option<String>)> {
        let types = self.column_types().read();
        self.column_names().into_iter().zip(types.iter().map(LogicalType::parquet_sql)).collect()
    }

    /// The types of its columns, as DuckDB has them.
    pub(super) fn column_types(&self) -> LogicalTypes {
        // SAFETY: as in `column_names`; a column that is a parameter itself has no type yet.
        unsafe {
            let count = c::duckdb_prepared_statement_column_count(self.raw);
            LogicalTypes::new((0..count).map(|index| {
                arrow::or_varchar(c::duckdb_prepared_statement_column_logical_type(self.raw, index))
            }))
        }
    }

    /// For each of its columns a value of its type, as SQL.
    pub(crate) fn samples(&self) -> Vec<String> {
        self.column_types().read().iter().map(LogicalType::sample_sql).collect()
    }

    /// True when every column and parameter has a type already, before values are bound.
    pub(crate) fn is_typed(&self) -> bool {
        let known = |mut logical: c::duckdb_logical_type| {
            // SAFETY: made by DuckDB for the caller, and destroyed here.
            unsafe {
                let id = c::duckdb_get_type_id(logical);
                c::duckdb_destroy_logical_type(&mut logical);
                id != c::DUCKDB_TYPE_DUCKDB_TYPE_INVALID
            }
        };
        // SAFETY: the handle is live, and indexes stay within the counts: columns from 0, parameters from 1.
        unsafe {
            (0..c::duckdb_prepared_statement_column_count(self.raw))
                .all(|index| known(c::duckdb_prepared_statement_column_logical_type(self.raw, index)))
                && (1..=c::duckdb_nparams(self.raw))
                    .all(|index| known(c::duckdb_param_logical_type(self.raw, index)))
        }
    }

    fn export_schema(&self, names: &[String], types: LogicalTypes) -> Result<SchemaRef, DuckError> {
        let types = types.recast(&Connection::of(&self.connection))?;
        arrow::export_schema(&self.connection, names, &types)
    }

    pub(super) fn raw(&self) -> c::duckdb_prepared_statement {
        self.raw
    }

    /// Looks at an error before it goes on: whether it condemns the instance.
    pub(super) fn examine(&self, error: DuckError) -> DuckError {
        self.connection.examine(error)
    }

    /// Names of the parameters in order: `1`, `2` for positional ones.
    pub(crate) fn parameter_names(&self) -> Vec<String> {
        // SAFETY: indexes run from 1 to the count; names are freed by `take_text`.
        unsafe {
            (1..=c::duckdb_nparams(self.raw))
                .map(|index| take_text(c::duckdb_parameter_name(self.raw, index)))
                .collect()
        }
    }

    /// Arrow types of the parameters where DuckDB knows them, with their names; utf8 where not.
    pub(crate) fn parameter_schema(&self) -> Result<SchemaRef, DuckError> {
        let names = self.parameter_names();
        // SAFETY: as in `parameter_names`.
        let types = unsafe {
            LogicalTypes::new(
                (1..=names.len() as c::idx_t)
                    .map(|index| arrow::or_varchar(c::duckdb_param_logical_type(self.raw, index))),
            )
        };
        self.export_schema(&names, types)
    }

    /// Forgets every value that was bound: a plan that is kept still has those of whoever ran it last.
    pub(crate) fn clear_bindings(&self) {
        // SAFETY: the handle is live.
        unsafe { c::duckdb_clear_bindings(self.raw) };
    }

    /// Binds parameter `index` (from 1) to the value at `row` of an Arrow array, whose type is one that DuckDB's
    /// import takes. A type that no parameter can have is an error of class `Unsupported`, bytes for a BIT one of `Conversion`:
    /// a BIT leaves as bytes of DuckDB's own, which a cast would read as other bits.
    pub(crate) fn bind(
        &self,
        index: usize,
        field: &Field,
        array: &dyn Array,
        row: usize,
    ) -> Result<(), DuckError> {
        // SAFETY: the handle is live, and the list destroys the type; a parameter without one counts as a text.
        let wanted = unsafe {
            let wanted = arrow::or_varchar(c::duckdb_param_logical_type(self.raw, index as c::idx_t));
            LogicalTypes::new(std::iter::once(wanted))
        };
        if wanted.read().iter().any(|wanted| wanted.has_bits_for(field.data_type())) {
            return Err(bytes_for_bits());
        }
        let bound = value::Value::from_arrow(field, array, row)?;
        // SAFETY: both handles are live; DuckDB copies the value.
        let state = unsafe { c::duckdb_bind_value(self.raw, index as c::idx_t, bound.raw()) };
        if state == c::duckdb_state_DuckDBSuccess {
            return Ok(());
        }
        // SAFETY: the statement is live and holds the text of its last error.
        Err(unsafe { DuckError::from_raw(c::duckdb_prepare_error(self.raw)) })
    }

    /// Runs it; the rows come as they are computed.
    pub(crate) fn stream(&self) -> Result<Rows, DuckError> {
        // SAFETY: a zeroed result is what DuckDB fills; `Rows` owns it from here, also when it failed.
        unsafe {
            let mut result: c::duckdb_result = std::mem::zeroed();
            let state = c::duckdb_execute_prepared_streaming(self.raw, &mut result);
            Rows::new(result, state, Arc::clone(&self.connection))
        }
    }

    /// Runs it to its end.
    pub(crate) fn execute(&self) -> Result<Rows, DuckError> {
        // SAFETY: as in `stream`.
        unsafe {
            let mut result: c::duckdb_result = std::mem::zeroed();
            let state = c::duckdb_execute_prepared(self.raw, &mut result);
            Rows::new(result, state, Arc::clone(&self.connection))
        }
    }

    /// Runs it for its effect.
    pub(crate) fn run(&self) -> Result<(), DuckError> {
        self.connection
            // SAFETY: the handle is live, and `result` is what DuckDB fills.
            .effect(|result| unsafe { c::duckdb_execute_prepared(self.raw, result) })
            .map(drop)
    }
}

/// That a client sent for a BIT what DuckDB would read as other bits.
pub(crate) fn bytes_for_bits() -> DuckError {
    DuckError::new(Class::Conversion, "a BIT is sent as the text of its bits, such as 101, not as bytes")
}
