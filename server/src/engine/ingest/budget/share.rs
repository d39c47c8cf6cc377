//! A part of the budget.

use std::{mem, sync::Arc};

use super::{Pool, Sharer, quotas::Waiting};

/// A part of the budget; given back when dropped.
pub struct Share {
    pub(super) pool: Arc<Pool>,
    pub(super) sharer: Sharer,
    pub(super) bytes: usize,
}

impl Share {
    /// How large it is.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whose it is.
    pub(super) fn sharer(&self) -> Sharer {
        self.sharer
    }

    /// Splits off so many bytes, or whatever is left.
    pub(super) fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { pool: Arc::clone(&self.pool), sharer: self.sharer, bytes }
    }

    /// Joins what is held already: all of it is the one upload's that takes more.
    pub(super) fn join(mut self, held: &mut Option<Self>) {
        if let Some(before) = held.take() {
            self.merge(before);
        }
        *held = Some(self);
    }

    /// Adds another share of the same loader to it, which this upload holds from now on.
    pub(super) fn merge(&mut self, mut other: Self) {
        let bytes = mem::take(&mut other.bytes);
        self.pool.state.lock().pass_on(other.sharer, self.sharer, bytes);
        self.bytes += bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let served = {
            let mut state = self.pool.state.lock();
            state.give_back(self.sharer, self.bytes);
            state.serve()
        };
        // Outside of the lock: whoever has stopped waiting meanwhile drops the share, and so gives it on.
        for Waiting { sharer, bytes, give, .. } in served {
            let _ = give.send(Self { pool: Arc::clone(&self.pool), sharer, bytes });
        }
    }
}
