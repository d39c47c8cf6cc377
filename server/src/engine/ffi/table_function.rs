//! What the server's own table functions share. Those that read for a single statement have one argument, a
//! random key of what they read.

use std::{
    ffi::{CStr, CString, c_void},
    panic::{AssertUnwindSafe, catch_unwind},
};

use libduckdb_sys as c;

use super::{Class, Connection, DuckError, c_string};

/// What DuckDB calls.
pub(super) struct Callbacks {
    pub(super) arguments: Arguments,
    pub(super) bind: unsafe extern "C" fn(c::duckdb_bind_info),
    pub(super) init: unsafe extern "C" fn(c::duckdb_init_info),
    /// Makes what each thread of a scan has to itself.
    pub(super) local_init: Option<unsafe extern "C" fn(c::duckdb_init_info)>,
    pub(super) produce: unsafe extern "C" fn(c::duckdb_function_info, c::duckdb_data_chunk),
}

/// What a call is given.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Arguments {
    None,
    /// The key of what is read.
    Key,
    /// A path or a list of them, and by name the source that they are. Of such a function only the columns are read
    /// that a statement needs.
    Paths,
}

/// The name of an argument: the source for which files are read.
pub(super) const SOURCE_ARGUMENT: &CStr = c"source";

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
        c::duckdb_table_function_set_name(function, c_name.as_ptr());
        add_arguments(function, callbacks.arguments);
        if let Some((extra, release)) = extra {
            c::duckdb_table_function_set_extra_info(function, extra, Some(release));
        }
        c::duckdb_table_function_set_bind(function, Some(callbacks.bind));
        c::duckdb_table_function_set_init(function, Some(callbacks.init));
        if callbacks.local_init.is_some() {
            c::duckdb_table_function_set_local_init(function, callbacks.local_init);
        }
        c::duckdb_table_function_set_function(function, Some(callbacks.produce));
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

/// # Safety
/// `function` is live and not registered yet.
unsafe fn add_arguments(function: c::duckdb_table_function, arguments: Arguments) {
    let first = match arguments {
        Arguments::None => return,
        Arguments::Key => c::DUCKDB_TYPE_DUCKDB_TYPE_UBIGINT,
        Arguments::Paths => c::DUCKDB_TYPE_DUCKDB_TYPE_ANY,
    };
    // SAFETY: by the contract above; the function copies the types, which are destroyed here.
    unsafe {
        let mut first = c::duckdb_create_logical_type(first);
        c::duckdb_table_function_add_parameter(function, first);
        c::duckdb_destroy_logical_type(&mut first);
        if arguments == Arguments::Paths {
            let mut named = c::duckdb_create_logical_type(c::DUCKDB_TYPE_DUCKDB_TYPE_VARCHAR);
            c::duckdb_table_function_add_named_parameter(function, SOURCE_ARGUMENT.as_ptr(), named);
            c::duckdb_destroy_logical_type(&mut named);
            c::duckdb_table_function_supports_projection_pushdown(function, true);
        }
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
