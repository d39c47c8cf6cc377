//! Whose turn it is to write, besides the writer: DML, DDL and units that create or replace a table go one
//! at a time, first come first served, so that they never conflict with each other.

use std::{
    collections::BTreeSet,
    fmt, mem,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{
    Error, Result,
    activity::{self, RunningStatement, State},
    catalog::FullName,
    gates::{Appending, Excluding, Gates},
    permit,
    wanted::Wanted,
};
use crate::sql::Exclusion;

/// The fair queue of writers, and the gates between appends and statements that exclude them.
pub(crate) struct Turn {
    turn: Arc<Semaphore>,
    gates: Gates,
    wanted: Arc<Wanted>,
    wait: Duration,
    holder: TurnHolder,
}

/// Who has the turn, for whoever looks. Clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct TurnHolder(Arc<Mutex<Option<Held>>>);

/// That somebody has it.
#[derive(Clone)]
pub(crate) struct Held {
    pub(crate) since: Instant,
    /// What it was taken for; a transaction keeps it when that has ended. `None` is what no client waits for, such as a
    /// pipeline.
    by: Option<Arc<RunningStatement>>,
}

/// The turn, until dropped.
pub(crate) struct TurnPermit {
    holder: TurnHolder,
    gates: Gates,
    /// What may have been written in it by then.
    written: Exclusion,
    since: Instant,
    _permit: OwnedSemaphorePermit,
}

impl TurnPermit {
    /// Since when it has been taken.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// Says that something is about to be written in the turn, but for appends that are announced.
    pub(crate) fn writes(&mut self, what: Exclusion) {
        self.written = mem::replace(&mut self.written, Exclusion::Everything).and(what);
    }
}

/// Tables in which a transaction has stored rows without the turn. Its COMMIT is when they are appended.
pub(crate) struct StoredTables {
    gates: Gates,
    wanted: Arc<Wanted>,
    wait: Duration,
    tables: BTreeSet<String>,
}

impl StoredTables {
    pub(crate) fn add(&mut self, table: &str) {
        self.tables.insert(table.to_lowercase());
    }

    /// The same, for who has the turn by now.
    pub(crate) fn into_written(self) -> Exclusion {
        Exclusion::Tables(self.tables)
    }

    /// Announces them, within a bound, on a thread that may block.
    pub(crate) fn announce(self) -> Result<Vec<Appending>> {
        let Self { gates, wanted, wait, tables } = self;
        let _waiting = wanted.wait();
        let entered = async { timeout(wait, gates.append_all(&tables)).await };
        Handle::current().block_on(entered).map_err(|_| Error::TableChanging {
            table: tables.into_iter().collect::<Vec<_>>().join(", "),
            waited: wait,
        })
    }
}

impl Drop for TurnPermit {
    /// Before the next one has it.
    fn drop(&mut self) {
        self.gates.note_written(&self.written);
        *self.holder.0.lock() = None;
    }
}

impl TurnHolder {
    /// Who has it just now, if anybody.
    pub(crate) fn held(&self) -> Option<Held> {
        self.0.lock().clone()
    }
}

impl Held {
    /// The session that has it, if one has.
    pub(crate) fn session(&self) -> Option<u64> {
        self.by.as_ref()?.caller().session
    }
}

impl fmt::Display for Held {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(statement) = &self.by else { return formatter.write_str("an upload or a job") };
        match statement.caller().session {
            Some(session) => write!(formatter, "session {session} (by its statement {}", statement.id())?,
            None => write!(formatter, "statement {} (over HTTP", statement.id())?,
        }
        match &statement.caller().user {
            Some(user) => write!(formatter, ", user {user})"),
            None => formatter.write_str(")"),
        }
    }
}

impl Turn {
    pub(crate) fn new(wait: Duration) -> Self {
        Self::shown_by(TurnHolder::default(), wait)
    }

    /// One of which `holder` tells who has it.
    pub(crate) fn shown_by(holder: TurnHolder, wait: Duration) -> Self {
        Self {
            turn: Arc::new(Semaphore::new(1)),
            gates: Gates::default(),
            wanted: Arc::default(),
            wait,
            holder,
        }
    }

    /// Waits for the turn, within the bound.
    pub(crate) async fn take(&self) -> Result<TurnPermit> {
        self.take_within(self.wait).await
    }

    /// Waits for the turn, within a bound of the caller's.
    pub(crate) async fn take_within(&self, wait: Duration) -> Result<TurnPermit> {
        let _waiting = (self.wanted.wait(), activity::enter(State::WaitsForTurn));
        let permit = permit::take(&self.turn, 1, wait, || self.busy(wait)).await?;
        let since = Instant::now();
        *self.holder.0.lock() = Some(Held { since, by: activity::current() });
        let (holder, gates) = (self.holder.clone(), self.gates.clone());
        Ok(TurnPermit { holder, gates, written: Exclusion::nothing(), since, _permit: permit })
    }

    /// Why somebody who has waited for so long has not got it.
    fn busy(&self, waited: Duration) -> Error {
        let held = self.holder.held();
        // In whole seconds.
        let since = held.as_ref().map_or(0, |held| held.since.elapsed().as_secs());
        let holder = held.map_or_else(|| "another write".into(), |held| held.to_string());
        Error::WriteBusy { waited, held: Duration::from_secs(since), holder }
    }

    /// True while somebody waits for it, or for a table that its holder keeps to itself.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.by_somebody()
    }

    /// The present moment, for [`Turn::written_since`].
    pub(crate) fn moment(&self) -> u64 {
        self.gates.moment()
    }

    /// Whether a write has ended since a moment to any of these tables.
    pub(crate) fn written_since(&self, moment: u64, what: &Exclusion) -> bool {
        self.gates.written_since(moment, what)
    }

    /// What a transaction without the turn has stored rows in, none as yet.
    pub(crate) fn stored_tables(&self) -> StoredTables {
        let (gates, wanted) = (self.gates.clone(), Arc::clone(&self.wanted));
        StoredTables { gates, wanted, wait: self.wait, tables: BTreeSet::new() }
    }

    /// Announces an append; waits within a bound while a statement or transaction excludes appends to its
    /// table.
    pub(crate) async fn appending_within(&self, table: &FullName, wait: Duration) -> Result<Appending> {
        if let Some(appending) = self.gates.try_append(&table.table) {
            return Ok(appending);
        }
        let _waiting = (self.wanted.wait(), activity::enter(State::WaitsForTable));
        timeout(wait, self.gates.append(&table.table))
            .await
            .map_err(|_| Error::TableChanging { table: table.to_string(), waited: wait })
    }

    /// Waits until no append is under way to what is excluded, within the bound, and keeps new ones out. What
    /// `held` excludes already is not in the answer. The caller has the turn.
    pub(crate) async fn exclude(&self, what: &Exclusion, held: &Excluding) -> Result<Excluding> {
        self.exclude_within(what, held, self.wait).await
    }

    /// As [`Turn::exclude`], within a bound of the caller's.
    pub(crate) async fn exclude_within(
        &self,
        what: &Exclusion,
        held: &Excluding,
        wait: Duration,
    ) -> Result<Excluding> {
        let _waiting = activity::enter(State::WaitsForTable);
        timeout(wait, self.gates.exclude(what, held)).await.map_err(|_| Error::TableBusy(wait))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::engine::activity::{Activity, Caller};

    fn table(name: &str) -> FullName {
        FullName { catalog: "c".into(), schema: "s".into(), table: name.into() }
    }

    #[tokio::test]
    async fn who_waits_in_vain_learns_for_how_long_the_turn_has_been_taken() {
        let turn = Turn::new(Duration::ZERO);
        let permit = turn.take().await.unwrap();
        let since = Instant::now().checked_sub(Duration::from_millis(7_500)).unwrap();
        *turn.holder.0.lock() = Some(Held { since, by: None });
        let error = turn.take().await.err().unwrap();
        assert!(error.to_string().contains("an upload or a job has had the turn to write for 7s"), "{error}");
        drop(permit);
        assert!(turn.holder.held().is_none());
        turn.take().await.unwrap();
    }

    #[tokio::test]
    async fn who_waits_in_vain_learns_who_has_the_turn() {
        let turn = Turn::new(Duration::ZERO);
        let activity = Arc::<Activity>::default();
        for (session, user, who) in [
            (Some(7), None, "session 7 (by its statement 1)"),
            (Some(7), Some("ana"), "session 7 (by its statement 2, user ana)"),
            (None, Some("ana"), "statement 3 (over HTTP, user ana)"),
        ] {
            let caller = Caller { session, user: user.map(Into::into), ..Caller::default() };
            let statement = activity.begin(caller, "write", None, State::Running);
            let permit = statement.run(turn.take()).await.unwrap();
            let told = turn.take().await.err().unwrap().to_string();
            assert!(
                told.starts_with(&format!("{who} has had the turn to write for less than a second, ")),
                "{told}"
            );
            assert_eq!(turn.holder.held().unwrap().session(), session);
            drop(permit);
        }
    }

    #[tokio::test]
    async fn waiting_at_a_gate_has_a_bound() {
        let turn = Turn::new(Duration::ZERO);
        let appending = turn.appending_within(&table("a"), Duration::ZERO).await.unwrap();
        let (alter, nothing) = (Exclusion::of_table("a"), Excluding::default());
        assert!(matches!(turn.exclude(&alter, &nothing).await, Err(Error::TableBusy(_))));
        drop(appending);

        let _altering = turn.exclude(&alter, &nothing).await.unwrap();
        let refused = turn.appending_within(&table("A"), Duration::ZERO).await;
        let Err(error @ Error::TableChanging { .. }) = refused else { panic!("not refused") };
        assert!(error.to_string().contains("table \"c\".\"s\".\"A\" was being changed"), "{error}");
        assert!(turn.appending_within(&table("b"), Duration::ZERO).await.is_ok());
    }

    #[tokio::test]
    async fn an_append_that_waits_makes_the_turn_wanted() {
        let turn = Turn::new(Duration::ZERO);
        let altering = turn.exclude(&Exclusion::of_table("a"), &Excluding::default()).await.unwrap();
        let (name, patience) = (table("a"), Duration::from_secs(3600));
        let mut waiting = Box::pin(turn.appending_within(&name, patience));
        assert!((&mut waiting).now_or_never().is_none());
        assert!(turn.is_wanted());
        drop(altering);
        assert!((&mut waiting).await.is_ok());
        drop(waiting);
        assert!(!turn.is_wanted());
    }
}
