//! One client's session: who it is, what its names mean, and the connection on which its settings and temporary
//! tables live.
//!
//! [`statements`] runs what its client sends, [`transactions`] begins and ends what that groups them by, [`state`] is what
//! lives on its connections meanwhile, and [`letting_go`] takes that from it.

mod letting_go;
mod state;
mod statements;
mod transactions;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{Principal, SessionError};
use crate::engine::{Caller, Engine, Names, Outcome, SessionCard, SessionNames, Workspace};
use state::State;

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

    /// Room for a statement that goes on without a request, and what stops it: the end of the session does.
    pub(crate) fn background(&self) -> Result<(OwnedSemaphorePermit, CancellationToken), SessionError> {
        let room = Arc::clone(&self.background).try_acquire_owned();
        let room = room.map_err(|_| SessionError::TooManyPolls(MAX_BACKGROUND))?;
        Ok((room, self.ended.child_token()))
    }

    /// What unqualified names mean.
    pub(crate) fn names(&self) -> Names {
        self.names.get()
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

    /// The session's own connection, which is opened when it is needed first.
    async fn own(&self) -> Result<Arc<Workspace>, SessionError> {
        let _opening = self.opening.lock().await;
        self.own_locked().await
    }

    /// The same for who has `opening` locked.
    async fn own_locked(&self) -> Result<Arc<Workspace>, SessionError> {
        if let Some(own) = self.state.lock().own.clone() {
            return Ok(own);
        }
        let own = self.engine.workspace(self.names.clone()).await?;
        self.state.lock().own = Some(Arc::clone(&own));
        Ok(own)
    }
}
