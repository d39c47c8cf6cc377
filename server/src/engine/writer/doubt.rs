//! Units of which nobody knows whether they are committed, until the database has been opened again.

use tokio::sync::oneshot;

use super::{BulkCommit, Unit, command::Held};
use crate::engine::{
    Error, Result,
    ingest::Ack,
    ledger::{Keyed, Ledger, Verdict},
};

/// What a failed commit leaves behind.
pub(crate) struct Doubt {
    /// What went wrong.
    pub(crate) error: Error,
    /// Those whose COMMIT may have succeeded.
    pub(crate) in_doubt: Vec<Doubtful>,
    /// Those that were to come after them.
    pub(crate) untried: Vec<Unit>,
}

impl Doubt {
    /// Of a group, and of those that were to come after it, the last one in the list first.
    pub(super) fn new(error: Error, group: Vec<Unit>, behind: Vec<Vec<Unit>>) -> Self {
        Self {
            error,
            in_doubt: group.into_iter().map(Doubtful::from).collect(),
            untried: behind.into_iter().rev().flatten().collect(),
        }
    }
}

/// A unit that may be committed. Its rows are no longer needed.
pub(crate) struct Doubtful {
    keyed: Option<Keyed>,
    rows: u64,
    bytes: u64,
    answer: oneshot::Sender<Result<Ack>>,
    _held: Held,
}

impl From<Unit> for Doubtful {
    fn from(unit: Unit) -> Self {
        let Unit { keyed, rows, bytes, answer, held, .. } = unit;
        Self { keyed, rows: rows as u64, bytes: bytes as u64, answer, _held: held }
    }
}

impl From<BulkCommit> for Doubtful {
    /// Drops the connection, which belongs to the instance that has failed.
    fn from(bulk: BulkCommit) -> Self {
        let BulkCommit { keyed, rows, bytes, answer, held, .. } = bulk;
        Self { keyed, rows: rows as u64, bytes: bytes as u64, answer, _held: held }
    }
}

impl Doubtful {
    /// Answers by a ledger that was read after the failure; `None` where it could not be read. `undone` is what a
    /// keyed unit is told that may be sent again.
    pub(crate) fn settle(self, ledger: Option<&Ledger>, error: &Error, undone: &Error) {
        let outcome = match (&self.keyed, ledger) {
            (Some(keyed), Some(ledger)) => match ledger.judge(&keyed.key) {
                Ok(Verdict::Known(committed)) if committed.hash == keyed.hash => Ok(Ack {
                    rows: self.rows,
                    bytes: self.bytes,
                    commit: committed.commit,
                    committed: true,
                    duplicate: false,
                }),
                _ => Err(undone.clone()),
            },
            // The key makes it harmless to send the unit again.
            (Some(_), None) => Err(undone.clone()),
            (None, _) => Err(match error {
                Error::CommitUnknown(_) => error.clone(),
                other => Error::CommitUnknown(other.to_string()),
            }),
        };
        let _ = self.answer.send(outcome);
    }
}
