//! One transaction of the writer.

use std::sync::Arc;

use super::{
    BulkCommit, Unit,
    actor::commit_error,
    rows::append_units,
    storage::{Failure, Storage},
};
use crate::engine::{
    Result,
    append::Imports,
    clock::CommitClock,
    database::{Database, Pooled},
    ledger::{Committed, Entry, IngestKey, Ledger, LedgerTable, SharedLedger},
};

/// A group of more rows than this is not left to a single flush: the appender flushes by itself at 204,800
/// rows, which would commit a part.
const ONE_FLUSH_ROWS: usize = 150_000;

/// The writer's connection and what it commits with.
pub(super) struct DuckStorage {
    pub(super) connection: Pooled,
    pub(super) database: Arc<Database>,
    pub(super) ledger: Arc<LedgerTable>,
    pub(super) clock: Arc<CommitClock>,
    pub(super) imports: Imports,
}

impl Storage for DuckStorage {
    /// The order on failure matters: the appender goes first (an appender that lives flushes its rows), then
    /// ROLLBACK; and COMMIT is never called after an error, because DuckDB answers it with success.
    fn commit(&mut self, units: &[Unit], entries: &[Entry]) -> Result<(), Failure> {
        self.database.disk.check(bytes_on_disk(units)).map_err(Failure::whole)?;
        let clock = Arc::clone(&self.clock);
        let _writing = clock.writing();
        if entries.is_empty() && is_one_flush(units) {
            return self.append_all(units).map_err(|failure| Failure {
                error: if failure.unit.is_none() { commit_error(failure.error) } else { failure.error },
                ..failure
            });
        }
        if !entries.is_empty() {
            self.ledger.ensure(&self.connection).map_err(Failure::whole)?;
        }
        self.connection.execute("BEGIN TRANSACTION").map_err(Failure::whole)?;
        if let Err(failure) = self.append_all(units).and_then(|()| self.append_entries(entries)) {
            // A failed ROLLBACK leaves no transaction either: DuckDB has ended it.
            let _ = self.connection.execute("ROLLBACK");
            return Err(failure);
        }
        if let Err(error) = self.connection.execute("COMMIT") {
            let _ = self.connection.execute("ROLLBACK");
            return Err(Failure::whole(commit_error(error.into())));
        }
        if units.iter().any(|unit| unit.create.is_some()) {
            clock.schema_changed();
        }
        Ok(())
    }

    fn commit_bulk(&mut self, bulk: &BulkCommit, entries: &[Entry]) -> Result<(), Failure> {
        if !entries.is_empty() {
            // The connection is the upload's own, so the writer's imports are of no use.
            self.ledger
                .append(&bulk.connection, &self.database.scans, &mut Imports::default(), entries)
                .map_err(Failure::whole)?;
        }
        let clock = Arc::clone(&self.clock);
        let _writing = clock.writing();
        let committed = bulk.connection.execute("COMMIT");
        if bulk.creates {
            clock.schema_changed();
        }
        committed.map(|_| ()).map_err(|error| Failure::whole(commit_error(error.into())))
    }

    fn look_up(&mut self, key: &IngestKey) -> Result<Option<Committed>> {
        self.ledger.look_up(&self.connection, key)
    }

    fn load(&mut self) -> Result<Ledger> {
        self.ledger.look_again(&self.connection)?;
        self.ledger.load(&self.connection)
    }

    /// Nobody else writes to the server's own database.
    fn catch_up(&mut self, ledger: &SharedLedger) -> Result<u64> {
        Ok(ledger.lock().highest_commit())
    }
}

/// Outside a transaction, flushing an appender is one of its own: it appends and commits without passing
/// through DuckDB's parser and scheduler, in which this thread would wait spinning (a third of a small
/// group's time). That serves the usual group without keys: all rows for one table, of its own types.
fn is_one_flush(units: &[Unit]) -> bool {
    let rows: usize = units.iter().map(|unit| unit.rows).sum();
    units.first().is_none_or(|first| {
        rows <= ONE_FLUSH_ROWS
            && !first.target.casts
            && units.iter().all(|unit| unit.create.is_none() && unit.target == first.target)
    })
}

/// What a commit may take of the disk: the rows go to the log first, and into the file later.
fn bytes_on_disk(units: &[Unit]) -> u64 {
    units.iter().map(|unit| unit.bytes as u64).sum()
}

impl DuckStorage {
    fn append_all(&mut self, units: &[Unit]) -> Result<(), Failure> {
        append_units(&self.connection, &self.database.scans, &mut self.imports, units)
    }

    fn append_entries(&mut self, entries: &[Entry]) -> Result<(), Failure> {
        if entries.is_empty() {
            return Ok(());
        }
        let Self { connection, database, ledger, imports, .. } = self;
        ledger.append(connection, &database.scans, imports, entries).map_err(Failure::whole)
    }
}
