//! What lives on the connections of one session, and what has lived there and is gone.

use std::{collections::HashMap, sync::Arc};

use crate::{
    engine::{TransactionId, Workspace},
    session::losses::{Loss, Losses},
};

/// Behind one lock, which nobody holds while he waits.
#[derive(Default)]
pub(super) struct State {
    /// The session's own connection.
    pub(super) own: Option<Arc<Workspace>>,
    /// Something lives on `own`, so that every statement has to run there.
    pub(super) stateful: bool,
    /// What lives there is more than a transaction.
    pub(super) keeps: bool,
    pub(super) transactions: HashMap<Vec<u8>, Begun>,
    pub(super) losses: Losses,
}

/// A transaction with a handle. Its connection may have another one later.
#[derive(Clone)]
pub(in crate::session) struct Begun {
    pub(super) workspace: Arc<Workspace>,
    pub(super) id: TransactionId,
}

impl State {
    /// All connections, each once.
    pub(super) fn workspaces(&self) -> Vec<Arc<Workspace>> {
        let own = self.own.iter();
        let others = self.transactions.values().map(|begun| &begun.workspace);
        let others = others.filter(|other| !self.is_own(other));
        own.chain(others).cloned().collect()
    }

    fn is_own(&self, workspace: &Arc<Workspace>) -> bool {
        self.own.as_ref().is_some_and(|own| Arc::ptr_eq(own, workspace))
    }

    /// True while a transaction with a handle is open on a workspace.
    pub(super) fn has_handle(&self, workspace: &Arc<Workspace>) -> bool {
        self.transactions.values().any(|begun| Arc::ptr_eq(&begun.workspace, workspace))
    }

    /// Lets go of what was lost together with the database's instance.
    pub(super) fn let_go(&mut self) {
        self.let_go_of(Loss::Failure, |workspace| workspace.is_lost());
    }

    /// Lets go of some of what there is.
    pub(super) fn let_go_of(&mut self, loss: Loss, is_lost: impl Fn(&Workspace) -> bool) {
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
    pub(super) fn only_transaction(&self) -> Option<Begun> {
        let mut open = self.transactions.values();
        open.next().filter(|_| open.next().is_none()).cloned()
    }
}
