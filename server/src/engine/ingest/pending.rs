//! An upload that is complete, and waits for its commit.

use tokio::sync::oneshot;

use super::Ack;
use crate::engine::{Error, Result};

/// Resolves to what became of the upload.
pub struct Pending(Stage);

enum Stage {
    Answered(Ack),
    Queued(oneshot::Receiver<Result<Ack>>),
}

impl Pending {
    /// One that is answered already.
    pub(super) fn answered(ack: Ack) -> Self {
        Self(Stage::Answered(ack))
    }

    /// One that has nothing to commit.
    pub(super) fn nothing() -> Self {
        Self::answered(Ack { rows: 0, bytes: 0, commit: 0, committed: true, duplicate: false })
    }

    /// One that the writer will answer.
    pub(super) fn queued(answer: oneshot::Receiver<Result<Ack>>) -> Self {
        Self(Stage::Queued(answer))
    }

    /// Waits for the commit.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn committed(self) -> Result<Ack> {
        match self.0 {
            Stage::Answered(ack) => Ok(ack),
            Stage::Queued(answer) => answer
                .await
                .unwrap_or_else(|_| Err(Error::CommitUnknown("the writer ended before it answered".into()))),
        }
    }
}
