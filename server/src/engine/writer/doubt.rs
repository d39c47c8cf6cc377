//! Units of which nobody knows whether they are committed, until the database has been opened again.

use tokio::sync::oneshot;

use super::{BulkCommit, Part, Unit, command::Held};
use crate::engine::{
    Error, Result,
    database::Pooled,
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
    /// What they have kept. It keeps others away until the failed instance is condemned, and has to be dropped then: the
    /// connection is a part of it, and those who wait for a gate or the turn may hold other parts.
    pub(crate) kept: Box<[(Option<Pooled>, Held)]>,
}

impl Doubt {
    /// Of an upload that was not a unit, or several.
    pub(super) fn of_bulk(error: Error, bulk: BulkCommit) -> Self {
        let BulkCommit { parts, connection, held, .. } = bulk;
        let in_doubt = parts.into_iter().map(Doubtful::from).collect();
        Self { error, in_doubt, untried: Vec::new(), kept: Box::new([(Some(connection), held)]) }
    }

    /// Of a group, and of those that were to come after it, the last one in the list first.
    pub(super) fn new(error: Error, group: Vec<Unit>, behind: Vec<Vec<Unit>>) -> Self {
        let (in_doubt, kept): (_, Vec<_>) = group.into_iter().map(doubtful).unzip();
        let untried = behind.into_iter().rev().flatten().collect();
        Self { error, in_doubt, untried, kept: kept.into_boxed_slice() }
    }
}

/// A unit that may be committed. Its rows are no longer needed.
pub(crate) struct Doubtful {
    keyed: Option<Keyed>,
    rows: u64,
    bytes: u64,
    answer: oneshot::Sender<Result<Ack>>,
}

fn doubtful(unit: Unit) -> (Doubtful, (Option<Pooled>, Held)) {
    let Unit { keyed, rows, bytes, answer, held, .. } = unit;
    (Doubtful { keyed, rows: rows as u64, bytes: bytes as u64, answer }, (None, held))
}

impl From<Part> for Doubtful {
    fn from(part: Part) -> Self {
        let Part { keyed, rows, bytes, answer, .. } = part;
        Self { keyed, rows: rows as u64, bytes: bytes as u64, answer }
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
