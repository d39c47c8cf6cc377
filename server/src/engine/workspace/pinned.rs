//! The connection of a workspace, and its transaction.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use super::names::PinnedNames;
use crate::{
    engine::{
        Error, Result,
        clock::CommitClock,
        database::Pooled,
        error::Class,
        ffi::Prepared,
        gates::Excluding,
        lake::{self, Alone, PinnedSchemas},
        open_writes::OpenWrite,
        reader::is_reusable,
        turn::{StoredTables, Turn, TurnPermit},
        writer::commit_error,
    },
    sql::Exclusion,
};

/// Tells one explicit transaction from all others of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionId(u64);

impl TransactionId {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Who has it may run statements on the connection.
pub(crate) struct PinnedConnection {
    pub(crate) connection: Pooled,
    pub(crate) transaction: Option<OpenTransaction>,
    pub(super) names: PinnedNames,
    lost: Option<Lost>,
    /// The transaction, or the text that runs, takes tables away from under their names.
    takes_away: bool,
}

/// A transaction that its client believes in, and that is no more. Until the client ends it, nothing runs: what it
/// sends next was meant to be undone together with what is lost.
struct Lost {
    id: TransactionId,
    reason: String,
}

/// An explicit transaction.
pub(crate) struct OpenTransaction {
    id: TransactionId,
    pub(super) begun: Instant,
    /// It said READ ONLY, and never takes the turn.
    pub(crate) read_only: bool,
    /// The SELECT that was planned last, and its text. Within the transaction's snapshot it stays true until
    /// the transaction itself writes.
    planned: Option<(String, Prepared)>,
    /// The tables that it has altered, dropped or replaced.
    pub(crate) excluding: Excluding,
    /// Taken by its first write, kept until its end.
    pub(crate) turn: Option<TurnPermit>,
    /// What uploads have stored in it without the turn, which they do not need.
    stored: Option<StoredTables>,
    /// One of the open writes from its first one on.
    pub(crate) write: Option<OpenWrite>,
    /// When it read first: about then its snapshot was taken.
    pub(crate) snapshot: Option<Instant>,
    /// The moment before that, by which the turn tells what was appended since.
    pub(crate) moment: Option<u64>,
    /// A statement or an upload has run in it, so that it cannot begin anew.
    pub(crate) has_run: bool,
    /// It has changed what tables there are.
    pub(crate) schemas: bool,
    /// Those of lakes in which it has.
    pub(crate) pinned: PinnedSchemas,
    /// Why it can only be rolled back, where DuckDB does not know.
    doomed: Option<&'static str>,
    /// Something failed in it: DuckDB may have aborted it, and would answer COMMIT with success all the
    /// same.
    pub(crate) troubled: bool,
}

impl OpenTransaction {
    /// Takes out the plan of a text, if it is the one that was made last.
    pub(crate) fn take_plan(&mut self, sql: &str) -> Option<Prepared> {
        self.planned.take_if(|(planned, _)| planned == sql).map(|(_, prepared)| prepared)
    }

    /// Keeps a plan for the statement's next step.
    pub(crate) fn keep_plan(&mut self, sql: &str, prepared: Prepared) {
        self.planned = is_reusable(&prepared, sql).then(|| (sql.to_owned(), prepared));
    }

    /// Says that it reads, so that it has a snapshot from now on at the latest; `moment` was before.
    pub(crate) fn reads(&mut self, moment: u64) {
        self.snapshot.get_or_insert_with(Instant::now);
        self.moment.get_or_insert(moment);
    }

    /// Keeps the turn until the transaction ends.
    pub(crate) fn takes_turn(&mut self, mut turn: TurnPermit) {
        if let Some(stored) = self.stored.take() {
            turn.writes(stored.into_written());
        }
        self.turn.get_or_insert(turn);
    }

    /// Says that an upload is about to store rows in a table.
    pub(crate) fn stores_in(&mut self, table: &str, turn: &Turn) {
        match &mut self.turn {
            Some(held) => held.writes(Exclusion::of_table(table)),
            None => self.stored.get_or_insert_with(|| turn.stored_tables()).add(table),
        }
    }

    /// Whether rows were stored since the transaction has read first in tables that it is about to take away, or in which
    /// it looks for keys.
    pub(crate) fn is_outdated(&self, tables: &Exclusion, turn: &Turn) -> bool {
        self.moment.is_some_and(|moment| turn.written_since(moment, tables))
    }

    /// Says that the transaction is about to write.
    pub(crate) fn forget_plan(&mut self) {
        self.planned = None;
    }
}

impl PinnedConnection {
    pub(super) fn new(connection: Pooled, names: PinnedNames) -> Self {
        Self { connection, transaction: None, names, lost: None, takes_away: false }
    }

    pub(crate) fn in_transaction(&self) -> bool {
        self.current().is_some()
    }

    /// The transaction that is open, or that the client still has to end.
    pub(crate) fn current(&self) -> Option<TransactionId> {
        let lost = || self.lost.as_ref().map(|lost| lost.id);
        self.transaction.as_ref().map(|open| open.id).or_else(lost)
    }

    /// True when another transaction is open than `before`.
    pub(super) fn has_begun_since(&self, before: Option<TransactionId>) -> bool {
        self.transaction.as_ref().is_some_and(|open| Some(open.id) != before)
    }

    pub(crate) fn has_turn(&self) -> bool {
        self.has_turn_since().is_some()
    }

    /// Since when, if it has.
    pub(crate) fn has_turn_since(&self) -> Option<Instant> {
        self.transaction.as_ref()?.turn.as_ref().map(TurnPermit::since)
    }

    /// Which of the open writes the transaction is, if it has written.
    pub(crate) fn writes_as(&self) -> Option<u64> {
        self.transaction.as_ref()?.write.as_ref().map(OpenWrite::number)
    }

    /// True when the open transaction has all that a write needs which excludes so much.
    pub(crate) fn may_write(&self, exclusion: &Exclusion) -> bool {
        self.transaction.as_ref().is_some_and(|open| open.turn.is_some() && open.excluding.covers(exclusion))
    }

    /// Fails when the client still has to learn that its transaction is gone, or can only be rolled back.
    pub(crate) fn check_usable(&self) -> Result<()> {
        if let Some(lost) = &self.lost {
            return Err(Error::TransactionLost(lost.reason.clone()));
        }
        match self.transaction.as_ref().and_then(|open| open.doomed) {
            Some(_) => Err(Error::Duck { class: Class::Aborted, message: ABORTED.into() }),
            None => Ok(()),
        }
    }

    pub(crate) fn begin(&mut self, read_only: bool) -> Result<TransactionId> {
        self.check_usable()?;
        if self.transaction.is_some() {
            return Err(Error::TransactionState(
                "a transaction is open already; commit it or roll it back first",
            ));
        }
        self.connection.execute(if read_only {
            "BEGIN TRANSACTION READ ONLY"
        } else {
            "BEGIN TRANSACTION"
        })?;
        let id = TransactionId::next();
        self.transaction = Some(OpenTransaction {
            id,
            begun: Instant::now(),
            read_only,
            excluding: Excluding::default(),
            turn: None,
            stored: None,
            write: None,
            snapshot: None,
            moment: None,
            has_run: false,
            schemas: false,
            pinned: PinnedSchemas::default(),
            planned: None,
            doomed: None,
            troubled: false,
        });
        Ok(id)
    }

    /// Takes note of what a text that is about to run does to tables, for the COMMIT.
    pub(super) fn note_taken(&mut self, text: &str) {
        let takes_away = self.connection.shares_a_lake() && lake::takes_away(text);
        self.takes_away = takes_away || (self.transaction.is_some() && self.takes_away);
    }

    /// Begins the transaction anew, in which nothing has run yet: with a snapshot of what was committed while it waited.
    pub(crate) fn begin_anew(&mut self) -> Result<()> {
        let Some(open) = self.transaction.as_mut().filter(|open| open.snapshot.is_some()) else {
            return Ok(());
        };
        open.forget_plan();
        (open.snapshot, open.moment) = (None, None);
        self.end("ROLLBACK")?;
        self.end("BEGIN TRANSACTION").inspect_err(|_| self.transaction = None)
    }

    pub(crate) fn commit(&mut self, clock: &CommitClock) -> Result<()> {
        let committed = self.commit_open(clock);
        self.settle_names();
        committed
    }

    fn commit_open(&mut self, clock: &CommitClock) -> Result<()> {
        if let Some(lost) = self.lost.take() {
            return Err(Error::TransactionLost(lost.reason));
        }
        let open = self.transaction.take().ok_or(NO_TRANSACTION)?;
        // Whatever failed on the connection, DuckDB would answer COMMIT with success.
        let aborted = self
            .is_aborted()
            .then_some("a statement in the transaction had failed, so it was rolled back; begin again");
        if let Some(reason) = open.doomed.or(aborted) {
            self.end("ROLLBACK")?;
            return Err(Error::TransactionLost(reason.into()));
        }
        let appending = match open.stored.map(StoredTables::announce).transpose() {
            Ok(appending) => appending,
            Err(error) => {
                self.end("ROLLBACK")?;
                return Err(Error::TransactionLost(format!("{error}, so it was rolled back; begin again")));
            }
        };
        let writing = clock.writing();
        let alone = self.takes_away.then(|| Alone::on(&self.connection).ok()).flatten();
        let committed = self.connection.execute("COMMIT");
        if open.schemas {
            clock.schema_changed();
        }
        drop((writing, appending));
        committed.map_err(|error| {
            // DuckDB has ended the transaction in most cases; where it has not, this does.
            let _ = self.connection.execute("ROLLBACK");
            commit_error(if alone.is_some() { lake::explain(error.into()) } else { error.into() })
        })?;
        Ok(())
    }

    /// Rolls back a transaction that would lose or double rows which were stored after it had read first; gives the error
    /// for its client.
    pub(crate) fn lose_outdated(&mut self) -> Error {
        const WHY: &str = "rows were stored in the table after the transaction had read first, and it would lose or double them";
        self.lose(format!("the transaction was rolled back, because {WHY}; begin again"));
        Error::conflict(format!(
            "{WHY}; the transaction was rolled back. Begin it with this write, or send its statements as one text: then what \
             others store waits for it"
        ))
    }

    /// Says that rows which another server stores in a lake until the COMMIT would be lost or doubled, as
    /// [`Self::note_taken`] reads it in a text.
    pub(crate) fn commits_alone(&mut self) {
        self.takes_away |= self.connection.shares_a_lake();
    }

    /// Commits a transaction of the server's own that has written to temporary tables only.
    pub(crate) fn commit_temporary(&mut self) -> Result<()> {
        let _open = self.transaction.take();
        self.end("COMMIT")
    }

    /// Leaves nothing but a rollback: half of something has been done.
    pub(crate) fn doom(&mut self, reason: &'static str) {
        if let Some(open) = &mut self.transaction {
            open.doomed = Some(reason);
        }
    }

    pub(crate) fn roll_back(&mut self) -> Result<()> {
        if self.lost.take().is_some() {
            return Ok(());
        }
        let _open = self.transaction.take().ok_or(NO_TRANSACTION)?;
        let rolled_back = self.end("ROLLBACK");
        self.settle_names();
        rolled_back
    }

    /// Undoes what nobody was told of: the transaction, if it was begun after `before`, else what was done in it.
    pub(super) fn undo_since(&mut self, before: Option<TransactionId>) {
        if !self.has_begun_since(before) {
            // Its client believes that it failed; a later COMMIT must not keep it.
            return self
                .doom("a statement in the transaction was cancelled, so it was rolled back; begin again");
        }
        if let Err(error) = self.roll_back() {
            tracing::warn!(%error, "a transaction could not be rolled back of which nobody was told");
        }
    }

    /// Rolls back for a reason that the client is told when it comes back.
    pub(crate) fn lose(&mut self, reason: String) {
        if let Some(open) = self.transaction.take() {
            if let Err(error) = self.end("ROLLBACK") {
                tracing::warn!(%error, "ROLLBACK failed");
            }
            self.settle_names();
            self.lost = Some(Lost { id: open.id, reason });
        }
    }

    /// Whether DuckDB refuses everything but ROLLBACK.
    fn is_aborted(&self) -> bool {
        self.connection.execute("SELECT 1").is_err()
    }

    fn end(&self, how: &str) -> Result<()> {
        self.connection.execute(how).map(|_| ()).map_err(Error::from)
    }
}

/// As DuckDB says it of those that it has aborted itself.
const ABORTED: &str = "Current transaction is aborted (please ROLLBACK)";

const NO_TRANSACTION: Error = Error::TransactionState("no transaction is open");
