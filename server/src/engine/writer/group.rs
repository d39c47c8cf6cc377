//! One transaction of the writer.

use std::sync::Arc;

use super::{
    Unit,
    actor::commit_error,
    storage::{Failure, Storage},
};
use crate::engine::{
    Result,
    append::{Imports, Sink, Target},
    clock::CommitClock,
    database::{Database, Pooled},
    ffi::DuckError,
    ledger::{Committed, Entry, IngestKey, LedgerTable},
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

    fn look_up(&mut self, key: &IngestKey) -> Result<Option<Committed>> {
        self.ledger.look_up(&self.connection, key)
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

impl DuckStorage {
    fn append_all(&mut self, units: &[Unit]) -> Result<(), Failure> {
        let blame = |unit: usize| move |error: DuckError| Failure { error: error.into(), unit: Some(unit) };
        for (index, unit) in units.iter().enumerate() {
            if let Some(create) = &unit.create {
                self.connection.execute(create).map_err(blame(index))?;
            }
        }
        // One sink takes the rows of all units for one target.
        for target in targets(units) {
            let sink = Sink::open(&self.connection, &self.database.scans, target).map_err(Failure::whole)?;
            for (index, unit) in units.iter().enumerate().filter(|(_, unit)| unit.target == *target) {
                for batch in &unit.batches {
                    sink.take(&mut self.imports, batch).map_err(blame(index))?;
                }
            }
            sink.finish().map_err(Failure::whole)?;
        }
        Ok(())
    }

    fn append_entries(&mut self, entries: &[Entry]) -> Result<(), Failure> {
        if entries.is_empty() {
            return Ok(());
        }
        let Self { connection, database, ledger, imports, .. } = self;
        ledger.append(connection, &database.scans, imports, entries).map_err(Failure::whole)
    }
}

/// The distinct targets of units with rows, in the order of their first unit.
fn targets(units: &[Unit]) -> Vec<&Target> {
    let mut targets: Vec<&Target> = Vec::new();
    for unit in units.iter().filter(|unit| unit.rows > 0) {
        if !targets.contains(&&unit.target) {
            targets.push(&unit.target);
        }
    }
    targets
}
