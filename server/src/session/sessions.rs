//! All sessions: whose they are, how many there may be, and when they end.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::{FutureExt, StreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::{
    Line, Principal, Session, SessionError, TokenId,
    directory::CountBySession,
    known::{Known, Limits},
    new_handle,
};
use crate::engine::{Condition, Engine, IdleLimits, SessionCard};

/// How long a session rests whose client has no connection open: its token or cookie may never come again.
const REST: Duration = Duration::from_secs(7 * 24 * 3600);
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
    /// A session that is not used for so long rests, and its temporary tables are gone.
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
    /// When this run of the server began, in nanoseconds.
    run: u64,
    known: Mutex<Known>,
}

impl Sessions {
    pub(crate) fn new(engine: Engine, limits: SessionLimits) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let run = since.as_nanos() as u64;
        Self { engine, limits, last: AtomicU64::new(0), run, known: Mutex::default() }
    }

    /// What tells this run of the server from those before.
    pub(crate) fn run(&self) -> u64 {
        self.run
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.known.lock().living().len()
    }

    fn known_limits(&self) -> Limits {
        Limits { count: self.limits.count, idle: self.limits.idle, rest: REST }
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
        if let Some(session) = known.find(&key, connection, self.known_limits())? {
            return Ok(session);
        }
        // Nobody would come back to it, or end it.
        if line.is_some() && connection.is_none() {
            return Ok(Arc::new(self.of_one_request(principal.clone(), None)));
        }
        known.has_room(self.known_limits())?;
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let session = Arc::new(Session::new(new_handle()?, number, principal.clone(), self.engine.clone()));
        known.insert(key, &session, connection);
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
            known.living().map(|entry| (Arc::clone(&entry.session), entry.used)).collect()
        };
        let prepared = |session: &Session| prepared.get(session.id()).copied().unwrap_or_default();
        sessions.iter().map(|(session, used)| session.card(used.elapsed(), prepared(session))).collect()
    }

    /// Takes from a session all that it has, for an operator; false where there is none of that number. Its client is
    /// told, and may begin again: a session that was merely gone would have the rest of a transaction run by itself.
    pub(super) fn empty(&self, number: u64) -> bool {
        let session = {
            let known = self.known.lock();
            let mut living = known.living().map(|entry| &entry.session);
            living.find(|session| session.number() == Some(number)).cloned()
        };
        session.inspect(|session| session.empty()).is_some()
    }

    /// The session whose id a client presents as a cookie. From now on it outlives its first connection.
    ///
    /// # Errors
    /// [`SessionError::TooManySessions`].
    pub(crate) fn of_cookie(
        &self,
        id: &[u8],
        principal: &Principal,
        line: Option<&Line>,
    ) -> Result<Option<Arc<Session>>, SessionError> {
        let mut known = self.known.lock();
        let connection = line.filter(|line| line.is_open()).map(Line::id);
        let is_theirs = |session: &Session| session.principal() == principal;
        known.find_by_cookie(id, is_theirs, connection, self.known_limits())
    }

    /// The session that a ticket was made in, if it was the same principal's.
    pub(crate) fn by_id(&self, id: &[u8], principal: &Principal) -> Option<Arc<Session>> {
        let known = self.known.lock();
        known.by_id(id).filter(|session| session.principal() == principal).cloned()
    }

    /// Ends a session: what runs is interrupted, open transactions are rolled back. Gives the tokens that
    /// stood for it.
    pub(crate) fn close(&self, session: &Session) -> Vec<TokenId> {
        let removed = self.known.lock().remove(session.id());
        session.interrupt();
        let keys = removed.map(|(_, keys)| keys).unwrap_or_default();
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
        let (ended, left) = {
            let mut known = self.known.lock();
            let (ended, left) = known.leave(connection);
            // Under the lock, without which its client may come back meanwhile and begin another.
            let left = left.into_iter().map(|session| (session.open_transactions(), session));
            (ended, left.collect::<Vec<_>>())
        };
        for session in ended {
            session.interrupt();
        }
        for (left_open, session) in left {
            tokio::spawn(async move { session.lose(left_open).await });
        }
    }

    /// Ends all sessions, because the server stops.
    pub(crate) fn close_all(&self) {
        let known = std::mem::take(&mut *self.known.lock());
        for entry in known.living() {
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
                    self.known.lock().living().map(|entry| Arc::clone(&entry.session)).collect();
                sessions.iter().for_each(|session| session.let_go());
            }
        }
    }

    /// Rolls back transactions that rest for too long and sends sessions to rest that nobody uses, for as long
    /// as the server runs.
    pub(crate) async fn sweep(self: Arc<Self>, every: Duration) {
        let mut ticks = tokio::time::interval(every);
        loop {
            ticks.tick().await;
            let swept = self.known.lock().sweep(self.known_limits());
            drop(swept.left);
            for session in swept.ended {
                session.interrupt();
            }
            let limits = self.limits.transactions;
            let roll_back = move |session: Arc<Session>| async move { session.roll_back_idle(limits).await };
            each_in_time(swept.living, ROLL_BACK_WITHIN, roll_back).await;
        }
    }
}

/// Works on several at once, and waits for none longer than that: a ROLLBACK in a database elsewhere may hang, and the others
/// go on. What was waited for goes on as well.
async fn each_in_time<T, F: Future<Output = ()>>(items: Vec<T>, patience: Duration, work: impl Fn(T) -> F) {
    let in_time = |item| tokio::time::timeout(patience, work(item)).map(drop);
    stream::iter(items).for_each_concurrent(ROLLED_BACK_AT_ONCE, in_time).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Place, Statement};

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

    /// An engine with a schema `s`.
    async fn with_schema() -> Engine {
        let engine = Engine::open(crate::engine::Options::default()).unwrap();
        engine.write(&Place::Shared(None), Statement::new("CREATE SCHEMA s")).await.unwrap();
        engine
    }

    /// Sends all to rest, of which so many are remembered, and those without a connection for so long. How many end.
    fn sweep(sessions: &Sessions, count: usize, rest: Duration) -> usize {
        let limits = Limits { count, idle: Duration::ZERO, rest };
        sessions.known.lock().sweep(limits).ended.len()
    }

    #[tokio::test]
    async fn a_session_that_rests_has_no_place_and_needs_one_to_come_back() {
        let engine = with_schema().await;
        let limits = SessionLimits { count: 1, ..SessionLimits::default() };
        let sessions = Sessions::new(engine.clone(), limits);
        let (ana, lines) = (Principal::named("ana"), [Line::open(), Line::open()]);
        let ask = |line: &Line| sessions.of(SessionKey::Connection(line.id(), ana.clone()), &ana, Some(line));
        let first = ask(&lines[0]).unwrap();
        first.change_names("USE s").await.unwrap();
        assert!(matches!(ask(&lines[1]), Err(SessionError::TooManySessions(1))));
        assert_eq!((sweep(&sessions, 1, REST), sessions.count()), (0, 0));

        let second = ask(&lines[1]).unwrap();
        assert!(matches!(ask(&lines[0]), Err(SessionError::TooManySessions(1))));
        let of_cookie = |id| sessions.of_cookie(id, &ana, None);
        assert!(matches!(of_cookie(first.id()), Err(SessionError::TooManySessions(1))));
        assert!(sessions.by_id(first.id(), &ana).is_some(), "its tickets are good");
        sessions.close(&second);
        assert_eq!(ask(&lines[0]).unwrap().id(), first.id());
        assert_eq!(of_cookie(first.id()).unwrap().unwrap().id(), first.id());
        engine.shutdown().await;
    }

    #[tokio::test]
    async fn of_those_that_rest_as_many_are_remembered_as_may_live_and_not_for_ever() {
        let engine = with_schema().await;
        let sessions = Sessions::new(engine.clone(), SessionLimits::default());
        let (ana, line) = (Principal::named("ana"), Line::open());
        let ask = |number, line: Option<&Line>| {
            let key = SessionKey::Connection(line.map_or(ConnectionId(number), Line::id), ana.clone());
            sessions.of(key, &ana, line).unwrap()
        };
        let names = async |session: Arc<Session>| session.change_names("USE s").await.map(drop);
        names(ask(0, Some(&line))).await.unwrap();
        ask(u64::MAX, None);
        assert_eq!(sweep(&sessions, 3, REST), 1, "one has nothing that it could miss");
        for number in 1..4 {
            names(ask(u64::MAX - number, None)).await.unwrap();
        }
        assert_eq!(sweep(&sessions, 3, REST), 1, "the first of those without a connection");
        assert_eq!(sweep(&sessions, 3, Duration::ZERO), 2, "the others without one");
        sessions.connection_closed(line.id());
        assert_eq!(sweep(&sessions, 0, Duration::ZERO), 0, "there is none");
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
