//! A connection and its interrupt.

use std::{
    ptr,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use libduckdb_sys as c;

use super::{Class, DuckError, Pulse, Statements, c_string, closing::close_of, database::RawDatabase, text};

/// One connection, used by one thread at a time.
pub(crate) struct Connection {
    raw: Arc<RawConnection>,
}

pub(super) struct RawConnection {
    raw: c::duckdb_connection,
    options: c::duckdb_arrow_options,
    /// What fails here may concern a second database alone.
    forgiven: AtomicBool,
    /// Keeps the instance open for as long as the connection.
    database: Arc<RawDatabase>,
}

// SAFETY: DuckDB takes the connection's own lock in every call; `duckdb_interrupt` sets an atomic flag.
unsafe impl Send for RawConnection {}
// SAFETY: as above. Statements and results made from one connection stay on one thread by their owners.
unsafe impl Sync for RawConnection {}

impl RawConnection {
    pub(super) fn raw(&self) -> c::duckdb_connection {
        self.raw
    }

    /// Another connection to the same instance.
    pub(super) fn another(&self) -> Result<Connection, DuckError> {
        Connection::open(Arc::clone(&self.database))
    }

    /// The instance, without keeping it open.
    pub(super) fn instance(&self) -> Weak<RawDatabase> {
        Arc::downgrade(&self.database)
    }

    /// Looks at an error before it goes on: whether it condemns the instance.
    pub(super) fn examine(&self, error: DuckError) -> DuckError {
        let (pulse, forgiven) = (&self.database.pulse, self.forgiven.load(Ordering::Relaxed));
        let may_concern_all = match error.class {
            Class::Internal | Class::Unreachable => true,
            Class::Fatal => forgiven,
            _ => false,
        };
        if may_concern_all && !pulse.has_failed() {
            self.ask_instance();
        }
        match forgiven && !pulse.has_failed() {
            true => error,
            false => pulse.examine(error),
        }
    }

    /// Runs a statement on another connection, whose error condemns the instance if it takes no more work. After some errors
    /// DuckDB refuses all of it, and says so to the next statement only, whoever runs it.
    fn ask_instance(&self) {
        let _ = self.another().and_then(|another| another.execute("SELECT 1"));
    }

    /// Runs what fills a result that nobody reads; gives the number of rows changed.
    pub(super) fn effect(
        &self,
        run: impl FnOnce(*mut c::duckdb_result) -> c::duckdb_state,
    ) -> Result<u64, DuckError> {
        // SAFETY: a zeroed result is what DuckDB expects to fill; it is destroyed on both ways out, and the error text
        // is copied before.
        unsafe {
            let mut result: c::duckdb_result = std::mem::zeroed();
            let outcome = match run(&raw mut result) {
                c::duckdb_state_DuckDBSuccess => Ok(c::duckdb_rows_changed(&mut result)),
                _ => Err(self.examine(DuckError::from_raw(c::duckdb_result_error(&mut result)))),
            };
            c::duckdb_destroy_result(&mut result);
            outcome
        }
    }

    /// How DuckDB is to lay out Arrow data; fixed when the connection was made.
    pub(super) fn arrow_options(&self) -> c::duckdb_arrow_options {
        self.options
    }
}

impl Drop for RawConnection {
    fn drop(&mut self) {
        // Where disconnecting has to do it, an error of that ends the process: see [`super::closing`].
        // SAFETY: the connection is live, and `result` is what DuckDB fills.
        let _ = self.effect(|result| unsafe { c::duckdb_query(self.raw, c"ROLLBACK".as_ptr(), result) });
        // SAFETY: the options were made once in `open`, and nobody uses them any more.
        unsafe { c::duckdb_destroy_arrow_options(&mut self.options) };
        let mut raw = self.raw;
        // SAFETY: the handle was made once in `open`, and every statement, result and appender made from this connection
        // holds a count on this object, so none is left.
        close_of(&self.database.pulse, move || unsafe { c::duckdb_disconnect(&mut raw) });
    }
}

impl Connection {
    pub(super) fn open(database: Arc<RawDatabase>) -> Result<Self, DuckError> {
        let mut raw = ptr::null_mut();
        let mut options = ptr::null_mut();
        // SAFETY: the database handle is live; both out-pointers are locals.
        unsafe {
            if c::duckdb_connect(database.raw, &mut raw) != c::duckdb_state_DuckDBSuccess {
                let error = DuckError::new(Class::Fatal, "the database takes no more connections");
                return Err(database.pulse.examine(error));
            }
            c::duckdb_connection_get_arrow_options(raw, &mut options);
        }
        let raw = Arc::new(RawConnection { raw, options, forgiven: AtomicBool::new(false), database });
        raw.database.pulse.connected(&raw);
        Ok(Self { raw })
    }

    /// From now on a fatal error on this connection does not condemn the instance: DuckDB says so of a database
    /// that is attached beside it, too. What concerns the instance is met by the other connections.
    pub(crate) fn forgive(&self) {
        self.raw.forgiven.store(true, Ordering::Relaxed);
    }

    /// Whether its instance lives.
    pub(crate) fn pulse(&self) -> &Arc<Pulse> {
        &self.raw.database.pulse
    }

    /// The same connection, from what was made of it.
    pub(super) fn of(raw: &Arc<RawConnection>) -> Self {
        Self { raw: Arc::clone(raw) }
    }

    /// Another connection to the same instance.
    pub(crate) fn beside(&self) -> Result<Self, DuckError> {
        self.raw.another()
    }

    pub(super) fn shared(&self) -> Arc<RawConnection> {
        Arc::clone(&self.raw)
    }

    /// Runs SQL for its effect and returns the number of rows changed by its last statement.
    pub(crate) fn execute(&self, sql: &str) -> Result<u64, DuckError> {
        let sql = c_string(sql)?;
        // SAFETY: the connection and the text are live, and `result` is what DuckDB fills.
        self.raw.effect(|result| unsafe { c::duckdb_query(self.raw.raw, sql.as_ptr(), result) })
    }

    /// What stops the statement that the connection runs.
    pub(crate) fn interrupt(&self) -> Interrupt {
        Interrupt::of(&self.raw)
    }

    /// Parses a script without running it.
    pub(crate) fn extract(&self, sql: &str) -> Result<Statements, DuckError> {
        Statements::extract(self, sql)
    }

    /// Lets DuckDB keep count of how far statements on this connection are, until the guard is dropped. It
    /// costs each of them a little, and prints nothing.
    pub(crate) fn count_progress(&self) -> Result<CountingProgress, DuckError> {
        // Not the other way round: it would print in between.
        self.execute("SET SESSION enable_progress_bar_print = false")?;
        self.execute("SET SESSION enable_progress_bar = true")?;
        Ok(CountingProgress { connection: Self::of(&self.raw) })
    }
}

/// While it lives, DuckDB counts how far the connection's statements are.
pub(crate) struct CountingProgress {
    connection: Connection,
}

impl Drop for CountingProgress {
    fn drop(&mut self) {
        for setting in ["enable_progress_bar", "enable_progress_bar_print"] {
            // In a transaction that a failure has aborted it stays on, and printing stays off.
            if let Err(error) = self.connection.execute(&format!("RESET SESSION {setting}")) {
                tracing::debug!(error = error.message, "progress is still counted");
                return;
            }
        }
    }
}

/// Another thread's hold on a connection: it stops the statement that the connection is running, and tells
/// how far that is; harmless when none runs.
#[derive(Clone)]
pub(crate) struct Interrupt {
    raw: Arc<RawConnection>,
}

/// The same without keeping the connection open, or its instance.
pub(crate) struct WeakInterrupt(Weak<RawConnection>);

impl WeakInterrupt {
    pub(crate) fn interrupt(&self) {
        if let Some(raw) = self.0.upgrade() {
            Interrupt { raw }.interrupt();
        }
    }
}

impl Interrupt {
    /// The same without keeping the connection open.
    pub(crate) fn downgrade(&self) -> WeakInterrupt {
        WeakInterrupt(Arc::downgrade(&self.raw))
    }

    pub(super) fn of(connection: &Arc<RawConnection>) -> Self {
        Self { raw: Arc::clone(connection) }
    }

    pub(crate) fn interrupt(&self) {
        // SAFETY: the connection is alive through our count, and interrupting only sets an atomic flag.
        unsafe { c::duckdb_interrupt(self.raw.raw) };
    }

    /// How far the statement is, from 0 to 1; `None` where DuckDB does not know or does not count.
    pub(crate) fn progress(&self) -> Option<f64> {
        // SAFETY: the connection is alive through our count, and the progress is kept in atomic numbers.
        let percentage = unsafe { c::duckdb_query_progress(self.raw.raw) }.percentage;
        (0.0..=100.0).contains(&percentage).then_some(percentage / 100.0)
    }
}

/// The name of a statement's column or parameter, which DuckDB allocates for the caller.
///
/// # Safety
/// `name` is null or was allocated by DuckDB, and is not used afterwards.
pub(super) unsafe fn take_text(name: *const std::ffi::c_char) -> String {
    // SAFETY: by the contract above; freed once, after the copy.
    unsafe {
        let copy = text(name);
        c::duckdb_free(name.cast_mut().cast());
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Database, *};

    #[test]
    fn a_fault_on_a_forgiven_connection_condemns_an_instance_that_takes_no_more_work() {
        let database = Database::open(None, &[]).unwrap();
        let connection = database.connect().unwrap();
        connection.forgive();
        assert!(connection.execute("FROM nowhere").is_err());
        assert!(!database.pulse().has_failed());
        let fault = connection.execute("SELECT 1 LIMIT (SELECT 18446744073709551615)").unwrap_err();
        assert_eq!(fault.class, Class::Internal);
        assert!(database.pulse().has_failed());
    }
}
