//! The sessions as the engine shows them, and ends them for an operator.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use super::{PreparedStatements, Sessions};
use crate::engine::{SessionCard, SessionDirectory};

/// Keeps nothing open: what it knows holds the engine, which holds this.
pub(crate) struct Directory {
    sessions: Weak<Sessions>,
    prepared: Weak<PreparedStatements>,
}

impl Directory {
    pub(crate) fn of(sessions: &Arc<Sessions>, prepared: &Arc<PreparedStatements>) -> Self {
        Self { sessions: Arc::downgrade(sessions), prepared: Arc::downgrade(prepared) }
    }
}

impl SessionDirectory for Directory {
    fn list(&self) -> Vec<SessionCard> {
        let Some(sessions) = self.sessions.upgrade() else { return Vec::new() };
        let prepared = self.prepared.upgrade().map(|all| all.count_by_session()).unwrap_or_default();
        sessions.cards(&prepared)
    }

    fn close(&self, number: u64) -> bool {
        self.sessions.upgrade().is_some_and(|sessions| sessions.empty(number))
    }
}

/// How many of something each session has, by its id.
pub(super) type CountBySession = HashMap<Vec<u8>, usize>;
