//! A DuckDB instance. One a process and file: two would corrupt the write-ahead log.

use std::{ffi::c_char, path::Path, ptr, sync::Arc};

use libduckdb_sys as c;

use super::{Connection, DuckError, Pulse, c_string, closing::close_of, text};

/// An open database; closes when the last clone and the last connection are gone.
#[derive(Clone)]
pub(crate) struct Database {
    raw: Arc<RawDatabase>,
}

pub(super) struct RawDatabase {
    pub(super) raw: c::duckdb_database,
    pub(super) pulse: Arc<Pulse>,
}

// SAFETY: a `duckdb_database` is a reference-counted handle; DuckDB locks inside connect and close.
unsafe impl Send for RawDatabase {}
// SAFETY: as above; shared use is limited to `duckdb_connect`, which is thread-safe.
unsafe impl Sync for RawDatabase {}

impl Drop for RawDatabase {
    fn drop(&mut self) {
        let mut raw = self.raw;
        // SAFETY: the handle was opened once and every connection holds a count on this object.
        close_of(&self.pulse, move || unsafe { c::duckdb_close(&mut raw) });
        self.pulse.closed();
    }
}

impl Database {
    /// Opens a file, or a database in memory when there is none, with start-up settings.
    pub(crate) fn open(path: Option<&Path>, settings: &[(&str, String)]) -> Result<Self, DuckError> {
        let path = c_string(&path.map_or_else(|| ":memory:".into(), Path::to_string_lossy))?;
        let settings = settings
            .iter()
            .map(|(name, value)| Ok((c_string(name)?, c_string(value)?)))
            .collect::<Result<Vec<_>, DuckError>>()?;
        let mut raw = ptr::null_mut();
        let mut message: *mut c_char = ptr::null_mut();
        // SAFETY: every pointer is a live local; the configuration is destroyed on each way out, and the
        // message, which DuckDB allocates, is copied before it is freed.
        unsafe {
            let mut config = ptr::null_mut();
            c::duckdb_create_config(&mut config);
            for (name, value) in &settings {
                if c::duckdb_set_config(config, name.as_ptr(), value.as_ptr())
                    != c::duckdb_state_DuckDBSuccess
                {
                    c::duckdb_destroy_config(&mut config);
                    let text = format!(
                        "Invalid Input Error: setting {} does not take the value {}",
                        name.to_string_lossy(),
                        value.to_string_lossy()
                    );
                    return Err(DuckError::from_message(text));
                }
            }
            let state = c::duckdb_open_ext(path.as_ptr(), &mut raw, config, &mut message);
            c::duckdb_destroy_config(&mut config);
            if state != c::duckdb_state_DuckDBSuccess {
                let error = DuckError::from_message(text(message));
                c::duckdb_free(message.cast());
                return Err(error);
            }
        }
        Ok(Self { raw: Arc::new(RawDatabase { raw, pulse: Arc::default() }) })
    }

    /// Whether the instance lives, also for those who must not keep it open.
    pub(crate) fn pulse(&self) -> &Arc<Pulse> {
        &self.raw.pulse
    }

    /// Another connection to this instance.
    pub(crate) fn connect(&self) -> Result<Connection, DuckError> {
        Connection::open(Arc::clone(&self.raw))
    }
}

/// The version of the linked library, such as `v1.5.5`.
pub(crate) fn library_version() -> String {
    // SAFETY: the library returns a static string.
    unsafe { text(c::duckdb_library_version()) }
}
