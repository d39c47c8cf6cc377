//! Where groups are committed: DuckDB, or in tests a model of it.

use super::Unit;
use crate::engine::{
    Error, Result,
    error::Class,
    ledger::{Committed, Entry, IngestKey},
};

/// One database, as the writer sees it.
pub(super) trait Storage {
    /// A transaction that another thread may commit.
    type Transaction: Transaction;

    /// Commits the rows of all units and the entries of the ledger in one transaction, while no other is open. After
    /// any failure but [`Error::CommitUnknown`] nothing of them is in the database.
    fn commit(&mut self, units: &[Unit], entries: &[Entry]) -> Result<(), Failure>;

    /// Begins a transaction that may stay open while the one before it commits; `None` when groups have to be
    /// committed one after the other for now.
    fn begin(&mut self) -> Option<Self::Transaction>;

    /// Adds units and entries to a transaction. After a failure it can only be dropped.
    fn append(
        &mut self,
        transaction: &mut Self::Transaction,
        units: &[Unit],
        entries: &[Entry],
    ) -> Result<(), Failure>;

    /// What the ledger on disk knows of a unit.
    fn look_up(&mut self, key: &IngestKey) -> Result<Option<Committed>>;
}

/// A transaction that lacks its COMMIT. Dropped, it is rolled back.
pub(super) trait Transaction {
    /// Commits. After any failure but [`Error::CommitUnknown`] nothing of it is in the database.
    fn commit(self) -> Result<(), Failure>;
}

/// Why a group was not committed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    /// The member that is to blame, where the failure tells.
    pub(super) unit: Option<usize>,
}

impl Failure {
    /// One that no member can be blamed for yet.
    pub(super) fn whole(error: impl Into<Error>) -> Self {
        Self { error: error.into(), unit: None }
    }

    /// Whether the same group may well succeed when it is tried again.
    pub(super) fn is_conflict(&self) -> bool {
        self.error.class() == Some(Class::Conflict)
    }

    /// What the group is to blame for as a whole, so that looking for a culprit in it is no use.
    pub(super) fn concerns_all(&self) -> bool {
        matches!(self.error, Error::CommitUnknown(_) | Error::DiskFull | Error::EngineDown)
            || matches!(self.error.class(), Some(Class::Fatal | Class::Down | Class::DiskFull))
    }

    /// Whether the database has to be opened again before anybody knows what became of the group.
    pub(super) fn is_in_doubt(&self) -> bool {
        matches!(self.error, Error::CommitUnknown(_))
    }
}
