//! Writes that are no ingest: DML, DDL and scripts, one at a time, with the turn.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use super::{
    BatchStream, Engine, Error, Execution, Names, Outcome, Place, Result, Statement, StatementKind,
    batch_stream::{Cancel, CancelOnDrop},
    binding::Binding,
    clock::CommitClock,
    coalesce::Coalescer,
    database::Pooled,
    error::Class,
    ffi::{Prepared, Rows},
    gates::Excluding,
    lake::{self, Alone, PinnedSchemas},
    open_writes::Kind,
    statement::extract,
    types::Wire,
    writer::commit_error,
};
use crate::sql;

/// The rows that a write may return (RETURNING, EXPLAIN ANALYZE): they are held in memory until the turn
/// is given up, because a client that reads slowly must not hold up the next write.
const SPOOL_BYTES: usize = 32 << 20;

/// What a statement gave that ran to its end.
#[derive(Default)]
pub(super) struct Spooled {
    changed: u64,
    rows: Option<(SchemaRef, Vec<RecordBatch>)>,
}

impl From<Spooled> for Outcome {
    fn from(spooled: Spooled) -> Self {
        match spooled.rows {
            Some((schema, batches)) => Self::Rows(BatchStream::spooled(schema, batches)),
            None => Self::Changed(spooled.changed),
        }
    }
}

impl Engine {
    /// Runs one statement or a script for its effect; a script is one transaction, all or nothing.
    ///
    /// # Errors
    /// Everything DuckDB says; [`Error::ReadOnly`]; [`Error::WriteBusy`] when the turn is not free in time.
    pub async fn write(&self, place: &Place, statement: Statement) -> Result<Outcome> {
        self.write_watched(place, statement, &Execution::default()).await
    }

    /// The same as an execution that somebody watches and may stop.
    ///
    /// # Errors
    /// As [`Engine::write`]; a stopped one was interrupted.
    pub async fn write_watched(
        &self,
        place: &Place,
        statement: Statement,
        execution: &Execution,
    ) -> Result<Outcome> {
        let written = execution
            .or_stopped(async {
                if let Some(file) = sql::backup(&statement.sql) {
                    return self.backup(file?, execution).await;
                }
                if let Some(job) = sql::job(&statement.sql) {
                    return self.run_asked(job?).await;
                }
                if let Some(ending) = sql::ending(&statement.sql) {
                    return self.end_asked(ending?);
                }
                match place {
                    Place::Shared(names) if sql::is_export(&statement.sql) => {
                        self.export(names.clone(), statement, execution).await
                    }
                    Place::Shared(names) => self.write_with(names.clone(), statement, execution).await,
                    Place::Own(workspace, open) => self.run_in(workspace, *open, statement, execution).await,
                }
            })
            .await;
        self.named(written).await
    }

    async fn write_with(
        &self,
        names: Option<Names>,
        statement: Statement,
        execution: &Execution,
    ) -> Result<Outcome> {
        if self.read_only() {
            return Err(Error::ReadOnly);
        }
        let admitted = async {
            let (turn, open) = self.writing_turn(&statement.sql, Kind::Statement).await?;
            let exclusion = sql::exclusion(&statement.sql);
            let excluding = self.shared.turn.exclude(&exclusion, &Excluding::default()).await?;
            Ok((excluding, turn, open))
        };
        // It holds nothing of the instance, but what it waits for may be held until the next one is open.
        let (excluding, turn, open) = self.shared.database.while_open(admitted).await?;
        let cancel = CancelOnDrop::default();
        execution.begins(&cancel.0);
        open.stops(&cancel.0);
        self.limit_write(&cancel.0);
        let job = Write {
            statement,
            cancel: cancel.0.clone(),
            clock: Arc::clone(&self.shared.clock),
            check: StatementKind::check_stateless,
            watched: execution.is_watched(),
        };
        let database = Arc::clone(&self.shared.database);
        let ran = self.blocking(move || {
            let _held = (excluding, turn, open);
            let connection = database.connection_with(names.as_ref())?;
            let _writing = connection.exports().writing(&job.statement.sql)?;
            database.quarantine.guard(&job.statement.sql, || job.run(&connection))
        });
        // A stopped write is waited for: it may have committed just before.
        ran.await.map(Outcome::from).map_err(|error| cancel.0.explain(error))
    }
}

/// One write on its thread.
pub(super) struct Write {
    pub(super) statement: Statement,
    pub(super) cancel: Cancel,
    pub(super) clock: Arc<CommitClock>,
    /// Refuses what must not run on the connection.
    pub(super) check: fn(StatementKind) -> Result<()>,
    /// Somebody asks how far it is.
    pub(super) watched: bool,
}

impl Write {
    pub(super) fn run(&self, connection: &Pooled) -> Result<Spooled> {
        // Where it cannot be counted, nobody is told how far the statement is.
        let _counting = self.watched.then(|| connection.count_progress());
        connection.keep_catalogs(&self.statement.sql)?;
        let statements = extract(connection, connection.exports(), &self.statement.sql)?;
        let rows = self.statement.parameters.as_ref().map_or(1, RecordBatch::num_rows);
        // What may still fail after the statement has run must be able to undo it.
        let transaction = statements.len() > 1
            || rows > 1
            || sql::has_returning(&self.statement.sql)
            || sql::plans_over_data(&self.statement.sql);
        if statements.len() > 1 && self.statement.parameters.is_some() {
            return Err(Error::MultiStatement(statements.len()));
        }
        let text = &self.statement.sql;
        // Where no lake is shared no text need be read for it.
        let may_lose = connection.shares_a_lake()
            && if transaction { lake::takes_away(text) } else { lake::replaces(text) };
        let alone = may_lose.then(|| Alone::on(connection).ok()).flatten();
        let explain = |error| if alone.is_some() { lake::explain(error) } else { error };
        let _writing = self.clock.writing();
        let mut schemas = SchemaChange { clock: &self.clock, changed: false };
        let mut pinned = PinnedSchemas::default();
        if transaction {
            connection.execute("BEGIN")?;
        }
        let outcome = (0..statements.len()).try_fold(Spooled::default(), |before, index| {
            let prepared = statements.prepare(index)?;
            if statements.is_frame(index, &prepared) {
                return Ok(before);
            }
            (self.check)(prepared.kind())?;
            if !prepared.kind().keeps_schemas() {
                schemas.changed = true;
                connection.pin_schemas(&mut pinned, &self.statement.sql);
            }
            run_prepared(&prepared, &self.statement, &self.cancel)
        });
        if transaction {
            let end = if outcome.is_ok() { "COMMIT" } else { "ROLLBACK" };
            let ended = connection.execute(end);
            if outcome.is_ok() {
                ended.map_err(|error| commit_error(explain(error.into())))?;
            }
            return outcome;
        }
        // Outside a transaction the statement commits itself, and that may be what failed.
        outcome.map_err(explain).map_err(|error| match error.class() {
            Some(Class::Fatal) => commit_error(error),
            _ => error,
        })
    }
}

/// Tells the clock of a schema change on every way out, also the failing ones.
struct SchemaChange<'a> {
    clock: &'a CommitClock,
    changed: bool,
}

impl Drop for SchemaChange<'_> {
    fn drop(&mut self) {
        if self.changed {
            self.clock.schema_changed();
        }
    }
}

/// Runs a statement once for each row of its parameters and adds up what changed.
pub(super) fn run_prepared(prepared: &Prepared, statement: &Statement, cancel: &Cancel) -> Result<Spooled> {
    let mut total = Spooled::default();
    let rows = statement.parameters.as_ref().map_or(1, RecordBatch::num_rows);
    // No rows are none that could be wrong.
    if rows == 0 {
        return Ok(total);
    }
    let binding = Binding::of(prepared, statement)?;
    for row in 0..rows {
        binding.bind(row)?;
        cancel.while_running(prepared.interrupt(), || {
            let mut rows = prepared.execute()?;
            if rows.has_rows() {
                total.rows = Some(spool(rows)?);
            } else {
                total.changed += rows.rows_changed();
            }
            Ok(())
        })?;
    }
    Ok(total)
}

fn spool(mut rows: Rows) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let wire = Wire::new(rows.schema());
    let mut coalescer = Coalescer::new(wire.schema());
    let mut batches = Vec::new();
    let mut bytes = 0;
    while let Some(batch) = coalescer.fetch(&mut rows)? {
        bytes += batch.get_array_memory_size();
        if bytes > SPOOL_BYTES {
            return Err(Error::ResultTooLarge(SPOOL_BYTES));
        }
        batches.extend(coalescer.push(wire.convert(batch)?)?);
    }
    batches.extend(coalescer.finish()?);
    Ok((wire.schema(), batches))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;
    use tokio::time::timeout;

    use super::*;
    use crate::engine::Options;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_write_that_waits_for_its_turn_learns_that_the_instance_fails() {
        let long = Duration::from_secs(60);
        let folder = tempfile::tempdir().unwrap();
        let path = Some(folder.path().join("a.db"));
        let engine = Engine::open(Options { path, wait: 60 * long, ..Options::default() }).unwrap();
        let turn = engine.shared.turn.take().await.unwrap();
        let place = Place::Shared(None);
        let mut waiting = Box::pin(engine.write(&place, Statement::new("CREATE TABLE t (i INTEGER)")));
        assert!((&mut waiting).now_or_never().is_none());
        engine.reopen("a test");
        let ended = timeout(long, waiting).await.expect("it waits for ever");
        assert!(matches!(ended, Err(Error::EngineDown)));
        drop(turn);
        engine.shutdown().await;
    }
}
