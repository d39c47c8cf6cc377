//! What goes on just now: the statements that run or wait and the sessions that there are, for whoever looks, and may end
//! them.
//!
//! A statement is known here from its first moment to its last. The task that works for it carries it along, as it does
//! its span, so that every place where it may have to wait can say so.

mod end;
mod running;
mod sessions;
mod state;
mod statements;

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use super::turn::TurnHolder;
use crate::sql;
pub(crate) use running::{Caller, NOT_SHOWN, RunningStatement, begins, current};
pub(crate) use sessions::{SessionCard, SessionDirectory, sessions, sessions_schema};
pub(crate) use state::{State, StateOf, enter};
pub(crate) use statements::{statements, statements_schema};

/// The table function that tells of statements.
pub(crate) const STATEMENTS_LISTING: &str = "merganser_statements";
/// The table function that tells of sessions.
pub(crate) const SESSIONS_LISTING: &str = "merganser_sessions";

/// Statements that mention these look at what goes on.
const LISTINGS: [&str; 2] = [STATEMENTS_LISTING, SESSIONS_LISTING];
/// So many of them may run, and as many may be planned, beside all others: it has to be possible to look just when all
/// other places are taken.
pub(crate) const PLACES_TO_LOOK: usize = 2;

/// Statements begin and end on all threads: each takes the lock of its shard alone.
const SHARDS: usize = 16;

/// Whether a statement looks at what goes on.
pub(crate) fn looks(sql: &str) -> bool {
    sql::mentions_any(sql, &LISTINGS)
}

/// All that goes on.
#[derive(Default)]
pub(crate) struct Activity {
    last: AtomicU64,
    shards: [Mutex<HashMap<u64, Arc<RunningStatement>>>; SHARDS],
    /// Whoever knows the sessions, of which the engine knows nothing.
    directory: OnceLock<Box<dyn SessionDirectory>>,
    /// Who has the turn to write.
    pub(crate) turn: TurnHolder,
}

/// A statement for as long as it runs or waits; dropped, it is gone from here.
pub(crate) struct Registered {
    activity: Arc<Activity>,
    statement: Arc<RunningStatement>,
}

impl Activity {
    /// A statement begins. Its id is its own until the server ends.
    pub(crate) fn begin(
        self: &Arc<Self>,
        caller: Caller,
        kind: &'static str,
        text: Option<Box<str>>,
        state: State,
    ) -> Registered {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let statement = Arc::new(RunningStatement::new(id, caller, kind, text, state));
        self.shard(id).lock().insert(id, Arc::clone(&statement));
        Registered { activity: Arc::clone(self), statement }
    }

    /// Says who knows the sessions. The first one stays.
    pub(crate) fn ask_for_sessions(&self, directory: impl SessionDirectory + 'static) {
        let _ = self.directory.set(Box::new(directory));
    }

    fn shard(&self, id: u64) -> &Mutex<HashMap<u64, Arc<RunningStatement>>> {
        &self.shards[id as usize % SHARDS]
    }

    fn find(&self, id: u64) -> Option<Arc<RunningStatement>> {
        self.shard(id).lock().get(&id).cloned()
    }

    /// All statements, by their ids.
    fn all(&self) -> Vec<Arc<RunningStatement>> {
        let mut all: Vec<_> =
            self.shards.iter().flat_map(|shard| shard.lock().values().cloned().collect::<Vec<_>>()).collect();
        all.sort_by_key(|statement| statement.id);
        all
    }
}

impl std::ops::Deref for Registered {
    type Target = Arc<RunningStatement>;

    fn deref(&self) -> &Self::Target {
        &self.statement
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let id = self.statement.id;
        self.activity.shard(id).lock().remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_there_from_its_beginning_to_its_end_and_no_other_gets_its_id() {
        let activity = Arc::<Activity>::default();
        let begin = || activity.begin(Caller::default(), "read", None, State::Running);
        let ids = |all: &Activity| all.all().iter().map(|one| one.id).collect::<Vec<_>>();
        let (first, second) = (begin(), begin());
        assert_eq!(ids(&activity), [1, 2]);
        drop(first);
        let third = begin();
        assert_eq!(ids(&activity), [2, 3]);
        assert!(activity.find(1).is_none() && activity.find(3).is_some());
        drop((second, third));
        assert!(activity.all().is_empty());
    }
}
