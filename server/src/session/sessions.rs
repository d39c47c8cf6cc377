//! All sessions: whose they are, how many there may be, and when they end.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::{Line, Principal, Session, SessionError, TokenId, directory::CountBySession, new_handle};
use crate::engine::{Condition, Engine, IdleLimits, SessionCard};

/// A session may still open a connection at the moment of the failure, so it is looked for again.
const LET_GO_AGAIN: Duration = Duration::from_millis(50);
/// How long the sweep waits for the end of one session's idle transactions,
const ROLL_BACK_WITHIN: Duration = Duration::from_secs(5);
/// and for how many at once.
const ROLLED_BACK_AT_ONCE: usize = 16;

/// By what a client is recognised from one request to the next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum SessionKey {
    /// The token that it sends.
    Token(TokenId),
    /// The session's id, which it was given as a cookie.
    Cookie(Vec<u8>),
    /// Its connection, on which a proxy may speak for several principals.
    Connection(ConnectionId, Principal),
}

/// A network connection, counted from the start of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ConnectionId(pub(crate) u64);

impl ConnectionId {
    /// One that no other connection has had, whatever it speaks.
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// How many sessions there may be, and how long they live unused.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// Sessions at once.
    pub count: usize,
    /// A session that is not used for so long ends, and its temporary tables with it.
    pub idle: Duration,
    /// Open transactions that rest are rolled back.
    pub transactions: IdleLimits,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            count: 4096,
            idle: Duration::from_secs(3600),
            transactions: IdleLimits {
                while_wanted: Duration::from_secs(30),
                at_all: Duration::from_secs(600),
                turn: Duration::from_secs(600),
            },
        }
    }
}

/// The sessions of one server.
pub(crate) struct Sessions {
    engine: Engine,
    limits: SessionLimits,
    /// How many there have been.
    last: AtomicU64,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    by_key: HashMap<SessionKey, Arc<Session>>,
    by_id: HashMap<Vec<u8>, Entry>,
}

struct Entry {
    session: Arc<Session>,
    /// All by which it is recognised.
    keys: Vec<SessionKey>,
    used: Instant,
    /// The connections that have used it and are open.
    connections: HashSet<ConnectionId>,
}

impl Sessions {
    pub(crate) fn new(engine: Engine, limits: SessionLimits) -> Self {
        Self { engine, limits, last: AtomicU64::new(0), known: Mutex::default() }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.known.lock().by_id.len()
    }

    /// The session of a client, which begins with its first request.
    ///
    /// # Errors
    /// [`SessionError::TooManySessions`].
    pub(crate) fn of(
        &self,
        key: SessionKey,
        principal: &Principal,
        line: Option<&Line>,
    ) -> Result<Arc<Session>, SessionError> {
        let mut known = self.known.lock();
        // Looked at under the lock, under which what it leaves is let go of afterwards.
        let connection = line.filter(|line| line.is_open()).map(Line::id);
        let session = match known.by_key.get(&key) {
            Some(session) => Arc::clone(session),
            // Nobody would come back to it, or end it.
            None if line.is_some() && connection.is_none() => {
                return Ok(Arc::new(self.of_one_request(principal.clone(), None)));
            }
            None if known.by_id.len() >= self.limits.count => {
                return Err(SessionError::TooManySessions(self.limits.count));
            }
            None => {
                let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
                let session = Session::new(new_handle()?, number, principal.clone(), self.engine.clone());
                let session = Arc::new(session);
                let entry = Entry {
                    session: Arc::clone(&session),
                    keys: vec![key.clone()],
                    used: Instant::now(),
                    connections: HashSet::new(),
                };
                known.by_key.insert(key, Arc::clone(&session));
                known.by_id.insert(session.id().to_vec(), entry);
                session
            }
        };
        if let Some(entry) = known.by_id.get_mut(session.id()) {
            entry.used = Instant::now();
            entry.connections.extend(connection);
        }
        Ok(session)
    }

    /// A session of one request, which ends with it. It is not kept here, so that it takes nobody's place; nothing
    /// may be left in it (see [`Session::run_once`]), because nothing here would let go of that.
    pub(crate) fn of_one_request(&self, principal: Principal, peer: Option<SocketAddr>) -> Session {
        Session::of_one_request(principal, peer, self.engine.clone())
    }

    /// All of them, as people see them.
    pub(super) fn cards(&self, prepared: &CountBySession) -> Vec<SessionCard> {
        let sessions: Vec<_> = {
            let known = self.known.lock();
            known.by_id.values().map(|entry| (Arc::clone(&entry.session), entry.used)).collect()
        };
        let prepared = |session: &Session| prepared.get(session.id()).copied().unwrap_or_default();
        sessions.iter().map(|(session, used)| session.card(used.elapsed(), prepared(session))).collect()
    }

    /// Takes from a session all that it has, for an operator; false where there is none of that number. Its client is
    /// told, and may begin again: a session that was merely gone would have the rest of a transaction run by itself.
    pub(super) fn empty(&self, number: u64) -> bool {
        let session = {
            let known = self.known.lock();
            known
                .by_id
                .values()
                .find(|entry| entry.session.number() == Some(number))
                .map(|entry| Arc::clone(&entry.session))
        };
        session.inspect(|session| session.empty()).is_some()
    }

    /// The session whose id a client presents as a cookie. From now on it outlives its first connection.
    pub(crate) fn of_cookie(
        &self,
        id: &[u8],
        principal: &Principal,
        line: Option<&Line>,
    ) -> Option<Arc<Session>> {
        let mut known = self.known.lock();
        let connection = line.filter(|line| line.is_open()).map(Line::id);
        let Known { by_key, by_id } = &mut *known;
        let entry = by_id.get_mut(id).filter(|entry| entry.session.principal() == principal)?;
        let key = SessionKey::Cookie(id.to_vec());
        if by_key.insert(key.clone(), Arc::clone(&entry.session)).is_none() {
            entry.keys.push(key);
        }
        entry.used = Instant::now();
        entry.connections.extend(connection);
        Some(Arc::clone(&entry.session))
    }

    /// The session that a ticket was made in, if it was the same principal's.
    pub(crate) fn by_id(&self, id: &[u8], principal: &Principal) -> Option<Arc<Session>> {
        let known = self.known.lock();
        let session = &known.by_id.get(id)?.session;
        (session.principal() == principal).then(|| Arc::clone(session))
    }

    /// Ends a session: what runs is interrupted, open transactions are rolled back. Gives the tokens that
    /// stood for it.
    pub(crate) fn close(&self, session: &Session) -> Vec<TokenId> {
        let entry = self.known.lock().remove(session.id());
        session.interrupt();
        let keys = entry.map(|entry| entry.keys).unwrap_or_default();
        keys.into_iter()
            .filter_map(|key| match key {
                SessionKey::Token(token) => Some(token),
                _ => None,
            })
            .collect()
    }

    /// Reacts to closed connections for as long as the server runs.
    pub(crate) async fn end_with(self: Arc<Self>, mut closed: mpsc::UnboundedReceiver<ConnectionId>) {
        while let Some(connection) = closed.recv().await {
            self.connection_closed(connection);
        }
    }

    /// A connection is gone. A session that lived on it ends; one that is recognised otherwise stays, but a
    /// client that has vanished leaves no transaction open.
    fn connection_closed(&self, connection: ConnectionId) {
        let (ended, left) = self.known.lock().leave(connection);
        for session in ended {
            session.interrupt();
        }
        for session in left {
            tokio::spawn(async move { session.lose_all().await });
        }
    }

    /// Ends all sessions, because the server stops.
    pub(crate) fn close_all(&self) {
        let known = std::mem::take(&mut *self.known.lock());
        for entry in known.by_id.into_values() {
            entry.session.interrupt();
        }
    }

    /// Lets go of what sessions have left on an instance of the database that has failed, as often as that
    /// happens, for as long as the server runs.
    pub(crate) async fn let_go_when_down(self: Arc<Self>) {
        let mut condition = self.engine.condition();
        while condition.wait_for(|condition| *condition == Condition::Down).await.is_ok() {
            let mut ticks = tokio::time::interval(LET_GO_AGAIN);
            while *condition.borrow_and_update() == Condition::Down {
                tokio::select! {
                    _ = ticks.tick() => {}
                    changed = condition.changed() => if changed.is_err() { return },
                }
                let sessions: Vec<_> =
                    self.known.lock().by_id.values().map(|entry| Arc::clone(&entry.session)).collect();
                sessions.iter().for_each(|session| session.let_go());
            }
        }
    }

    /// Rolls back transactions that rest for too long and ends sessions that nobody uses, for as long as
    /// the server runs.
    pub(crate) async fn sweep(self: Arc<Self>, every: Duration) {
        let mut ticks = tokio::time::interval(every);
        loop {
            ticks.tick().await;
            let (ended, living) = self.known.lock().expire(self.limits.idle);
            for session in ended {
                session.interrupt();
            }
            let limits = self.limits.transactions;
            let roll_back = move |session: Arc<Session>| async move { session.roll_back_idle(limits).await };
            each_in_time(living, ROLL_BACK_WITHIN, roll_back).await;
        }
    }
}

/// Works on several at once, and waits for none longer than that: a ROLLBACK in a database elsewhere may hang, and the others
/// go on. What was waited for goes on as well.
async fn each_in_time<T, F: Future<Output = ()>>(items: Vec<T>, patience: Duration, work: impl Fn(T) -> F) {
    let in_time = |item| tokio::time::timeout(patience, work(item)).map(drop);
    stream::iter(items).for_each_concurrent(ROLLED_BACK_AT_ONCE, in_time).await;
}

impl Known {
    fn remove(&mut self, id: &[u8]) -> Option<Entry> {
        let entry = self.by_id.remove(id)?;
        for key in &entry.keys {
            self.by_key.remove(key);
        }
        Some(entry)
    }

    /// Those that end with the connection, and those that stay without any.
    fn leave(&mut self, connection: ConnectionId) -> (Vec<Arc<Session>>, Vec<Arc<Session>>) {
        let on_it = |key: &SessionKey| matches!(key, SessionKey::Connection(id, _) if *id == connection);
        self.by_key.retain(|key, _| !on_it(key));
        let mut only_there = Vec::new();
        for (id, entry) in &mut self.by_id {
            entry.keys.retain(|key| !on_it(key));
            if entry.keys.is_empty() {
                only_there.push(id.clone());
            }
        }
        let ended = only_there.iter().filter_map(|id| self.remove(id)).map(|entry| entry.session).collect();
        let left = self
            .by_id
            .values_mut()
            .filter_map(|entry| {
                let was_last = entry.connections.remove(&connection) && entry.connections.is_empty();
                was_last.then(|| Arc::clone(&entry.session))
            })
            .collect();
        (ended, left)
    }

    /// Those whose time is over, and those that may have transactions.
    fn expire(&mut self, idle: Duration) -> (Vec<Arc<Session>>, Vec<Arc<Session>>) {
        let over: Vec<_> = self
            .by_id
            .iter()
            .filter(|(_, entry)| entry.used.elapsed() >= idle && !entry.session.is_busy())
            .map(|(id, _)| id.clone())
            .collect();
        let ended = over.iter().filter_map(|id| self.remove(id)).map(|entry| entry.session).collect();
        let living = self
            .by_id
            .values()
            .filter(|entry| entry.session.has_workspaces())
            .map(|entry| Arc::clone(&entry.session))
            .collect();
        (ended, living)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looking up a password takes longer than many a connection lasts.
    #[tokio::test]
    async fn a_request_whose_connection_has_gone_leaves_no_session() {
        let engine = Engine::open(crate::engine::Options::default()).unwrap();
        let sessions = Sessions::new(engine.clone(), SessionLimits::default());
        let ana = Principal::named("ana");
        let ask = |line: &Line| {
            sessions.of(SessionKey::Connection(line.id(), ana.clone()), &ana, Some(line)).unwrap()
        };
        let line = Line::open();
        let session = ask(&line);
        assert_eq!((sessions.count(), ask(&line).id()), (1, session.id()));
        line.close();
        sessions.connection_closed(line.id());
        assert_eq!(sessions.count(), 0);
        ask(&line);
        assert_eq!(sessions.count(), 0);
        engine.shutdown().await;
    }

    #[tokio::test]
    async fn what_hangs_keeps_no_other_from_its_end() {
        let ended = Mutex::new(Vec::new());
        let hang_up_to = 2 * ROLLED_BACK_AT_ONCE;
        let items = (0..hang_up_to + 3).collect();
        let work = |item| {
            let ended = &ended;
            async move {
                if item < hang_up_to {
                    std::future::pending().await
                }
                ended.lock().push(item);
            }
        };
        each_in_time(items, Duration::from_millis(1), work).await;
        assert_eq!(ended.into_inner(), [hang_up_to, hang_up_to + 1, hang_up_to + 2]);
    }
}
