//! Reads: a permit, a connection, and a loop on a thread that may block.
//!
//! A read prepares and executes inside one READ ONLY transaction, so its plan and its rows belong to the
//! same snapshot: a plan made before other rows were committed answers wrongly (stale statistics).

use std::sync::Arc;

use arrow_schema::SchemaRef;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{
    BatchStream, Engine, Error, Execution, Names, Outcome, Place, Result, Statement, StatementKind,
    activity::{self, State},
    batch_stream::CancelOnDrop,
    binding::bind,
    clock::{CommitClock, Stamp},
    database::{Database, INGEST_LISTING, JOBS_LISTING, Pooled},
    delivery::Delivery,
    error::Class,
    ffi::Prepared,
    permit,
    plans::Plan,
    posted::Posted,
    statement::plan_unless_stopped,
    types::Wire,
};
use crate::sql;

/// How a read starts: with rows to come, or with the news that the statement writes.
enum Started {
    Rows(SchemaRef),
    Writes,
}

impl Engine {
    /// Runs one statement. Reads stream; a statement that turns out to write waits for the turn.
    ///
    /// # Errors
    /// Everything DuckDB says; [`Error::ReadBusy`], [`Error::MultiStatement`], [`Error::Timeout`].
    pub async fn run(&self, place: &Place, statement: Statement) -> Result<Outcome> {
        self.named(self.run_unnamed(place, statement).await).await
    }

    /// The same, where an error may not name the catalog that is out of reach.
    async fn run_unnamed(&self, place: &Place, statement: Statement) -> Result<Outcome> {
        if sql::is_own(&statement.sql) {
            return self.write(place, statement).await;
        }
        if self.shared.attached.is_shared() && sql::mentions(&statement.sql, INGEST_LISTING) {
            self.shared.attached.catch_up().await;
        }
        if sql::mentions(&statement.sql, JOBS_LISTING) {
            self.ask_of_jobs().await;
        }
        let names = match place {
            Place::Shared(names) => names,
            Place::Own(workspace, open) => {
                return self.run_in(workspace, *open, statement, &Execution::default()).await;
            }
        };
        match self.read(names.clone(), statement.clone()).await? {
            Some(rows) => Ok(Outcome::Rows(rows)),
            None => self.write(place, statement).await,
        }
    }

    /// The rows of a statement that only reads; `None` when it writes, in which case it has not run.
    async fn read(&self, names: Option<Names>, statement: Statement) -> Result<Option<BatchStream>> {
        self.read_over(names, statement, None).await
    }

    /// The same, over rows that came with the request.
    pub(super) async fn read_over(
        &self,
        names: Option<Names>,
        statement: Statement,
        posted: Option<Posted>,
    ) -> Result<Option<BatchStream>> {
        self.check_checkpoint(&statement.sql)?;
        let permit = self.read_permit_for(&statement.sql).await?;
        let database = Arc::clone(&self.shared.database);
        let cancel = CancelOnDrop::default();
        self.limit_read(&cancel.0);
        let (start, started) = oneshot::channel();
        let (delivery, batches) = self.delivery(&cancel.0);
        let clock = Arc::clone(&self.shared.clock);
        let read = Read { statement, names, delivery, clock, _permit: permit };
        let span = tracing::Span::current();
        tokio::task::spawn_blocking(move || span.in_scope(|| read.run(&database, start, posted)));
        let started =
            async { started.await.map_err(|_| Error::Internal("the read ended without an answer".into()))? };
        match cancel.0.unless_overdue(started).await? {
            Started::Rows(schema) => Ok(Some(BatchStream::running(schema, batches, cancel))),
            Started::Writes => Ok(None),
        }
    }

    pub(super) async fn read_permit(&self) -> Result<OwnedSemaphorePermit> {
        self.place_of(&self.shared.reads).await
    }

    /// The same for a statement that may be one that looks at what goes on.
    pub(super) async fn read_permit_for(&self, sql: &str) -> Result<OwnedSemaphorePermit> {
        let [looking, _] = &self.shared.looking;
        self.place_of(if activity::looks(sql) { looking } else { &self.shared.reads }).await
    }

    /// The places where a statement may be planned.
    pub(super) fn planning_places(&self, sql: &str) -> Arc<Semaphore> {
        let [_, looking] = &self.shared.looking;
        Arc::clone(if activity::looks(sql) { looking } else { &self.shared.planning })
    }

    pub(super) async fn place_of(&self, places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
        let waited = self.shared.options.wait;
        let permits = self.shared.options.read_concurrency;
        let _waiting = activity::enter(State::WaitsForPlace);
        permit::take(places, 1, waited, || Error::ReadBusy { permits, waited }).await
    }
}

/// One read on its thread. Dropping it gives the permit back.
struct Read {
    statement: Statement,
    names: Option<Names>,
    delivery: Delivery,
    clock: Arc<CommitClock>,
    _permit: OwnedSemaphorePermit,
}

/// A query whose error was forgotten runs again so often at most.
const CAUSE_TRIES: u32 = 3;

/// Where the news goes that the read has started.
type Start = Option<oneshot::Sender<Result<Started>>>;

/// What a plan gave.
enum Ran {
    /// Its rows were delivered.
    Read,
    /// It writes, so the READ ONLY transaction refused it.
    Writes,
    /// Something was committed since it was made; it must not run.
    Stale,
}

impl Read {
    fn run(self, database: &Arc<Database>, start: oneshot::Sender<Result<Started>>, posted: Option<Posted>) {
        let mut start = Some(start);
        let posted = posted.as_ref();
        let mut streamed = self.stream(database, posted, &mut start);
        // Nothing has gone out yet, and the snapshot of now has the files that are there.
        if matches!(streamed, Err(Error::FilesGone)) && start.is_some() {
            streamed = self.stream(database, posted, &mut start);
        }
        if let Err(error) = streamed {
            let error = match self.delivery.cancel.explain(error) {
                Error::CauseLost => self.cause(database, posted),
                error => error,
            };
            match start {
                // A client that has gone needs no answer.
                Some(start) => drop(start.send(Err(error))),
                None => self.delivery.cancel.fail(error),
            }
        }
    }

    fn stream(&self, database: &Arc<Database>, posted: Option<&Posted>, start: &mut Start) -> Result<()> {
        database.quarantine.guard(&self.statement.sql, || {
            self.on_connection(database, posted, |connection, sql| self.stream_on(connection, sql, start))
        })
    }

    /// Runs `work` on a connection of its own, where the posted rows are a view, with the statement's text as it is to
    /// be there.
    fn on_connection(
        &self,
        database: &Arc<Database>,
        posted: Option<&Posted>,
        work: impl FnOnce(&mut Pooled, &str) -> Result<()>,
    ) -> Result<()> {
        let (names, sql) = (self.names.as_ref(), self.statement.sql.as_str());
        match posted {
            Some(posted) => {
                database.with_posted((posted, posted.relation(names)), self.clock.schemas(), sql, work)
            }
            None => work(&mut database.connection_with(names)?, sql),
        }
    }

    /// Runs the statement again, for nothing but the error that DuckDB forgot: nobody waits between two of its
    /// rows this time, so that it is forgotten once in a hundred runs. The snapshot is another one.
    fn cause(&self, database: &Arc<Database>, posted: Option<&Posted>) -> Error {
        for _ in 0..CAUSE_TRIES {
            match self.run_again(database, posted) {
                Err(error) if error.class() != Some(Class::NotFound) => {
                    match self.delivery.cancel.explain(error) {
                        Error::CauseLost => {}
                        cause => return cause,
                    }
                }
                // It goes well by now, or what it was about is gone.
                _ => break,
            }
        }
        Error::CauseLost
    }

    fn run_again(&self, database: &Arc<Database>, posted: Option<&Posted>) -> Result<()> {
        self.on_connection(database, posted, |connection, sql| {
            connection.begin_read()?;
            let failed = self.run_for_nothing(connection, sql);
            if connection.end_read().is_err() {
                connection.close();
            }
            failed
        })
    }

    fn run_for_nothing(&self, connection: &Pooled, sql: &str) -> Result<()> {
        let prepared = self.plan(connection, sql)?;
        bind(&prepared, &self.statement)?;
        self.delivery.cancel.while_running(prepared.interrupt(), || Ok(prepared.stream()?.discard()?))
    }

    /// Closes the connection where its state is not known afterwards.
    fn stream_on(&self, connection: &mut Pooled, sql: &str, start: &mut Start) -> Result<()> {
        let kept = self.clock.stamp().and_then(|now| connection.plans().take(sql, now));
        let kept = match kept {
            Some(plan) if plan.is_proven() => match self.reuse(&plan, start) {
                Ok(Ran::Read) => {
                    connection.plans().keep(plan);
                    return Ok(());
                }
                Ok(Ran::Writes | Ran::Stale) => None,
                Err(error) => {
                    // A stream that is left in the middle keeps its plan, and with posted rows the connection, until
                    // something else runs.
                    let _ = connection.end_read();
                    drop(plan);
                    connection.close();
                    return Err(error);
                }
            },
            unproven => unproven,
        };
        let now = self.clock.stamp();
        connection.begin_read()?;
        let outcome = self.plan_and_run(connection, sql, kept, now, start);
        let ended = connection.end_read();
        if ended.is_err() {
            connection.close();
            return outcome.map(|_| ());
        }
        if let Some(plan) = outcome? {
            connection.plans().keep(plan);
        }
        Ok(())
    }

    /// Runs a plan that this connection made, in no transaction but its own. The clock is read again once it
    /// runs, when its snapshot is taken: a commit in between makes it stale after all.
    fn reuse(&self, plan: &Plan, start: &mut Start) -> Result<Ran> {
        bind(plan.prepared(), &self.statement)?;
        self.run_plan(plan.prepared(), Some(plan.made()), start)
    }

    /// Runs inside the open transaction, by the plan that was made for its description where there is one;
    /// gives the plan if it may be kept.
    fn plan_and_run(
        &self,
        connection: &mut Pooled,
        sql: &str,
        described: Option<Plan>,
        now: Option<Stamp>,
        start: &mut Start,
    ) -> Result<Option<Plan>> {
        if let Some(plan) = described {
            match self.reuse(&plan, start)? {
                Ran::Read => return Ok(Some(plan.proven())),
                Ran::Writes => {
                    answer(start, Started::Writes);
                    return Ok(None);
                }
                Ran::Stale => {
                    // It may have failed, and the transaction with it.
                    connection.end_read()?;
                    connection.begin_read()?;
                }
            }
        }
        let prepared = match self.plan(connection, sql) {
            Err(Error::SeveralSteps) => {
                answer(start, Started::Writes);
                return Ok(None);
            }
            planned => planned?,
        };
        if !prepared.kind().may_read() {
            answer(start, Started::Writes);
            return Ok(None);
        }
        bind(&prepared, &self.statement)?;
        let ran = self.run_plan(&prepared, None, start)?;
        if matches!(ran, Ran::Writes) {
            answer(start, Started::Writes);
        }
        let reusable = matches!(ran, Ran::Read) && is_reusable(&prepared, sql);
        Ok(now.filter(|_| reusable).map(|now| Plan::new(sql, now, prepared).proven()))
    }

    /// Plans, which runs functions whose arguments are constants.
    fn plan(&self, connection: &Pooled, sql: &str) -> Result<Prepared> {
        plan_unless_stopped(connection, sql, &self.delivery.cancel)
    }

    /// Runs a plan and delivers its rows, unless the clock has moved on from `made` when it starts.
    fn run_plan(&self, prepared: &Prepared, made: Option<Stamp>, start: &mut Start) -> Result<Ran> {
        self.delivery.cancel.while_running(prepared.interrupt(), || self.stream_plan(prepared, made, start))
    }

    fn stream_plan(&self, prepared: &Prepared, made: Option<Stamp>, start: &mut Start) -> Result<Ran> {
        let rows = prepared.stream();
        // A stale plan may also fail over what it does not expect.
        if made.is_some() && self.clock.stamp() != made {
            return Ok(Ran::Stale);
        }
        let rows = match rows {
            Ok(rows) => rows,
            Err(error) if error.class == Class::ReadOnly => return Ok(Ran::Writes),
            Err(error) => return Err(error.into()),
        };
        let wire = Wire::new(rows.schema());
        answer(start, Started::Rows(wire.schema()));
        self.delivery.send_all(rows, &wire)?;
        Ok(Ran::Read)
    }
}

/// Whether a plan means the same when it runs again: one SELECT does, the last of the several statements
/// that a PIVOT becomes does not.
pub(super) fn is_reusable(prepared: &Prepared, sql: &str) -> bool {
    prepared.kind() == StatementKind::Select && !sql::pivots(sql) && sql::statement_count(sql) == 1
}

fn answer(start: &mut Start, started: Started) {
    if let Some(start) = start.take() {
        let _ = start.send(Ok(started));
    }
}
