//! The answer to an upload.

use crate::engine::ledger::Committed;

/// The answer to an upload: its rows are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Rows of this upload.
    pub rows: u64,
    /// What they occupied as Arrow data.
    pub bytes: u64,
    /// The commit that holds them, counted from 1 since the server started; 0 when there was nothing to
    /// commit.
    pub commit: u64,
    /// False inside an explicit transaction: the rows become durable with its commit.
    pub committed: bool,
    /// The key was committed before, with the same rows; nothing was written now.
    pub duplicate: bool,
}

impl Ack {
    /// For a unit that was committed before.
    pub(crate) fn of_duplicate(committed: Committed, bytes: u64) -> Self {
        let Committed { rows, commit, .. } = committed;
        Self { rows, bytes, commit, committed: true, duplicate: true }
    }
}
