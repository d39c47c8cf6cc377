//! The transactions of a session: those with a handle, which its client begins and ends, and all that are open, which the
//! server rolls back in its place.

use super::{Session, state::Begun};
use crate::{
    engine::{Error, IdleLimits, Names},
    session::{SessionError, new_handle},
};

/// Transactions that one session may have open.
const MAX_TRANSACTIONS: usize = 64;

impl Session {
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

    /// What they mean in a transaction, or where a statement runs that names none.
    pub(crate) fn names_in(&self, transaction: &[u8]) -> Names {
        match self.transaction(transaction) {
            Ok(Some(begun)) => begun.workspace.names(),
            _ => self.names(),
        }
    }

    /// The transaction under a handle, or without one the only one that is open.
    pub(super) fn transaction(&self, handle: &[u8]) -> Result<Option<Begun>, SessionError> {
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

    /// Undoes every open transaction, because its client has vanished. Should it come back on another
    /// connection, it is told so before anything else: what it sends next was meant to be part of them.
    pub(in crate::session) async fn lose_all(&self) {
        let workspaces = self.state.lock().workspaces();
        for workspace in workspaces.iter().filter(|workspace| workspace.is_open()) {
            workspace.interrupt();
            let lost = self.engine.lose(workspace, "its connection was lost");
            if let Err(error) = lost.await {
                tracing::debug!(%error, "a transaction that was left open");
            }
        }
    }

    /// Rolls back those that rest for longer than they may.
    pub(in crate::session) async fn roll_back_idle(&self, limits: IdleLimits) {
        let workspaces = self.state.lock().workspaces();
        for workspace in workspaces {
            self.engine.roll_back_if_idle(&workspace, limits).await;
        }
    }
}
