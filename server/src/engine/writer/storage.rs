//! Where groups are committed: DuckDB, or in tests a model of it.

use super::{BulkCommit, Unit};
use crate::engine::{
    Error, Result,
    error::Class,
    ledger::{Committed, Entry, IngestKey, Ledger, SharedLedger},
};

/// One database, as its committer sees it.
pub(crate) trait Storage {
    /// Commits the rows of all units and the entries of the ledger in one transaction, while no other is open. After
    /// any failure but [`Error::CommitUnknown`] nothing of them is in the database.
    fn commit(&mut self, units: &[Unit], entries: &[Entry]) -> Result<(), Failure>;

    /// Commits an upload that is on a connection of its own, together with entries of the ledger. The same holds
    /// after a failure.
    fn commit_bulk(&mut self, bulk: &BulkCommit, entries: &[Entry]) -> Result<(), Failure>;

    /// What the ledger on disk knows of a unit.
    fn look_up(&mut self, key: &IngestKey) -> Result<Option<Committed>>;

    /// The ledger as it is on disk.
    fn load(&mut self) -> Result<Ledger>;

    /// Whether it has taken too long of late to add rows to a unit's table. Then it is committed alone, after others.
    fn is_slow(&self, _unit: &Unit) -> bool {
        false
    }

    /// Whether other servers write to it as well, so that the ledger in memory may be behind.
    fn is_shared(&self) -> bool {
        false
    }

    /// Takes into the ledger what others have committed, after [`Error::Overtaken`]. Gives the number of the last
    /// commit. Where nobody else writes, the ledger knows it all.
    fn catch_up(&mut self, ledger: &SharedLedger) -> Result<u64> {
        Ok(ledger.lock().highest_commit())
    }
}

/// A database in which the next group may be appended while the one before it commits.
pub(super) trait Overlapping: Storage {
    /// A transaction that another thread may commit.
    type Transaction: Transaction;

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
}

/// A transaction that lacks its COMMIT. Dropped, it is rolled back.
pub(super) trait Transaction {
    /// Commits. After any failure but [`Error::CommitUnknown`] nothing of it is in the database.
    fn commit(self) -> Result<(), Failure>;
}

/// Why a group was not committed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    /// The member that is to blame, where the failure tells.
    pub(crate) unit: Option<usize>,
}

impl Failure {
    /// One that no member can be blamed for yet.
    pub(crate) fn whole(error: impl Into<Error>) -> Self {
        Self { error: error.into(), unit: None }
    }

    /// Whether the same group may well succeed when it is tried again.
    pub(crate) fn is_conflict(&self) -> bool {
        self.error.class() == Some(Class::Conflict)
    }

    /// Whether others have committed first, so that it is to be judged anew.
    pub(super) fn is_overtaken(&self) -> bool {
        matches!(self.error, Error::Overtaken(_))
    }

    /// Whether the database has to be opened again before anybody knows what became of the group.
    pub(super) fn is_in_doubt(&self) -> bool {
        matches!(self.error, Error::CommitUnknown(_))
    }
}

/// Whether a group may have failed so because of one of its members. If not, looking for a culprit in it is no use.
pub(crate) fn may_be_of_one(error: &Error) -> bool {
    match error {
        Error::SchemaMismatch(_) | Error::BadArrow(_) | Error::Internal(_) => true,
        Error::IngestTimeout { .. } | Error::TableSlow { .. } => true,
        Error::Duck { class, .. } => {
            !matches!(class, Class::Fatal | Class::Down | Class::DiskFull | Class::Interrupted)
        }
        _ => false,
    }
}
