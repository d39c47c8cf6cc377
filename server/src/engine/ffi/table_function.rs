//! What the server's own table functions share. Those that read for a single statement have one argument, a
//! random key of what they read.

use std::{
    ffi::{CString, c_void},
    panic::{AssertUnwindSafe, catch_unwind},
};

use libduckdb_sys as c;

use super::{Class, Connection, DuckError, c_string};

/// What DuckDB calls.
pub(super) struct Callbacks {
    /// The function has one argument, the key of what it reads; else it has none.
    pub(super) takes_key: bool,
    pub(super) bind: unsafe extern "C" fn(c::duckdb_bind_info),
    pub(super) init: unsafe extern "C" fn(c::duckdb_init_info),
    pub(super) produce: unsafe extern "C" fn(c::duckdb_function_info, c::duckdb_data_chunk),
}

/// What every call finds as its extra info, and how it is given back.
pub(super) type Extra = (*mut c_void, unsafe extern "C" fn(*mut c_void));

/// Runs a callback's body; an error or a panic becomes the text that DuckDB reports.
pub(super) fn guard(body: impl FnOnce() -> Result<(), DuckError>) -> Option<CString> {
    let text = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return None,
        Ok(Err(error)) => error.message,
        Err(_) => "the scan failed inside the server".into(),
    };
    Some(CString::new(text.replace('\0', " ")).unwrap_or_default())
}

/// A key that no client can guess.
pub(super) fn random_key() -> Result<u64, DuckError> {
    let mut key = [0; 8];
    getrandom::fill(&mut key).map_err(|error| DuckError::new(Class::Other, error.to_string()))?;
    Ok(u64::from_ne_bytes(key))
}

/// Makes a function known to the whole instance. DuckDB owns `extra` from here on.
pub(super) fn register(
    connection: &Connection,
    name: &str,
    callbacks: &Callbacks,
    extra: Option<Extra>,
) -> Result<(), DuckError> {
    let c_name = c_string(name)?;
    // SAFETY: the function object is destroyed after registration, which copies it.
    let state = unsafe {
        let mut function = c::duckdb_create_table_function();
        let mut key_type = c::duckdb_create_logical_type(c::DUCKDB_TYPE_DUCKDB_TYPE_UBIGINT);
        c::duckdb_table_function_set_name(function, c_name.as_ptr());
        if callbacks.takes_key {
            c::duckdb_table_function_add_parameter(function, key_type);
        }
        if let Some((extra, release)) = extra {
            c::duckdb_table_function_set_extra_info(function, extra, Some(release));
        }
        c::duckdb_table_function_set_bind(function, Some(callbacks.bind));
        c::duckdb_table_function_set_init(function, Some(callbacks.init));
        c::duckdb_table_function_set_function(function, Some(callbacks.produce));
        c::duckdb_destroy_logical_type(&mut key_type);
        let state = c::duckdb_register_table_function(connection.shared().raw(), function);
        c::duckdb_destroy_table_function(&mut function);
        state
    };
    if state == c::duckdb_state_DuckDBSuccess {
        Ok(())
    } else {
        Err(DuckError::new(Class::Other, format!("the table function {name} cannot be registered")))
    }
}

/// The argument of the call that is being bound.
///
/// # Safety
/// `info` is the live bind info of a function that [`register`] made.
pub(super) unsafe fn key_argument(info: c::duckdb_bind_info) -> u64 {
    // SAFETY: by the contract above; the value is destroyed here.
    unsafe {
        let mut value = c::duckdb_bind_get_parameter(info, 0);
        let key = c::duckdb_get_uint64(value);
        c::duckdb_destroy_value(&mut value);
        key
    }
}

/// Makes the columns of `output` those of `chunk`; no rows are copied.
///
/// # Safety
/// Both are live and have `columns` columns of the same types, and `chunk` outlives what reads `output`.
pub(super) unsafe fn reference(output: c::duckdb_data_chunk, chunk: c::duckdb_data_chunk, columns: usize) {
    // SAFETY: by the contract above.
    unsafe {
        for index in 0..columns as c::idx_t {
            c::duckdb_vector_reference_vector(
                c::duckdb_data_chunk_get_vector(output, index),
                c::duckdb_data_chunk_get_vector(chunk, index),
            );
        }
        c::duckdb_data_chunk_set_size(output, c::duckdb_data_chunk_get_size(chunk));
    }
}
