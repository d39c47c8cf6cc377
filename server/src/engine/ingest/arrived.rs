//! What comes of an upload, and the memory that it takes from its first byte on.

use std::sync::{Arc, OnceLock};

use arrow_array::RecordBatch;

use super::{Budget, Share, Sharer};
use crate::engine::{Engine, Result};

/// What comes of an upload.
pub enum Arrived {
    /// The next rows.
    Rows(Rows),
    /// The next rows wait for room, and soon come or fail. Whatever is kept back had better go now: it may be what takes
    /// the room.
    NoRoom,
}

/// Rows of an upload.
pub struct Rows {
    /// The rows, which refer to the bytes of their message.
    pub batch: RecordBatch,
    /// What that message holds of the memory for uploads; `None` where nobody has asked for it yet.
    pub room: Option<Share>,
}

impl From<RecordBatch> for Rows {
    /// Rows for which nobody has asked for room yet.
    fn from(batch: RecordBatch) -> Self {
        Self { batch, room: None }
    }
}

impl From<RecordBatch> for Arrived {
    fn from(batch: RecordBatch) -> Self {
        Self::Rows(batch.into())
    }
}

/// Where the messages of one request get their memory from.
#[derive(Clone)]
pub struct Arriving {
    budget: Budget,
    sender: u64,
    /// An upload that has rows, from its first ones on: it is not older than one that had them before.
    sharer: Arc<OnceLock<Sharer>>,
}

impl Engine {
    /// For a request of `sender`; nothing is taken yet.
    pub fn arriving(&self, sender: u64) -> Arriving {
        Arriving { budget: self.shared.budget.clone(), sender, sharer: Arc::default() }
    }
}

impl Arriving {
    /// Room for so many bytes, if there is any just now.
    pub fn try_take(&self, bytes: usize) -> Option<Share> {
        self.budget.try_take(self.sharer(), bytes)
    }

    /// Waits for room for so many bytes.
    ///
    /// # Errors
    /// [`Error::QueueFull`](crate::engine::Error::QueueFull) when there is none in time.
    pub async fn take(self, bytes: usize) -> Result<Share> {
        self.budget.take(self.sharer(), bytes).await
    }

    fn sharer(&self) -> Sharer {
        *self.sharer.get_or_init(|| Sharer::new(self.sender))
    }

    /// So many bytes are the most that the dictionaries of one upload may have: rows that refer to them are counted
    /// with them, and must still find room beside them.
    pub fn kept_at_most(&self) -> usize {
        self.budget.collectable() / 2
    }
}
