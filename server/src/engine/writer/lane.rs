//! A connection of the writer, and rows into the transaction that is open on it.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{
    Unit,
    actor::commit_error,
    rows::insert_units,
    storage::{Failure, Transaction},
};
use crate::engine::{
    Result,
    appends::Load,
    clock::CommitClock,
    database::{Database, Pooled},
    ffi::{DuckError, ScanRegistry},
    insert::Inserts,
    ledger::{Entry, LedgerTable},
    transaction_statements::TransactionStatements,
};

/// A connection and what is planned on it.
pub(super) struct Lane {
    pub(super) connection: Pooled,
    inserts: Inserts,
    statements: TransactionStatements,
    /// The number of schema changes before which its statements were planned.
    planned_at: u64,
}

impl Lane {
    pub(super) fn open(database: &Arc<Database>) -> Result<Self> {
        let (inserts, statements) = (Inserts::default(), TransactionStatements::of_write());
        Ok(Self { connection: database.private_connection()?, inserts, statements, planned_at: 0 })
    }

    /// Lets go of what the plans hold of the instance.
    pub(super) fn forget_plans(&mut self) {
        self.inserts = Inserts::default();
        self.statements = TransactionStatements::of_write();
    }

    pub(super) fn begin(&mut self) -> Result<(), DuckError> {
        self.statements.begin(&self.connection)
    }

    /// Inserts the rows of all units; who creates a table does so first. After a change of a schema DuckDB would plan
    /// each statement anew with every run, so that they are forgotten.
    pub(super) fn insert(
        &mut self,
        database: &Database,
        clock: &CommitClock,
        units: &[Unit],
    ) -> Result<(), Failure> {
        let now = clock.schemas();
        if self.planned_at != now {
            self.inserts = Inserts::default();
            self.planned_at = now;
        }
        let mut timed = database.appends.begin(&self.connection, Load::of_group(units));
        insert_units(&self.connection, &database.scans, &mut self.inserts, &mut timed, units)
    }

    /// Adds entries to the ledger, where there are any.
    pub(super) fn note(
        &mut self,
        scans: &Arc<ScanRegistry>,
        ledger: &LedgerTable,
        entries: &[Entry],
    ) -> Result<(), Failure> {
        if entries.is_empty() {
            return Ok(());
        }
        ledger.insert(&self.connection, scans, &mut self.inserts, entries).map_err(Failure::whole)
    }

    /// Ends the transaction that [`Lane::begin`] began, with success or not.
    pub(super) fn commit(&self) -> Result<(), Failure> {
        self.statements.end().map_err(|error| {
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
        lane.lock().begin()?;
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
