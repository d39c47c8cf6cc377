//! A connection of the writer, and rows into the transaction that is open on it.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{
    Unit,
    actor::commit_error,
    rows::append_units,
    storage::{Failure, Transaction},
};
use crate::engine::{
    Result,
    append::Imports,
    clock::CommitClock,
    database::{Database, Pooled},
    ffi::{DuckError, ScanRegistry},
    ledger::{Entry, LedgerTable},
};

/// A connection and what it appends with. An import works through the connection that it was made on and waits for
/// whatever that is doing, so that each lane has its own.
pub(super) struct Lane {
    pub(super) connection: Pooled,
    imports: Imports,
}

impl Lane {
    pub(super) fn open(database: &Arc<Database>) -> Result<Self> {
        Ok(Self { connection: database.private_connection()?, imports: Imports::default() })
    }

    /// Lets go of what the imports hold of the instance.
    pub(super) fn forget_imports(&mut self) {
        self.imports = Imports::default();
    }

    /// Appends the rows of all units; who creates a table does so first.
    pub(super) fn append(&mut self, scans: &Arc<ScanRegistry>, units: &[Unit]) -> Result<(), Failure> {
        append_units(&self.connection, scans, &mut self.imports, units)
    }

    /// Appends entries of the ledger, where there are any.
    pub(super) fn note(
        &mut self,
        scans: &Arc<ScanRegistry>,
        ledger: &LedgerTable,
        entries: &[Entry],
    ) -> Result<(), Failure> {
        if entries.is_empty() {
            return Ok(());
        }
        ledger.append(&self.connection, scans, &mut self.imports, entries).map_err(Failure::whole)
    }

    /// Ends the transaction, with success or not.
    pub(super) fn commit(&self) -> Result<(), Failure> {
        self.connection.execute("COMMIT").map(drop).map_err(|error| {
            self.roll_back();
            Failure::whole(commit_error(error.into()))
        })
    }

    /// Ends the transaction. Where that fails there is none either: DuckDB has ended it.
    pub(super) fn roll_back(&self) {
        let _ = self.connection.execute("ROLLBACK");
    }
}

/// A transaction on a lane of its own, which is free again once this is dropped.
pub(super) struct Pending {
    lane: Arc<Mutex<Lane>>,
    clock: Arc<CommitClock>,
    open: bool,
}

impl Pending {
    pub(super) fn begin(lane: Arc<Mutex<Lane>>, clock: Arc<CommitClock>) -> Result<Self, DuckError> {
        lane.lock().connection.execute("BEGIN TRANSACTION")?;
        Ok(Self { lane, clock, open: true })
    }

    /// Does something in the transaction.
    pub(super) fn with<R>(&mut self, work: impl FnOnce(&mut Lane) -> R) -> R {
        work(&mut self.lane.lock())
    }
}

impl Transaction for Pending {
    fn commit(mut self) -> Result<(), Failure> {
        self.open = false;
        let _writing = self.clock.writing();
        self.lane.lock().commit()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.open {
            self.lane.lock().roll_back();
        }
    }
}
