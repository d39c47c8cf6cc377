//! Files as DuckDB sees them: on disk, or behind `s3://` with the secrets of the instance.
//!
//! Whatever DuckDB forbids or allows its own readers holds here, too, because it is DuckDB that opens and reads.

use std::ptr;

use libduckdb_sys as c;
use parking_lot::Mutex;

use super::{Class, DuckError, c_string};
use crate::engine::ipc::ReadAt;

/// The way to files for one call of a table function.
///
/// It is that of the client who calls, because an address such as `s3://` is opened with secrets, which DuckDB
/// looks up in a transaction: while a call is bound and while it runs its client has one.
pub(super) struct Files {
    /// Locked, because DuckDB leaves the reason of a failure in it.
    raw: Mutex<c::duckdb_file_system>,
}

// SAFETY: DuckDB's file systems are made for many threads, and what holds the last error is behind the lock.
unsafe impl Send for Files {}
// SAFETY: as above.
unsafe impl Sync for Files {}

impl Files {
    /// # Safety
    /// `info` is live, and the files are gone before the client's connection: in bind data they are.
    pub(super) unsafe fn of_bind(info: c::duckdb_bind_info) -> Result<Self, DuckError> {
        // SAFETY: the context belongs to this call and is destroyed here; the file system refers to the connection
        // and not to it.
        let raw = unsafe {
            let mut context = ptr::null_mut();
            c::duckdb_table_function_get_client_context(info, &mut context);
            let raw = c::duckdb_client_context_get_file_system(context);
            c::duckdb_destroy_client_context(&mut context);
            raw
        };
        if raw.is_null() {
            return Err(DuckError::new(Class::Other, "there is no way to files"));
        }
        Ok(Self { raw: Mutex::new(raw) })
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// DuckDB's, which has the path in it.
    pub(super) fn open(&self, path: &str) -> Result<OpenFile, DuckError> {
        let path = c_string(path)?;
        let system = self.raw.lock();
        let mut raw = ptr::null_mut();
        // SAFETY: the file system is live, the options are destroyed here, and the handle becomes the file's.
        unsafe {
            let mut options = c::duckdb_create_file_open_options();
            c::duckdb_file_open_options_set_flag(options, c::duckdb_file_flag_DUCKDB_FILE_FLAG_READ, true);
            let state = c::duckdb_file_system_open(*system, path.as_ptr(), options, &mut raw);
            c::duckdb_destroy_file_open_options(&mut options);
            if state != c::duckdb_state_DuckDBSuccess {
                reason(c::duckdb_file_system_error_data(*system))?;
                return Err(DuckError::new(Class::Io, "IO Error: the file cannot be opened"));
            }
        }
        let mut file = OpenFile { raw, size: 0, at: 0 };
        // SAFETY: the handle is live.
        let size = unsafe { c::duckdb_file_handle_size(raw) };
        file.size = u64::try_from(size).map_err(|_| file.error())?;
        Ok(file)
    }
}

/// What DuckDB left as the reason of a failure. Its text lacks the class, by which storage that answers so is told from what is
/// wrong with a file.
///
/// # Safety
/// As [`DuckError::from_error_data`].
unsafe fn reason(data: c::duckdb_error_data) -> Result<(), DuckError> {
    // SAFETY: `data` is live until it is taken over, after the look at its type.
    let (kind, reason) = unsafe { (c::duckdb_error_data_error_type(data), DuckError::from_error_data(data)) };
    let head = match kind {
        c::duckdb_error_type_DUCKDB_ERROR_HTTP => "HTTP",
        c::duckdb_error_type_DUCKDB_ERROR_INVALID => "Invalid",
        _ => return reason,
    };
    reason.map_err(|error| DuckError::from_message(format!("{head} Error: {}", error.message)))
}

impl Drop for Files {
    fn drop(&mut self) {
        // SAFETY: made once, and no call is under way.
        unsafe { c::duckdb_destroy_file_system(self.raw.get_mut()) };
    }
}

/// A file that is open for reading; closed when dropped.
pub(super) struct OpenFile {
    raw: c::duckdb_file_handle,
    size: u64,
    /// Where DuckDB stands in it.
    at: u64,
}

// SAFETY: a handle is used by one thread at a time, its owner's.
unsafe impl Send for OpenFile {}

impl OpenFile {
    fn error(&self) -> DuckError {
        // SAFETY: the handle is live.
        match unsafe { reason(c::duckdb_file_handle_error_data(self.raw)) } {
            Err(error) => error,
            Ok(()) => DuckError::new(Class::Io, "IO Error: the file cannot be read"),
        }
    }
}

impl ReadAt for OpenFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&mut self, offset: u64, mut into: &mut [u8]) -> Result<(), DuckError> {
        let position = i64::try_from(offset).map_err(|_| self.error())?;
        if self.at != offset {
            // SAFETY: the handle is live.
            let state = unsafe { c::duckdb_file_handle_seek(self.raw, position) };
            if state != c::duckdb_state_DuckDBSuccess {
                return Err(self.error());
            }
        }
        self.at = offset;
        while !into.is_empty() {
            // SAFETY: the handle is live, and DuckDB writes as many bytes as there is room for at the most.
            let read =
                unsafe { c::duckdb_file_handle_read(self.raw, into.as_mut_ptr().cast(), into.len() as i64) };
            match usize::try_from(read) {
                Ok(read) if read > 0 && read <= into.len() => {
                    self.at += read as u64;
                    into = &mut into[read..];
                }
                // The size was asked for before: somebody has cut the file off meanwhile.
                Ok(_) => return Err(DuckError::new(Class::Io, "IO Error: the file ends too early")),
                Err(_) => return Err(self.error()),
            }
        }
        Ok(())
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        // SAFETY: opened once, and not used afterwards; destroying it closes it.
        unsafe { c::duckdb_destroy_file_handle(&mut self.raw) };
    }
}
