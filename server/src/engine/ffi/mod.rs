//! The only unsafe code: a small safe wrapper over DuckDB's C API and the Arrow C data interface.
//!
//! Ownership is the whole design. [`Connection`] owns a `duckdb_connection` through a reference count;
//! whatever is made from a connection (statements, results, appenders, imports) holds a count of its
//! own, so nothing outlives what it points into. A connection is used by one thread at a time; only
//! [`Interrupt`] may be used from others.
#![allow(unsafe_code, reason = "this module is the boundary to C; each block says why it is sound")]

mod appender;
mod arrow;
mod arrow_files;
mod batch_view;
mod closing;
mod connection;
mod database;
mod error;
mod files;
mod gather;
mod inside;
mod listing;
mod logical;
mod pulse;
mod range;
mod recast;
mod rows;
mod sample;
mod scan;
mod setseed;
mod statement;
mod table_function;
mod value;

pub(crate) use appender::Appender;
pub(crate) use arrow::{ArrowImport, DataChunk};
pub(crate) use arrow_files::{READ_ARROW, register_read_arrow};
pub(crate) use batch_view::{BatchView, attach_views};
pub(crate) use connection::{Connection, Interrupt, WeakInterrupt};
pub(crate) use database::{Database, library_version};
pub use error::Class;
pub(crate) use error::{DuckError, behind_query, tells_of_faster};
pub(crate) use listing::register_listing;
pub(crate) use pulse::Pulse;
pub(crate) use recast::register_recast;
pub(crate) use rows::Rows;
pub(crate) use scan::{Offer, SCAN_FUNCTION, ScanRegistry, register_scan, slices};
pub(crate) use setseed::forbid_setseed;
pub use statement::StatementKind;
pub(crate) use statement::{Prepared, Statements, bytes_for_bits};

/// Rows of one DuckDB vector, the unit in which chunks are exchanged.
pub(crate) const VECTOR_ROWS: usize = 2048;

/// Copies a C string that DuckDB owns; a null pointer is an empty text.
///
/// # Safety
/// `text` is null or points to a NUL-terminated string that lives for the duration of the call.
unsafe fn text(text: *const std::ffi::c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: by the contract above.
    unsafe { std::ffi::CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// A text as C wants it; NUL inside it is refused rather than cut off.
fn c_string(text: &str) -> Result<std::ffi::CString, DuckError> {
    std::ffi::CString::new(text)
        .map_err(|_| DuckError::new(Class::Syntax, "a text must not contain the character NUL"))
}
