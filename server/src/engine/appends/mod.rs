//! How long it may take to append rows to a table.
//!
//! A table may compute anything for a row that it takes: DEFAULT, CHECK, a generated column, an index over an expression.
//! While the one writer does that nobody else's rows go in. So all of an append that runs before COMMIT has a limit, at which
//! [`watch`] interrupts it: its transaction is rolled back, and its table is [`slow`] for a while. A COMMIT is never
//! interrupted, because nobody could tell what became of it.

mod slow;
mod watch;

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use self::{
    slow::{Allowed, How, SlowTables, TRIES},
    watch::Watch,
};
use super::{
    Class, Engine, Error, Result,
    ffi::Connection,
    writer::{Unit, groups_of},
};

/// What may have to read a whole table, or to wait for another machine, has the limit so many times.
const PATIENT: u32 = 6;
/// When the server waits for nobody any longer, what goes on may take so long to end by itself.
const LAST_MOMENT: Duration = Duration::from_millis(500);
/// How often it is looked whether it does.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The appends of a database, wherever they happen.
pub(crate) struct Appends {
    /// For as much as a group of the writer; `None` is for ever.
    limit: Option<Duration>,
    watch: Watch,
    slow: Mutex<SlowTables>,
}

/// How much is appended in one transaction, and what for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
    /// Rows are matched with all that are there.
    pub(crate) matched: bool,
    /// The table is on another machine.
    pub(crate) remote: bool,
}

impl Load {
    /// Of the writer's units.
    pub(crate) fn of_group(units: &[Unit]) -> Self {
        let (rows, bytes) =
            units.iter().fold((0, 0), |(rows, bytes), unit| (rows + unit.rows, bytes + unit.bytes));
        Self { rows, bytes, matched: false, remote: false }
    }
}

/// One transaction that appends, to one table after the other.
pub(crate) struct Timed<'a> {
    appends: &'a Appends,
    connection: &'a Connection,
    began: Instant,
    limit: Option<Duration>,
    matched: bool,
    /// The table to which it has taken longest so far.
    longest: Option<(Duration, String)>,
}

/// Why an append has failed.
enum Failed {
    /// It was interrupted at its limit.
    Late,
    Otherwise(Error),
}

impl Appends {
    pub(crate) fn new(limit: Option<Duration>) -> Result<Self> {
        Ok(Self { limit, watch: Watch::start()?, slow: Mutex::default() })
    }

    /// Begins to append so much in the transaction of a connection, or in one that is about to be.
    pub(crate) fn begin<'a>(&'a self, connection: &'a Connection, load: Load) -> Timed<'a> {
        let Load { rows, bytes, matched, remote } = load;
        let times = groups_of(rows, bytes).saturating_mul(if matched || remote { PATIENT } else { 1 });
        let limit = self.limit.map(|limit| limit.saturating_mul(times));
        Timed { appends: self, connection, began: Instant::now(), limit, matched, longest: None }
    }

    /// Whether it has taken too long of late to add rows to a table, so that its units are to be committed alone.
    pub(crate) fn is_slow(&self, table: impl ToString) -> bool {
        let (mut slow, now) = (self.slow.lock(), Instant::now());
        !slow.is_empty(now) && slow.has(&(table.to_string(), false), now)
    }

    /// What `work` gives, which is interrupted at the deadline.
    fn by<T, E: Into<Error>>(
        &self,
        connection: &Connection,
        deadline: Option<Instant>,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, Failed> {
        if self.watch.has_ended() {
            return Err(Failed::Otherwise(Error::Stopping));
        }
        let watched = self.watch.add(connection.interrupt(), deadline);
        let outcome = work().map_err(Into::into);
        let was_interrupted = watched.was_interrupted();
        outcome.map_err(|error| match was_interrupted && tells_of_interrupt(&error) {
            true if self.watch.has_ended() => Failed::Otherwise(Error::Stopping),
            true => Failed::Late,
            false => Failed::Otherwise(error),
        })
    }
}

/// Whether an error comes of an interrupt: DuckDB wraps that of a CHECK as a violation, and an appender forgets its kind.
fn tells_of_interrupt(error: &Error) -> bool {
    matches!(error, Error::Duck { class, message } if *class == Class::Interrupted || message.contains("Interrupted!"))
}

impl Timed<'_> {
    /// What `work` gives, which brings rows into a table. Where those before it took longer, one of them is to blame for what
    /// is not in time.
    ///
    /// # Errors
    /// [`Error::IngestTimeout`], of the table that is to blame; [`Error::TableSlow`]; [`Error::Stopping`]; those of `work`.
    pub(crate) fn append_to<T, E: Into<Error>>(
        &mut self,
        table: &str,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T> {
        let (now, how) = (Instant::now(), (table.to_owned(), self.matched));
        let allowed = self.appends.slow.lock().allowed(&how, now);
        let limit = match allowed {
            Allowed::Whole => self.limit,
            Allowed::Part => self.limit.map(|limit| limit / TRIES),
            Allowed::Nothing(time) => {
                return Err(Error::TableSlow { table: table.to_owned(), seconds: time.as_secs() + 1 });
            }
        };
        let outcome = self.appends.by(self.connection, self.deadline(limit), work);
        let took = now.elapsed();
        if self.longest.as_ref().is_none_or(|(longest, _)| took > *longest) {
            self.longest = Some((took, table.to_owned()));
        }
        outcome.map_err(|failed| match failed {
            Failed::Late => self.blame(limit.unwrap_or_default()),
            Failed::Otherwise(error) => error,
        })
    }

    /// The same on a connection whose work holds up no other upload, so that its table is not slow for it.
    pub(crate) fn beside<T, E: Into<Error>>(
        &self,
        table: &str,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T> {
        let done = self.appends.by(self.connection, self.deadline(self.limit), work);
        done.map_err(|failed| match failed {
            Failed::Late => {
                Error::IngestTimeout { table: table.to_owned(), limit: self.limit.unwrap_or_default() }
            }
            Failed::Otherwise(error) => error,
        })
    }

    fn deadline(&self, limit: Option<Duration>) -> Option<Instant> {
        limit.and_then(|limit| self.began.checked_add(limit))
    }

    /// Has the table to which it took longest be slow from now on.
    fn blame(&self, limit: Duration) -> Error {
        let table = self.longest.as_ref().map(|(_, table)| table.clone()).unwrap_or_default();
        tracing::warn!(
            table,
            ?limit,
            "it took too long to append to a table, and nothing of that was written"
        );
        let how: How = (table, self.matched);
        self.appends.slow.lock().add(&how, Instant::now());
        Error::IngestTimeout { table: how.0, limit }
    }
}

impl Engine {
    /// Stops in a moment what still appends then, because the server does not wait for it any longer: nothing of it is
    /// written, and its clients are told so. What is being committed goes on.
    pub fn cut_off_appends(&self) {
        self.shared.database.appends.watch.end_at(Instant::now() + LAST_MOMENT);
    }

    /// Resolves where an append goes on for long after it was cut off: nobody knows when it will end.
    pub async fn an_append_does_not_end(&self) {
        while !self.shared.database.appends.watch.has_deaf() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}
