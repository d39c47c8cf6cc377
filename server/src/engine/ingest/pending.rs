//! An upload that is complete, and waits for its commit.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::Ack;
use crate::engine::{Error, Result, ledger::SharedLedger};

/// Resolves to what became of the upload.
pub struct Pending {
    stage: Stage,
    refusals: Option<Refusals>,
}

/// Where refusals of a loader's units are counted.
pub(super) struct Refusals {
    pub(super) ledger: SharedLedger,
    pub(super) loader: Arc<str>,
}

impl Refusals {
    pub(super) fn count(&self) {
        self.ledger.lock().count_failure(&self.loader);
    }
}

enum Stage {
    Answered(Ack),
    Queued(oneshot::Receiver<Result<Ack>>),
}

impl Pending {
    /// One that is answered already.
    pub(super) fn answered(ack: Ack) -> Self {
        Self { stage: Stage::Answered(ack), refusals: None }
    }

    /// One that has nothing to commit.
    pub(super) fn nothing() -> Self {
        Self::answered(Ack { rows: 0, bytes: 0, commit: 0, committed: true, duplicate: false })
    }

    /// One that the writer will answer.
    pub(super) fn queued(answer: oneshot::Receiver<Result<Ack>>) -> Self {
        Self { stage: Stage::Queued(answer), refusals: None }
    }

    /// The same, with a refusal counted.
    pub(super) fn counted(self, refusals: Option<Refusals>) -> Self {
        Self { refusals, ..self }
    }

    /// Waits for the commit.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn committed(self) -> Result<Ack> {
        let answer = match self.stage {
            Stage::Answered(ack) => return Ok(ack),
            Stage::Queued(answer) => answer,
        };
        let unknown = |_| Err(Error::CommitUnknown("the writer ended before it answered".into()));
        let outcome = match answer.await.unwrap_or_else(unknown) {
            // Of a unit with a key nobody has to know it: to send it again is harmless.
            Err(Error::CommitUnknown(_)) if self.refusals.is_some() => Err(Error::EngineDown),
            known => known,
        };
        if let (Err(_), Some(refusals)) = (&outcome, &self.refusals) {
            refusals.count();
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_unit_with_a_key_is_never_told_that_its_commit_is_unknown() {
        let refusals = Refusals { ledger: SharedLedger::default(), loader: "a".into() };
        for (refusals, is_known) in [(None, false), (Some(refusals), true)] {
            let (answer, answered) = oneshot::channel();
            drop(answer);
            match Pending::queued(answered).counted(refusals).committed().await {
                Err(Error::EngineDown) => assert!(is_known),
                Err(Error::CommitUnknown(_)) => assert!(!is_known),
                other => panic!("{other:?}"),
            }
        }
    }
}
