//! Chunks whose types Arrow lacks, cast by DuckDB itself.
//!
//! The rows of a result go, chunk by chunk, through a second statement on a connection of its own:
//! `SELECT c0, CAST(c1 AS VARCHAR) FROM __merganser_recast(key)`. Wrapping the client's statement instead
//! would be cheaper, but not every statement can stand in a FROM (RETURNING, EXPLAIN, CALL), parameters and
//! the names of columns would have to survive it, and so would the order of rows. Formatting the values here
//! would mean to know all of a VARIANT's encodings. Only results that have such a column pay for this.

use std::{
    collections::HashMap,
    ffi::{CString, c_void},
    ptr,
    sync::{Arc, LazyLock},
};

use libduckdb_sys as c;
use parking_lot::Mutex;

use super::{
    Class, Connection, DuckError, Prepared, Statements,
    arrow::LogicalTypes,
    connection::RawConnection,
    logical::LogicalType,
    table_function::{Arguments, Callbacks, key_argument, random_key, reference, register},
};

/// The function's name in SQL.
const RECAST_FUNCTION: &str = "__merganser_recast";

/// What is being recast just now. The keys are random: no client can guess another's.
static SOURCES: LazyLock<Mutex<HashMap<u64, Arc<Source>>>> = LazyLock::new(Mutex::default);

/// The casts of one result.
pub(super) struct Recast {
    prepared: Prepared,
    source: Arc<Source>,
    key: u64,
}

struct Source {
    types: LogicalTypes,
    /// The chunk that the statement reads next; null when there is none.
    chunk: Mutex<c::duckdb_data_chunk>,
}

// SAFETY: the types are only read, and the chunk is one that `Recast::apply` borrows until the statement that
// reads it has ended.
unsafe impl Send for Source {}
// SAFETY: as above; the chunk is behind a lock.
unsafe impl Sync for Source {}

impl Drop for Recast {
    fn drop(&mut self) {
        SOURCES.lock().remove(&self.key);
    }
}

impl Recast {
    /// For a result with columns of these types; `logical` are the same.
    pub(super) fn new(
        beside: &RawConnection,
        types: LogicalTypes,
        logical: &[LogicalType],
    ) -> Result<Self, DuckError> {
        let source = Arc::new(Source { types, chunk: Mutex::new(ptr::null_mut()) });
        let key = random_key()?;
        let columns: Vec<_> = logical
            .iter()
            .enumerate()
            .map(|(index, logical)| match logical.is_recast() {
                true => logical.wire_cast(&format!("c{index}")),
                false => format!("c{index}"),
            })
            .collect();
        let sql = format!("SELECT {} FROM {RECAST_FUNCTION}({key}::UBIGINT)", columns.join(", "));
        SOURCES.lock().insert(key, Arc::clone(&source));
        let prepared = beside
            .another()
            .and_then(|connection| Statements::extract(&connection, &sql)?.prepare(0))
            .inspect_err(|_| drop(SOURCES.lock().remove(&key)))?;
        Ok(Self { prepared, source, key })
    }

    /// The statement, which knows the types of the columns that leave.
    pub(super) fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    /// Casts a chunk and hands the result to `use_it`; its vectors are flat, also those inside others.
    ///
    /// # Safety
    /// `chunk` is live and of the types that `new` was given.
    pub(super) unsafe fn apply<T>(
        &self,
        chunk: c::duckdb_data_chunk,
        use_it: impl FnOnce(c::duckdb_data_chunk) -> Result<T, DuckError>,
    ) -> Result<T, DuckError> {
        *self.source.chunk.lock() = chunk;
        // SAFETY: the result is filled by the call and destroyed after its chunk, which may point into it.
        unsafe {
            let mut result: c::duckdb_result = std::mem::zeroed();
            let state = c::duckdb_execute_prepared(self.prepared.raw(), &mut result);
            *self.source.chunk.lock() = ptr::null_mut();
            let outcome = if state == c::duckdb_state_DuckDBSuccess {
                let mut cast = c::duckdb_fetch_chunk(result);
                let complete = !cast.is_null()
                    && c::duckdb_data_chunk_get_size(cast) == c::duckdb_data_chunk_get_size(chunk);
                let outcome = match complete {
                    true => use_it(cast),
                    false => Err(DuckError::new(Class::Other, "rows were lost while they were cast")),
                };
                c::duckdb_destroy_data_chunk(&mut cast);
                outcome
            } else {
                Err(self.prepared.examine(DuckError::from_raw(c::duckdb_result_error(&mut result))))
            };
            c::duckdb_destroy_result(&mut result);
            outcome
        }
    }
}

/// Makes the function known to the whole instance.
pub(crate) fn register_recast(connection: &Connection) -> Result<(), DuckError> {
    register(
        connection,
        RECAST_FUNCTION,
        &Callbacks { arguments: Arguments::Key, bind, init, local_init: None, produce },
        None,
    )
}

unsafe extern "C" fn release(source: *mut c_void) {
    // SAFETY: the pointer came from `Arc::into_raw` in `bind` and is given back once.
    drop(unsafe { Arc::from_raw(source.cast_const().cast::<Source>()) });
}

unsafe extern "C" fn bind(info: c::duckdb_bind_info) {
    // SAFETY: DuckDB calls with a live info object; names and types are copied,
    // and the source's count passes to DuckDB, which gives it back through `release`.
    unsafe {
        let Some(source) = SOURCES.lock().get(&key_argument(info)).cloned() else {
            c::duckdb_bind_set_error(info, c"there is nothing to cast".as_ptr());
            return;
        };
        for (index, logical) in source.types.raw().iter().enumerate() {
            let name = CString::new(format!("c{index}")).unwrap_or_default();
            c::duckdb_bind_add_result_column(info, name.as_ptr(), *logical);
        }
        c::duckdb_bind_set_bind_data(info, Arc::into_raw(source).cast_mut().cast(), Some(release));
    }
}

unsafe extern "C" fn init(info: c::duckdb_init_info) {
    // SAFETY: DuckDB calls with a live info object. One thread keeps the rows in order.
    unsafe { c::duckdb_init_set_max_threads(info, 1) };
}

unsafe extern "C" fn produce(info: c::duckdb_function_info, output: c::duckdb_data_chunk) {
    // SAFETY: DuckDB calls with live objects; bind data is the source. The chunk stays until the statement has
    // ended, and its columns are of the types that `bind` announced.
    unsafe {
        let source = &*c::duckdb_function_get_bind_data(info).cast::<Source>();
        let chunk = std::mem::replace(&mut *source.chunk.lock(), ptr::null_mut());
        if chunk.is_null() {
            c::duckdb_data_chunk_set_size(output, 0);
            return;
        }
        reference(output, chunk, source.types.raw().len());
    }
}
