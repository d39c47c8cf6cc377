//! Reads: a permit, a connection, and a loop on a thread that may block.
//!
//! A read prepares and executes inside one READ ONLY transaction, so its plan and its rows belong to the
//! same snapshot: a plan made before other rows were committed answers wrongly (stale statistics).

use std::{sync::Arc, time::Duration};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::{
    BatchStream, Engine, Error, Outcome, Result, Statement,
    batch_stream::{BATCHES_IN_FLIGHT, Cancel, CancelOnDrop},
    coalesce::Coalescer,
    database::{Database, Pooled},
    error::Class,
    ffi::Rows,
    statement::{bind, prepare_one},
    types::Wire,
};

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
    pub async fn run(&self, statement: Statement) -> Result<Outcome> {
        match self.read(statement.clone()).await? {
            Some(rows) => Ok(Outcome::Rows(rows)),
            None => self.write(statement).await,
        }
    }

    /// The rows of a statement that only reads; `None` when it writes, in which case it has not run.
    async fn read(&self, statement: Statement) -> Result<Option<BatchStream>> {
        let permit = self.read_permit().await?;
        let database = Arc::clone(&self.shared.database);
        let cancel = CancelOnDrop::default();
        let timeout = self.shared.options.query_timeout;
        if let Some(timeout) = timeout {
            stop_after(cancel.0.clone(), timeout);
        }
        let (start, started) = oneshot::channel();
        let (send, batches) = mpsc::channel(BATCHES_IN_FLIGHT);
        let read = Read {
            statement,
            cancel: cancel.0.clone(),
            timeout,
            send,
            _permit: permit,
        };
        let span = tracing::Span::current();
        tokio::task::spawn_blocking(move || span.in_scope(|| read.run(&database, start)));
        match started
            .await
            .map_err(|_| Error::Internal("the read ended without an answer".into()))??
        {
            Started::Rows(schema) => Ok(Some(BatchStream::running(schema, batches, cancel))),
            Started::Writes => Ok(None),
        }
    }

    async fn read_permit(&self) -> Result<OwnedSemaphorePermit> {
        let reads = Arc::clone(&self.shared.reads);
        let waited = self.shared.options.wait;
        match tokio::time::timeout(waited, reads.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(Error::Stopping),
            Err(_) => Err(Error::ReadBusy {
                permits: self.shared.options.read_concurrency,
                waited,
            }),
        }
    }
}

/// Stops the statement once its time is over, unless it has ended.
fn stop_after(cancel: Cancel, timeout: Duration) {
    let cancel = cancel.downgrade();
    tokio::spawn(async move {
        tokio::time::sleep(timeout).await;
        if let Some(cancel) = cancel.upgrade() {
            cancel.time_out();
        }
    });
}

/// One read on its thread. Dropping it gives the permit back.
struct Read {
    statement: Statement,
    cancel: Cancel,
    timeout: Option<Duration>,
    send: mpsc::Sender<Result<RecordBatch>>,
    _permit: OwnedSemaphorePermit,
}

impl Read {
    fn run(self, database: &Arc<Database>, start: oneshot::Sender<Result<Started>>) {
        let mut start = Some(start);
        if let Err(error) = self.stream(database, &mut start) {
            let error = self.name_interrupt(error);
            // A client that has gone needs no answer; both sends may fail for that reason alone.
            match start {
                Some(start) => drop(start.send(Err(error))),
                None => drop(self.send.blocking_send(Err(error))),
            }
        }
    }

    /// An interrupt that the clock caused is a timeout.
    fn name_interrupt(&self, error: Error) -> Error {
        match (error.class(), self.timeout) {
            (Some(Class::Interrupted), Some(timeout)) if self.cancel.timed_out() => Error::Timeout(timeout),
            _ => error,
        }
    }

    fn stream(
        &self,
        database: &Arc<Database>,
        start: &mut Option<oneshot::Sender<Result<Started>>>,
    ) -> Result<()> {
        let connection = database.connection()?;
        let running = self.cancel.running(connection.interrupt());
        connection.execute("BEGIN TRANSACTION READ ONLY")?;
        let outcome = self.stream_inside(&connection, start);
        let ended = connection.execute("ROLLBACK");
        drop(running);
        if ended.is_err() {
            connection.discard();
        }
        outcome
    }

    fn stream_inside(
        &self,
        connection: &Pooled,
        start: &mut Option<oneshot::Sender<Result<Started>>>,
    ) -> Result<()> {
        let mut answer = |started| {
            if let Some(start) = start.take() {
                let _ = start.send(Ok(started));
            }
        };
        let prepared = prepare_one(connection, &self.statement.sql)?;
        if !prepared.kind().may_read() {
            answer(Started::Writes);
            return Ok(());
        }
        bind(&prepared, self.statement.parameters.as_ref(), 0)?;
        if self.cancel.is_cancelled() {
            return Err(self.cancelled());
        }
        let rows = match prepared.stream() {
            Ok(rows) => rows,
            Err(error) if error.class == Class::ReadOnly => {
                answer(Started::Writes);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let wire = Wire::new(rows.schema());
        answer(Started::Rows(wire.schema()));
        self.pump(rows, &wire)
    }

    /// Fetches, coalesces and sends until the rows or the client are gone.
    fn pump(&self, mut rows: Rows, wire: &Wire) -> Result<()> {
        let mut coalescer = Coalescer::new(wire.schema());
        while let Some(batch) = rows.next()? {
            if self.cancel.is_cancelled() {
                return Err(self.cancelled());
            }
            if let Some(large) = coalescer.push(wire.convert(batch)?)? {
                if self.send.blocking_send(Ok(large)).is_err() {
                    return Ok(());
                }
            }
        }
        if let Some(rest) = coalescer.finish()? {
            let _ = self.send.blocking_send(Ok(rest));
        }
        Ok(())
    }

    fn cancelled(&self) -> Error {
        Error::Duck {
            class: Class::Interrupted,
            message: "the query was cancelled".into(),
        }
    }
}
