//! The sessions by what their clients are recognised by: those that live, and those that rest.
//!
//! A session that nobody has used for long gives back its connections and its place. Its client may be there all the
//! same, and go on as if nothing had happened: so the session rests, with what its names mean and what it has lost, until
//! that comes back.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Session, SessionError,
    sessions::{ConnectionId, SessionKey},
};
use crate::engine::Workspace;

/// How many sessions there may be, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Those that live, and as many may rest beside them.
    pub(super) count: usize,
    /// Those that live rest from then on,
    pub(super) idle: Duration,
    /// and end after so long more, unless a connection of their client is open.
    pub(super) rest: Duration,
}

#[derive(Default)]
pub(super) struct Known {
    by_key: HashMap<SessionKey, Arc<Session>>,
    living: HashMap<Vec<u8>, Entry>,
    resting: HashMap<Vec<u8>, Entry>,
}

pub(super) struct Entry {
    pub(super) session: Arc<Session>,
    /// All by which it is recognised.
    keys: Vec<SessionKey>,
    pub(super) used: Instant,
    /// The connections that have used it and are open.
    connections: HashSet<ConnectionId>,
}

/// What a look at all sessions has found.
pub(super) struct Swept {
    /// Those that are over.
    pub(super) ended: Vec<Arc<Session>>,
    /// What those had that rest now. Closing it takes its time.
    pub(super) left: Vec<Arc<Workspace>>,
    /// Those that may have transactions.
    pub(super) living: Vec<Arc<Session>>,
}

impl Known {
    /// Those that live.
    pub(super) fn living(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.living.values()
    }

    /// The session of a key, which is used now.
    ///
    /// # Errors
    /// [`SessionError::TooManySessions`] where it has to find a place again.
    pub(super) fn find(
        &mut self,
        key: &SessionKey,
        connection: Option<ConnectionId>,
        limits: Limits,
    ) -> Result<Option<Arc<Session>>, SessionError> {
        let Some(session) = self.by_key.get(key).cloned() else { return Ok(None) };
        self.use_now(session.id(), connection, limits)?;
        Ok(Some(session))
    }

    /// The session of an id, which is a key of its own from now on.
    ///
    /// # Errors
    /// As [`Known::find`].
    pub(super) fn find_by_cookie(
        &mut self,
        id: &[u8],
        may: impl Fn(&Session) -> bool,
        connection: Option<ConnectionId>,
        limits: Limits,
    ) -> Result<Option<Arc<Session>>, SessionError> {
        let Some(session) = self.by_id(id).filter(|session| may(session)).cloned() else { return Ok(None) };
        self.use_now(id, connection, limits)?;
        let key = SessionKey::Cookie(id.to_vec());
        if let Some(entry) = self.living.get_mut(id)
            && self.by_key.insert(key.clone(), Arc::clone(&session)).is_none()
        {
            entry.keys.push(key);
        }
        Ok(Some(session))
    }

    /// The session of an id, which may rest.
    pub(super) fn by_id(&self, id: &[u8]) -> Option<&Arc<Session>> {
        self.living.get(id).or_else(|| self.resting.get(id)).map(|entry| &entry.session)
    }

    /// # Errors
    /// [`SessionError::TooManySessions`].
    pub(super) fn has_room(&self, limits: Limits) -> Result<(), SessionError> {
        match self.living.len() < limits.count {
            true => Ok(()),
            false => Err(SessionError::TooManySessions(limits.count)),
        }
    }

    /// A new session.
    pub(super) fn insert(
        &mut self,
        key: SessionKey,
        session: &Arc<Session>,
        connection: Option<ConnectionId>,
    ) {
        let entry = Entry {
            session: Arc::clone(session),
            keys: vec![key.clone()],
            used: Instant::now(),
            connections: connection.into_iter().collect(),
        };
        self.by_key.insert(key, Arc::clone(session));
        self.living.insert(session.id().to_vec(), entry);
    }

    /// Takes out a session; gives what it was recognised by.
    pub(super) fn remove(&mut self, id: &[u8]) -> Option<(Arc<Session>, Vec<SessionKey>)> {
        let entry = self.living.remove(id).or_else(|| self.resting.remove(id))?;
        for key in &entry.keys {
            self.by_key.remove(key);
        }
        Some((entry.session, entry.keys))
    }

    /// Those that end with the connection, and those that stay without any.
    pub(super) fn leave(&mut self, connection: ConnectionId) -> (Vec<Arc<Session>>, Vec<Arc<Session>>) {
        let on_it = |key: &SessionKey| matches!(key, SessionKey::Connection(id, _) if *id == connection);
        self.by_key.retain(|key, _| !on_it(key));
        let (mut only_there, mut left) = (Vec::new(), Vec::new());
        for (id, entry) in self.living.iter_mut().chain(&mut self.resting) {
            entry.keys.retain(|key| !on_it(key));
            let was_last = entry.connections.remove(&connection) && entry.connections.is_empty();
            if entry.keys.is_empty() {
                only_there.push(id.clone());
            } else if was_last {
                left.push(Arc::clone(&entry.session));
            }
        }
        let ended = only_there.iter().filter_map(|id| self.remove(id)).map(|(session, _)| session);
        (ended.collect(), left)
    }

    /// Sends to rest, or ends, those whose time is over.
    pub(super) fn sweep(&mut self, limits: Limits) -> Swept {
        let is_over = |entry: &Entry| entry.used.elapsed() >= limits.idle && !entry.session.is_busy();
        self.resting.extend(self.living.extract_if(|_, entry| is_over(entry)));
        // Of those that rest already too: a request that was under way may have left something meanwhile.
        let left = self.resting.values().flat_map(|entry| entry.session.rest(limits.idle)).collect();
        let over = self.forgotten(limits);
        let ended = over.iter().filter_map(|id| self.remove(id)).map(|(session, _)| session).collect();
        let living = self.living.values().filter(|entry| entry.session.has_workspaces());
        Swept { ended, left, living: living.map(|entry| Arc::clone(&entry.session)).collect() }
    }

    /// Those that rest and need not be found again, or are too many: of these the longest unused, without a connection
    /// first.
    fn forgotten(&self, limits: Limits) -> Vec<Vec<u8>> {
        let rests_on = |entry: &Entry| {
            let in_time = entry.used.elapsed() < limits.idle.saturating_add(limits.rest);
            entry.session.is_to_be_found() && (in_time || !entry.connections.is_empty())
        };
        let (mut stay, mut over): (Vec<_>, Vec<_>) =
            self.resting.iter().partition(|(_, entry)| rests_on(entry));
        let surplus = stay.len().saturating_sub(limits.count);
        stay.sort_by_key(|(_, entry)| (!entry.connections.is_empty(), entry.used));
        over.extend(stay.drain(..surplus));
        over.into_iter().map(|(id, _)| id.clone()).collect()
    }

    fn use_now(
        &mut self,
        id: &[u8],
        connection: Option<ConnectionId>,
        limits: Limits,
    ) -> Result<(), SessionError> {
        if self.resting.contains_key(id) {
            self.has_room(limits)?;
            self.living.extend(self.resting.remove_entry(id));
        }
        if let Some(entry) = self.living.get_mut(id) {
            entry.used = Instant::now();
            entry.connections.extend(connection);
        }
        Ok(())
    }
}
