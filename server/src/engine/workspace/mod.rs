//! Connections that keep state between statements: a session's own, and those of explicit transactions.
//!
//! Statements run on a workspace one at a time. A result that is still being read when the next statement
//! comes makes room for it: its remaining rows are put aside (see [`super::spool`]), because a second
//! statement on a DuckDB connection closes the stream of the first.

mod ending;
mod names;
mod pinned;
mod run;
mod untold;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

use super::{
    Engine, Error, Names, Result, SessionNames,
    activity::{self, State},
    batch_stream::{Cancel, WeakCancel},
    wanted::{Wanted, Watch},
};
use names::PinnedNames;
pub(crate) use pinned::PinnedConnection;
pub use pinned::TransactionId;
pub(crate) use untold::Untold;

/// Where a statement runs.
#[derive(Clone)]
pub enum Place {
    /// On any connection, in a transaction of its own, with these names; `None` is the default.
    Shared(Option<Names>),
    /// On a connection that keeps state; of a statement that belongs to a transaction in that one, and in no other.
    Own(Arc<Workspace>, Option<TransactionId>),
}

/// How long an open transaction may rest before it is rolled back.
#[derive(Debug, Clone, Copy)]
pub struct IdleLimits {
    /// While it has the turn and somebody else waits for it.
    pub while_wanted: Duration,
    /// In any case.
    pub at_all: Duration,
    /// How long one may have the turn in all, busy or not, while somebody else waits for it.
    pub turn: Duration,
}

/// One connection and the transaction that may be open on it.
pub struct Workspace {
    pinned: Arc<tokio::sync::Mutex<PinnedConnection>>,
    wanted: Wanted,
    standing: Mutex<Standing>,
    /// What names mean there, as far as is known between statements.
    names: Mutex<Names>,
    running: Mutex<Option<WeakCancel>>,
    /// Of the instance under the connection.
    failure: CancellationToken,
}

/// What can be seen without taking the connection.
#[derive(Debug, Clone, Copy)]
struct Standing {
    used: Instant,
    /// The transaction that the client believes in,
    transaction: Option<TransactionId>,
    /// and it is open indeed.
    open: bool,
    /// When it began,
    begun: Option<Instant>,
    /// and since when it has the turn.
    turn: Option<Instant>,
    /// It has written, or is about to.
    writes: bool,
    /// Since when it has a snapshot.
    snapshot: Option<Instant>,
}

impl Workspace {
    fn new(pinned: PinnedConnection) -> Self {
        Self {
            failure: pinned.connection.pulse().failed().clone(),
            names: Mutex::new(pinned.names().clone()),
            pinned: Arc::new(tokio::sync::Mutex::new(pinned)),
            wanted: Wanted::default(),
            standing: Mutex::new(Standing {
                used: Instant::now(),
                transaction: None,
                open: false,
                begun: None,
                turn: None,
                writes: false,
                snapshot: None,
            }),
            running: Mutex::default(),
        }
    }

    /// Waits until no other statement runs here, and asks an open result to make room.
    pub(crate) async fn take(self: &Arc<Self>, wait: Duration) -> Result<ConnectionGuard> {
        let _waiting = (self.wanted.wait(), activity::enter(State::WaitsForSession));
        let pinned = tokio::time::timeout(wait, Arc::clone(&self.pinned).lock_owned())
            .await
            .map_err(|_| Error::SessionBusy(wait))?;
        Ok(ConnectionGuard { pinned, workspace: Arc::clone(self) })
    }

    /// The same for a statement of a transaction, which may have ended while the statement waited, and another one begun.
    async fn take_in(
        self: &Arc<Self>,
        transaction: Option<TransactionId>,
        wait: Duration,
    ) -> Result<ConnectionGuard> {
        let mut guard = self.take(wait).await?;
        if transaction.is_some() && guard.pinned().current() != transaction {
            return Err(Error::TransactionState(
                "the transaction ended while the statement waited, which has not run",
            ));
        }
        Ok(guard)
    }

    /// True while an explicit transaction is open, as far as is known between statements.
    pub fn in_transaction(&self) -> bool {
        self.transaction().is_some()
    }

    /// The explicit transaction that is open, or that its client still has to end, as far as is known between statements.
    pub fn transaction(&self) -> Option<TransactionId> {
        self.standing.lock().transaction
    }

    /// What unqualified names mean here, as far as is known between statements.
    pub fn names(&self) -> Names {
        self.names.lock().clone()
    }

    /// True while a transaction is open indeed: it has not been rolled back meanwhile.
    pub fn is_open(&self) -> bool {
        self.standing.lock().open
    }

    /// When the transaction began that is open, as far as is known between statements.
    pub(crate) fn open_since(&self) -> Option<Instant> {
        self.standing.lock().begun
    }

    /// True when the instance under it has failed: what lived here is gone.
    pub fn is_lost(&self) -> bool {
        self.failure.is_cancelled()
    }

    /// Stops what runs here; for a client that has gone.
    pub fn interrupt(&self) {
        if let Some(cancel) = self.running() {
            cancel.stop();
        }
    }

    /// True while a statement runs here, or its rows are on their way.
    pub(crate) fn is_running(&self) -> bool {
        self.running().is_some()
    }

    /// What stops the statement that runs here.
    fn running(&self) -> Option<Cancel> {
        self.running.lock().as_ref().and_then(WeakCancel::upgrade)
    }

    /// The reason to roll back, when the open transaction has rested for too long.
    fn overdue(&self, limits: IdleLimits, turn_is_wanted: bool) -> Option<Duration> {
        let Standing { used, open, turn, .. } = *self.standing.lock();
        let limit = if turn.is_some() && turn_is_wanted {
            limits.while_wanted.min(limits.at_all)
        } else {
            limits.at_all
        };
        (open && used.elapsed() >= limit).then_some(limit)
    }
}

/// The connection of a workspace, taken by one statement.
pub(crate) struct ConnectionGuard {
    pinned: OwnedMutexGuard<PinnedConnection>,
    workspace: Arc<Workspace>,
}

impl ConnectionGuard {
    pub(crate) fn pinned(&mut self) -> &mut PinnedConnection {
        &mut self.pinned
    }

    /// Tells when somebody else wants the connection.
    pub(crate) fn watch(&self) -> Watch {
        self.workspace.wanted.watch()
    }

    /// Lets [`Workspace::interrupt`] stop what runs.
    pub(crate) fn running(&self, cancel: &Cancel) {
        *self.workspace.running.lock() = Some(cancel.downgrade());
    }
}

impl ConnectionGuard {
    /// Makes known where the transaction stands. Before a client is answered, because it may vanish at once.
    pub(crate) fn publish(&self) {
        *self.workspace.standing.lock() = Standing {
            used: Instant::now(),
            transaction: self.pinned.current(),
            open: self.pinned.transaction.is_some(),
            begun: self.pinned.transaction.as_ref().map(|open| open.begun),
            turn: self.pinned.has_turn_since(),
            writes: self.pinned.writes_as().is_some(),
            snapshot: self.pinned.transaction.as_ref().and_then(|open| open.snapshot),
        };
        self.workspace.names.lock().clone_from(self.pinned.names());
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.publish();
    }
}

impl Engine {
    /// A connection that keeps state, of the session whose names those are.
    ///
    /// # Errors
    /// DuckDB's.
    pub async fn workspace(&self, names: SessionNames) -> Result<Arc<Workspace>> {
        let database = Arc::clone(&self.shared.database);
        self.blocking(move || {
            let mut connection = database.private_connection()?;
            let here = names.get();
            connection.use_names(names.changed().as_ref())?;
            let names = PinnedNames::new(names, here);
            Ok(Arc::new(Workspace::new(PinnedConnection::new(connection, names))))
        })
        .await
    }

    /// Opens an explicit transaction. It reads nothing yet, so its snapshot is that of its first statement. Nobody sees it
    /// before it is told, and one that is not told is undone.
    ///
    /// # Errors
    /// [`Error::TransactionState`] when one is open here already.
    pub(crate) async fn begin(&self, workspace: &Arc<Workspace>) -> Result<(TransactionId, Untold)> {
        let mut guard = workspace.take(self.pinned_wait()).await?;
        self.blocking(move || {
            guard.pinned().follow_session()?;
            let before = guard.pinned().current();
            // What the one before took away says nothing of this one, which has no text that would say so.
            guard.pinned().note_taken("");
            let id = guard.pinned().begin(false)?;
            Ok((id, Untold::new(guard, before)))
        })
        .await
    }

    /// Ends the explicit transaction: commits it, or undoes it.
    ///
    /// # Errors
    /// [`Error::TransactionLost`] when it had been rolled back already; whatever COMMIT says;
    /// [`Error::TransactionState`] when none is open.
    pub async fn end(&self, workspace: &Arc<Workspace>, commit: bool) -> Result<()> {
        let mut guard = workspace.take(self.pinned_wait()).await?;
        let clock = Arc::clone(&self.shared.clock);
        self.blocking(move || if commit { guard.pinned().commit(&clock) } else { guard.pinned().roll_back() })
            .await
    }

    /// Rolls back a transaction that its client has not ended, where it is open still; the client is told when it comes back.
    ///
    /// # Errors
    /// [`Error::SessionBusy`].
    pub async fn lose(&self, workspace: &Arc<Workspace>, id: TransactionId, why: &'static str) -> Result<()> {
        let mut guard = workspace.take(self.pinned_wait()).await?;
        self.blocking(move || {
            if guard.pinned().current() == Some(id) {
                guard.pinned().lose(format!("the transaction was rolled back, because {why}; begin again"));
            }
            Ok(())
        })
        .await
    }

    /// Makes unqualified names on a workspace mean `names`, and in its session.
    ///
    /// # Errors
    /// DuckDB's.
    pub async fn use_names(&self, workspace: &Arc<Workspace>, names: Names) -> Result<()> {
        let mut guard = workspace.take(self.pinned_wait()).await?;
        let moment = self.shared.turn.moment();
        self.blocking(move || {
            let pinned = guard.pinned();
            pinned.check_usable()?;
            // It looks the schema up.
            if let Some(open) = &mut pinned.transaction {
                open.reads(moment);
            }
            pinned.set_names(names)
        })
        .await
    }

    /// Rolls back the transaction of a workspace if it has rested for too long, or its snapshot is too old.
    pub async fn roll_back_if_idle(&self, workspace: &Arc<Workspace>, limits: IdleLimits) {
        self.roll_back_if_old(workspace).await;
        self.take_back_turn(workspace, limits.turn).await;
        let Some(limit) = workspace.overdue(limits, self.shared.turn.is_wanted()) else { return };
        // A statement that has just begun is a sign of life.
        let Ok(pinned) = Arc::clone(&workspace.pinned).try_lock_owned() else { return };
        let mut guard = ConnectionGuard { pinned, workspace: Arc::clone(workspace) };
        let rolled_back = self.blocking(move || {
            guard.pinned().lose(format!(
                "the transaction did nothing for {}, so it was rolled back; begin again",
                humantime::format_duration(limit)
            ));
            Ok(())
        });
        if let Err(error) = rolled_back.await {
            tracing::warn!(%error, "an idle transaction could not be rolled back");
        }
    }

    /// How long a statement waits for the one before it on the same connection.
    pub(super) fn pinned_wait(&self) -> Duration {
        self.shared.options.query_timeout.unwrap_or(Duration::MAX / 4)
    }
}
