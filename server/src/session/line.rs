//! The connection of a client, as its requests know it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::ConnectionId;

/// A connection by its number, and whether it is still open: a request may be at work for a while after it has gone.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    id: ConnectionId,
    closed: Arc<AtomicBool>,
}

impl Line {
    /// One that is open.
    pub(crate) fn open() -> Self {
        Self { id: ConnectionId::next(), closed: Arc::default() }
    }

    pub(crate) fn id(&self) -> ConnectionId {
        self.id
    }

    /// It is gone. Known before anybody lets go of what it has left.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    pub(in crate::session) fn is_open(&self) -> bool {
        !self.closed.load(Ordering::SeqCst)
    }
}
