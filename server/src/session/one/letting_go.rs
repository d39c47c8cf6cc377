//! How a session lets go of what lives on its connections: because that is lost, because an operator wants it so, because
//! nobody uses it, or because the session is over.

use std::{sync::Arc, time::Duration};

use parking_lot::{MappedMutexGuard, MutexGuard};

use super::{MAX_BACKGROUND, Session};
use crate::{
    engine::Workspace,
    session::losses::{Loss, Losses},
};

impl Session {
    /// What its client still believes in, after a look at what is there.
    pub(super) fn losses(&self) -> MappedMutexGuard<'_, Losses> {
        let mut state = self.state.lock();
        state.let_go();
        MutexGuard::map(state, |state| &mut state.losses)
    }

    /// Lets go of what was lost together with the database's instance, which cannot go before.
    pub(in crate::session) fn let_go(&self) {
        self.state.lock().let_go();
    }

    /// Lets go of everything, because an operator wants it so: what runs is interrupted, open transactions are rolled
    /// back, and the connections are closed.
    pub(in crate::session) fn empty(&self) {
        self.state.lock().let_go_of(Loss::Closed, |_| true);
    }

    /// Lets go of everything, because nobody has used it for so long; gives what that was.
    pub(in crate::session) fn rest(&self, unused: Duration) -> Vec<Arc<Workspace>> {
        let mut state = self.state.lock();
        let left = state.workspaces();
        state.let_go_of(Loss::Unused(unused), |_| true);
        left
    }

    /// Its client believes to be in another one, which is not known any more.
    pub(crate) fn note_forgotten(&self, forgotten: Vec<u8>, in_transaction: bool) {
        self.state.lock().losses.lose_session(forgotten, in_transaction);
    }

    /// True when a new session would not be the same to its client.
    pub(in crate::session) fn is_to_be_found(&self) -> bool {
        let state = self.state.lock();
        self.names.changed().is_some() || !state.losses.is_empty()
    }

    /// True when it may have transactions.
    pub(in crate::session) fn has_workspaces(&self) -> bool {
        let state = self.state.lock();
        state.own.is_some() || !state.transactions.is_empty()
    }

    /// True while a transaction is open, a statement runs on a connection of its own, or one goes on without a request.
    pub(in crate::session) fn is_busy(&self) -> bool {
        if self.background.available_permits() < MAX_BACKGROUND {
            return true;
        }
        self.state.lock().workspaces().iter().any(|workspace| workspace.is_open() || workspace.is_running())
    }

    /// Stops what runs; for a session that is over.
    pub(in crate::session) fn interrupt(&self) {
        self.ended.cancel();
        let state = std::mem::take(&mut *self.state.lock());
        for workspace in state.workspaces() {
            workspace.interrupt();
        }
    }
}
