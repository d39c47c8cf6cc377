//! One client's session: what its names mean, the connection on which its settings and temporary tables
//! live, and its transactions.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arrow_schema::SchemaRef;
use futures::Stream;
use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{
    Principal, SessionError,
    losses::{Loss, Losses},
    new_handle,
};
use crate::{
    engine::{
        Arrived, BatchStream, Caller, CatalogView, Description, Engine, Error, Execution, IdleLimits,
        IngestRequest, Names, Outcome, Pending, Place, Posted, SessionCard, SessionNames, Statement,
        TransactionId, Workspace,
    },
    sql,
};

/// Transactions that one session may have open.
const MAX_TRANSACTIONS: usize = 64;
/// Statements of one session that may go on without a request.
const MAX_BACKGROUND: usize = 16;

/// What a client has left with the server. Most sessions hold nothing at all: their statements run on any
/// connection.
pub(crate) struct Session {
    id: Vec<u8>,
    /// By which people name it; `None` where it ends with its request.
    number: Option<u64>,
    opened: SystemTime,
    /// Where its client was heard from last.
    peer: Mutex<Option<SocketAddr>>,
    principal: Principal,
    engine: Engine,
    names: SessionNames,
    state: Mutex<State>,
    /// One at a time may open a workspace.
    opening: tokio::sync::Mutex<()>,
    background: Arc<Semaphore>,
    ended: CancellationToken,
}

#[derive(Default)]
struct State {
    /// The session's own connection.
    own: Option<Arc<Workspace>>,
    /// Something lives on `own`, so that every statement has to run there.
    stateful: bool,
    /// What lives there is more than a transaction.
    keeps: bool,
    transactions: HashMap<Vec<u8>, Begun>,
    losses: Losses,
}

/// A transaction with a handle. Its connection may have another one later.
#[derive(Clone)]
struct Begun {
    workspace: Arc<Workspace>,
    id: TransactionId,
}

impl State {
    fn workspaces(&self) -> Vec<Arc<Workspace>> {
        let own = self.own.iter();
        let others = self.transactions.values().map(|begun| &begun.workspace);
        let others = others.filter(|other| !self.is_own(other));
        own.chain(others).cloned().collect()
    }

    fn is_own(&self, workspace: &Arc<Workspace>) -> bool {
        self.own.as_ref().is_some_and(|own| Arc::ptr_eq(own, workspace))
    }

    /// True while a transaction with a handle is open on a workspace.
    fn has_handle(&self, workspace: &Arc<Workspace>) -> bool {
        self.transactions.values().any(|begun| Arc::ptr_eq(&begun.workspace, workspace))
    }

    /// Lets go of what was lost together with the database's instance.
    fn let_go(&mut self) {
        self.let_go_of(Loss::Failure, |workspace| workspace.is_lost());
    }

    /// Lets go of some of what there is.
    fn let_go_of(&mut self, loss: Loss, is_lost: impl Fn(&Workspace) -> bool) {
        let own_has_handle = self.own.as_ref().is_some_and(|own| self.has_handle(own));
        if let Some(own) = self.own.take_if(|own| is_lost(own)) {
            if self.keeps {
                self.losses.lose_state(loss);
            }
            if own.in_transaction() && !own_has_handle {
                self.losses.lose_transaction(loss);
            }
            (self.stateful, self.keeps) = (false, false);
            own.interrupt();
        }
        for (handle, begun) in self.transactions.extract_if(|_, begun| is_lost(&begun.workspace)) {
            self.losses.lose_handle(handle, loss);
            begun.workspace.interrupt();
        }
    }

    /// The transaction that a statement belongs to which names none: the only one that is open.
    fn only_transaction(&self) -> Option<Begun> {
        let mut open = self.transactions.values();
        open.next().filter(|_| open.next().is_none()).cloned()
    }
}

impl Session {
    pub(super) fn new(id: Vec<u8>, number: u64, principal: Principal, engine: Engine) -> Self {
        Self { id, number: Some(number), ..Self::of_one_request(principal, None, engine) }
    }

    /// One that nobody finds again.
    pub(super) fn of_one_request(principal: Principal, peer: Option<SocketAddr>, engine: Engine) -> Self {
        Self {
            id: Vec::new(),
            number: None,
            opened: SystemTime::now(),
            peer: Mutex::new(peer),
            principal,
            names: engine.session_names(),
            engine,
            state: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            background: Arc::new(Semaphore::new(MAX_BACKGROUND)),
            ended: CancellationToken::new(),
        }
    }

    /// Random, so that nobody can guess it.
    pub(crate) fn id(&self) -> &[u8] {
        &self.id
    }

    /// By which people name it; `None` where it ends with its request.
    pub(super) fn number(&self) -> Option<u64> {
        self.number
    }

    /// A request of its client comes from there.
    pub(crate) fn is_heard_from(&self, peer: Option<SocketAddr>) {
        *self.peer.lock() = peer;
    }

    /// Who sends what comes now, for whoever looks at it while it runs.
    pub(crate) fn caller(&self) -> Caller {
        Caller {
            session: self.number,
            user: self.principal.user().cloned(),
            protocol: if self.number.is_some() { "flight" } else { "http" },
            peer: *self.peer.lock(),
            catalog: self.catalog_name(),
        }
    }

    /// The session as people see it.
    pub(super) fn card(&self, unused: Duration, prepared: usize) -> SessionCard {
        let workspaces = self.state.lock().workspaces();
        SessionCard {
            number: self.number.unwrap_or_default(),
            user: self.principal.user().cloned(),
            peer: *self.peer.lock(),
            opened: self.opened,
            unused,
            transaction: workspaces.iter().filter_map(|workspace| workspace.open_since()).min(),
            is_pinned: !workspaces.is_empty(),
            prepared,
            catalog: self.catalog_name(),
        }
    }

    fn catalog_name(&self) -> String {
        self.names.get().catalog
    }

    /// Whose it is.
    pub(crate) fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Plans a statement where it would run.
    pub(crate) async fn describe(&self, transaction: &[u8], sql: &str) -> Result<Description, SessionError> {
        self.losses().tell(transaction, sql)?;
        let place = self.place(transaction, sql).await?;
        Ok(self.engine.describe(&place, sql).await?)
    }

    /// Runs one statement; see [`Engine::run`].
    pub(crate) async fn run(
        &self,
        transaction: &[u8],
        statement: Statement,
    ) -> Result<Outcome, SessionError> {
        self.perform(transaction, statement, None).await
    }

    /// Runs a query over rows that came with it. It sees the session's names, and nothing else that lives there.
    pub(crate) async fn read_posted(
        &self,
        statement: Statement,
        posted: Posted,
    ) -> Result<BatchStream, SessionError> {
        self.losses().tell(&[], &statement.sql)?;
        Ok(self.engine.read_posted(self.names.changed(), statement, posted).await?)
    }

    /// Runs one statement that neither leaves anything in the session nor needs what another left there: the
    /// session ends with the request.
    pub(crate) async fn run_once(&self, statement: Statement) -> Result<Outcome, SessionError> {
        if sql::leaves_state(&statement.sql) || sql::is_use(&statement.sql) {
            return Err(SessionError::LeavesState);
        }
        self.run(&[], statement).await
    }

    /// Room for a statement that goes on without a request, and what stops it: the end of the session does.
    pub(crate) fn background(&self) -> Result<(OwnedSemaphorePermit, CancellationToken), SessionError> {
        let room = Arc::clone(&self.background).try_acquire_owned();
        let room = room.map_err(|_| SessionError::TooManyPolls(MAX_BACKGROUND))?;
        Ok((room, self.ended.child_token()))
    }

    /// Runs a statement or a script for its effect; see [`Engine::write`].
    pub(crate) async fn write(
        &self,
        transaction: &[u8],
        statement: Statement,
    ) -> Result<Outcome, SessionError> {
        self.perform(transaction, statement, Some(&Execution::default())).await
    }

    /// The same as an execution that somebody watches and may stop.
    pub(crate) async fn write_watched(
        &self,
        transaction: &[u8],
        statement: Statement,
        execution: &Execution,
    ) -> Result<Outcome, SessionError> {
        self.perform(transaction, statement, Some(execution)).await
    }

    /// Runs a statement; for its effect where there is an execution.
    async fn perform(
        &self,
        transaction: &[u8],
        statement: Statement,
        for_effect: Option<&Execution>,
    ) -> Result<Outcome, SessionError> {
        if self.losses().tell_statement(transaction, &statement.sql)? {
            return Ok(Outcome::Changed(0));
        }
        if sql::is_use(&statement.sql) {
            return self.change_names(&statement.sql).await;
        }
        let place = match (self.place(transaction, &statement.sql).await?, &statement.names) {
            (Place::Shared(_), Some(names)) => Place::Shared(self.names.unless_default(names)),
            (place, _) => place,
        };
        Ok(match for_effect {
            Some(execution) => self.engine.write_watched(&place, statement, execution).await?,
            None => self.engine.run(&place, statement).await?,
        })
    }

    /// Takes an upload: into the open transaction or a temporary table where there is one, else through the
    /// writer. Returns when all of its rows have come; see [`Engine::begin_ingest`].
    pub(crate) async fn begin_ingest(
        &self,
        transaction: &[u8],
        mut request: IngestRequest,
        schema: SchemaRef,
        batches: impl Stream<Item = Result<Arrived, Error>> + Unpin + Send,
    ) -> Result<Pending, SessionError> {
        self.losses().tell(transaction, "")?;
        // What is open now: it may end, and another one begin, while the rows arrive.
        let place = match self.transaction(transaction)? {
            Some(Begun { workspace, id }) => Some((workspace, Some(id))),
            None if request.temporary => {
                let own = self.own().await?;
                let mut state = self.state.lock();
                (state.stateful, state.keeps) = (true, true);
                drop(state);
                let open = own.transaction();
                Some((own, open))
            }
            None => {
                let state = self.state.lock();
                let own = state.own.clone().filter(|own| !state.has_handle(own));
                own.and_then(|own| own.transaction().map(|open| (own, Some(open))))
            }
        };
        request.names = match &place {
            Some((workspace, _)) => Some(workspace.names()),
            None => self.names.changed(),
        };
        Ok(match place {
            Some((workspace, open)) => {
                self.engine.ingest_in(&workspace, open, request, schema, batches).await?
            }
            None => self.engine.begin_ingest(request, schema, batches).await?,
        })
    }

    /// The catalog as this session sees it.
    pub(crate) fn catalog(&self) -> CatalogView {
        let state = self.state.lock();
        let own = || state.own.clone().filter(|own| state.stateful && !state.has_handle(own));
        let of_transaction = state.only_transaction().map(|begun| begun.workspace);
        let place = match of_transaction.or_else(own) {
            Some(workspace) => Place::Own(workspace, None),
            None => Place::Shared(None),
        };
        self.engine.catalog_at(place)
    }

    /// Begins a transaction and returns its handle.
    pub(crate) async fn begin(&self) -> Result<Vec<u8>, SessionError> {
        self.losses().tell_beginning()?;
        let _opening = self.opening.lock().await;
        let open = {
            let state = self.state.lock();
            state.transactions.len() + state.losses.handles()
        };
        if open >= MAX_TRANSACTIONS {
            return Err(SessionError::TooManyTransactions(MAX_TRANSACTIONS));
        }
        let own = self.own_locked().await?;
        let own_is_free = !own.in_transaction() && {
            let state = self.state.lock();
            !state.has_handle(&own)
        };
        let workspace = if own_is_free { own } else { self.engine.workspace(self.names.clone()).await? };
        let (id, begun) = self.engine.begin(&workspace).await?;
        let handle = new_handle()?;
        // Nothing waits from here on: a client that goes away has either the handle or no transaction.
        let mut state = self.state.lock();
        state.transactions.insert(handle.clone(), Begun { workspace, id });
        begun.told();
        Ok(handle)
    }

    /// Ends a transaction; its handle is forgotten whatever comes of it.
    pub(crate) async fn end(&self, handle: &[u8], commit: bool) -> Result<(), SessionError> {
        let workspace = {
            let mut state = self.state.lock();
            state.let_go();
            if let Some(told) = state.losses.end(handle, commit) {
                return Ok(told?);
            }
            state.transactions.remove(handle).map(|begun| begun.workspace)
        };
        let workspace = workspace.ok_or(SessionError::UnknownTransaction)?;
        // In a task of its own: a client that does not wait for the answer must leave nothing open that no
        // handle names any more.
        let engine = self.engine.clone();
        let ended = tokio::spawn(async move {
            let ended = engine.end(&workspace, commit).await;
            if matches!(ended, Err(Error::SessionBusy(_))) {
                workspace.interrupt();
                engine.end(&workspace, false).await?;
            }
            ended
        });
        Ok(ended.await.unwrap_or_else(|panic| Err(Error::Internal(panic.to_string())))?)
    }

    /// What unqualified names mean.
    pub(crate) fn names(&self) -> Names {
        self.names.get()
    }

    /// What they mean in a transaction, or where a statement runs that names none.
    pub(crate) fn names_in(&self, transaction: &[u8]) -> Names {
        match self.transaction(transaction) {
            Ok(Some(begun)) => begun.workspace.names(),
            _ => self.names(),
        }
    }

    /// Runs a USE. It reaches every connection of the session, or none.
    pub(crate) async fn change_names(&self, use_sql: &str) -> Result<Outcome, SessionError> {
        let before = self.names.get();
        let names = self.engine.names_after(self.names.changed(), use_sql).await?;
        let workspaces = self.state.lock().workspaces();
        for (at, workspace) in workspaces.iter().enumerate() {
            if let Err(error) = self.engine.use_names(workspace, names.clone()).await {
                for changed in &workspaces[..at] {
                    self.engine.use_names(changed, before.clone()).await?;
                }
                return Err(error.into());
            }
        }
        self.names.set(names);
        Ok(Outcome::Changed(0))
    }

    /// Where a statement runs: in its transaction, on the session's own connection, or anywhere.
    async fn place(&self, transaction: &[u8], sql: &str) -> Result<Place, SessionError> {
        let leaves_state = sql::leaves_state(sql);
        if let Some(Begun { workspace, id }) = self.transaction(transaction)? {
            if leaves_state && sql::controls(sql).iter().any(Option::is_some) {
                return Err(SessionError::BegunByDriver);
            }
            let mut state = self.state.lock();
            state.stateful |= leaves_state;
            state.keeps |= leaves_state && sql::keeps_state(sql);
            return Ok(Place::Own(workspace, Some(id)));
        }
        if leaves_state || self.state.lock().stateful {
            let own = self.own().await?;
            let mut state = self.state.lock();
            if state.has_handle(&own) {
                return Err(SessionError::WhichTransaction);
            }
            state.stateful = true;
            state.keeps |= leaves_state && sql::keeps_state(sql);
            return Ok(Place::Own(own, None));
        }
        Ok(Place::Shared(self.names.changed()))
    }

    /// The transaction under a handle, or without one the only one that is open.
    fn transaction(&self, handle: &[u8]) -> Result<Option<Begun>, SessionError> {
        let state = self.state.lock();
        if handle.is_empty() {
            return Ok(state.only_transaction());
        }
        state.transactions.get(handle).cloned().map(Some).ok_or(SessionError::UnknownTransaction)
    }

    /// True until its client has ended the handle's transaction, even where that is gone.
    pub(crate) fn has_transaction(&self, handle: &[u8]) -> bool {
        let state = self.state.lock();
        state.transactions.contains_key(handle) || state.losses.has_handle(handle)
    }

    async fn own(&self) -> Result<Arc<Workspace>, SessionError> {
        let _opening = self.opening.lock().await;
        self.own_locked().await
    }

    async fn own_locked(&self) -> Result<Arc<Workspace>, SessionError> {
        if let Some(own) = self.state.lock().own.clone() {
            return Ok(own);
        }
        let own = self.engine.workspace(self.names.clone()).await?;
        self.state.lock().own = Some(Arc::clone(&own));
        Ok(own)
    }

    /// What its client still believes in, after a look at what is there.
    fn losses(&self) -> MappedMutexGuard<'_, Losses> {
        let mut state = self.state.lock();
        state.let_go();
        MutexGuard::map(state, |state| &mut state.losses)
    }

    /// Lets go of what was lost together with the database's instance, which cannot go before.
    pub(super) fn let_go(&self) {
        self.state.lock().let_go();
    }

    /// Lets go of everything, because an operator wants it so: what runs is interrupted, open transactions are rolled
    /// back, and the connections are closed.
    pub(super) fn empty(&self) {
        self.state.lock().let_go_of(Loss::Closed, |_| true);
    }

    /// Lets go of everything, because nobody has used it for so long; gives what that was.
    pub(super) fn rest(&self, unused: Duration) -> Vec<Arc<Workspace>> {
        let mut state = self.state.lock();
        let left = state.workspaces();
        state.let_go_of(Loss::Unused(unused), |_| true);
        left
    }

    /// True when a new session would not be the same to its client.
    pub(super) fn is_to_be_found(&self) -> bool {
        let state = self.state.lock();
        self.names.changed().is_some() || !state.losses.is_empty()
    }

    pub(super) fn has_workspaces(&self) -> bool {
        let state = self.state.lock();
        state.own.is_some() || !state.transactions.is_empty()
    }

    /// True while a transaction is open, a statement runs on a connection of its own, or one goes on without a request.
    pub(super) fn is_busy(&self) -> bool {
        if self.background.available_permits() < MAX_BACKGROUND {
            return true;
        }
        self.state.lock().workspaces().iter().any(|workspace| workspace.is_open() || workspace.is_running())
    }

    /// Stops what runs; for a session that is over.
    pub(super) fn interrupt(&self) {
        self.ended.cancel();
        let state = std::mem::take(&mut *self.state.lock());
        for workspace in state.workspaces() {
            workspace.interrupt();
        }
    }

    /// Undoes every open transaction, because its client has vanished. Should it come back on another
    /// connection, it is told so before anything else: what it sends next was meant to be part of them.
    pub(super) async fn lose_all(&self) {
        let workspaces = self.state.lock().workspaces();
        for workspace in workspaces.iter().filter(|workspace| workspace.is_open()) {
            workspace.interrupt();
            let lost = self.engine.lose(workspace, "its connection was lost");
            if let Err(error) = lost.await {
                tracing::debug!(%error, "a transaction that was left open");
            }
        }
    }

    pub(super) async fn roll_back_idle(&self, limits: IdleLimits) {
        let workspaces = self.state.lock().workspaces();
        for workspace in workspaces {
            self.engine.roll_back_if_idle(&workspace, limits).await;
        }
    }
}
