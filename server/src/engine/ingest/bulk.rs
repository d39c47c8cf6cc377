//! Uploads that are too large to be collected: they append on a connection of their own and in a
//! transaction of their own while they arrive, window by window; only their COMMIT goes through the writer.
//!
//! DuckDB scans a window that has arrived completely, so a client that stalls holds no thread of DuckDB's.
//! While one window is being inserted the next one gathers.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures::Stream;
use tokio::sync::{mpsc, oneshot};

use super::{Ack, Admission, Collected, IngestRequest, budget};
use crate::{
    engine::{
        Engine, Error, Result,
        database::{Database, Pooled},
        ffi::SCAN_FUNCTION,
        writer::{BulkCommit, Held, Target, Unit, WriterHandle},
    },
    sql::quote,
};

/// A window is inserted when it has this many bytes. Larger ones keep both of two cores busy for longer
/// between hand-overs; smaller ones hold less memory.
const WINDOW_BYTES: usize = 32 << 20;

/// What goes to the thread that inserts.
enum Step {
    Insert(Vec<RecordBatch>, budget::Share),
    /// The upload is complete; without this step it is rolled back.
    Finish,
}

impl Engine {
    /// Goes on with an upload of which `collected` has arrived.
    pub(super) async fn bulk(
        &self,
        writer: &WriterHandle,
        request: &IngestRequest,
        schema: SchemaRef,
        collected: Collected,
        mut batches: impl Stream<Item = Result<RecordBatch>> + Unpin + Send,
    ) -> Result<Ack> {
        let _place = self.bulk_place().await?;
        let mut admission = self.admit(request, &schema).await?;
        if !admission.replaces {
            create_first(writer, &mut admission, request.loader).await?;
        }
        let (steps, received) = mpsc::channel(1);
        let job = Inserter {
            target: admission.target(),
            replace: admission.create.take(),
            database: Arc::clone(&self.shared.database),
        };
        let inserting = self.blocking(move || job.run(received));
        // Feeding ends by itself when inserting fails, because the channel closes.
        let (fed, inserted) = tokio::join!(self.feed(&admission, collected, &mut batches, steps), inserting);
        let (rows, bytes) = fed?;
        let connection = inserted?;
        let (answer, answered) = oneshot::channel();
        let held =
            Held { budget: None, slot: None, turn: admission.turn, appending: Some(admission.appending) };
        let span = tracing::Span::current();
        writer.commit(BulkCommit { connection, rows, bytes, answer, span, held }, answered).await
    }

    /// Cuts the upload into windows and hands them over; returns the numbers of rows and bytes. Dropping `steps`
    /// before the end rolls the upload back.
    async fn feed(
        &self,
        admission: &Admission,
        mut collected: Collected,
        batches: &mut (impl Stream<Item = Result<RecordBatch>> + Unpin + Send),
        steps: mpsc::Sender<Step>,
    ) -> Result<(usize, usize)> {
        let (mut rows, mut bytes) = (0, 0);
        loop {
            let next = self.next_batch(batches).await?;
            let complete = next.is_none();
            if let Some(batch) = next {
                collected.add(batch, &self.shared.budget).await?;
            }
            if collected.bytes >= WINDOW_BYTES || complete {
                let window = std::mem::take(&mut collected);
                rows += window.rows;
                bytes += window.bytes;
                let fitted = admission.fit.apply(window.batches)?;
                // A closed channel means that the insert failed; its own error says why.
                if steps.send(Step::Insert(fitted, window.budget)).await.is_err() {
                    return Ok((rows, bytes));
                }
            }
            if complete {
                let _ = steps.send(Step::Finish).await;
                return Ok((rows, bytes));
            }
        }
    }

    async fn bulk_place(&self) -> Result<tokio::sync::OwnedSemaphorePermit> {
        let wait = self.shared.options.wait;
        match tokio::time::timeout(wait, Arc::clone(&self.shared.bulks).acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) => Err(Error::Stopping),
            Err(_) => Err(Error::QueueFull),
        }
    }
}

/// How many bulk uploads may run at once so that each can have two windows within the byte budget.
pub(crate) fn places(budget_bytes: usize) -> usize {
    (budget_bytes / (2 * WINDOW_BYTES)).max(1)
}

/// Creates a missing table in a commit of its own, so that the turn is not held while the client sends. An
/// upload that fails later leaves the table empty.
async fn create_first(writer: &WriterHandle, admission: &mut Admission, loader: u64) -> Result<()> {
    let Some(create) = admission.create.take() else {
        return Ok(());
    };
    let (answer, answered) = oneshot::channel();
    let unit = Unit {
        target: admission.target(),
        batches: Vec::new(),
        rows: 0,
        bytes: 0,
        create: Some(create),
        loader,
        answer,
        span: tracing::Span::current(),
        held: Held { budget: None, slot: None, turn: admission.turn.take(), appending: None },
    };
    writer.append(unit, answered).await.map(|_| ())
}

/// Inserts the windows of one upload, on a thread that may block.
struct Inserter {
    target: Target,
    replace: Option<String>,
    database: Arc<Database>,
}

impl Inserter {
    /// Returns the connection with the transaction still open. Whoever drops it, for whatever reason, rolls
    /// the upload back.
    fn run(self, mut steps: mpsc::Receiver<Step>) -> Result<Pooled> {
        let connection = self.database.private_connection()?;
        self.insert_all(&connection, &mut steps)?;
        Ok(connection)
    }

    fn insert_all(&self, connection: &Pooled, steps: &mut mpsc::Receiver<Step>) -> Result<()> {
        // Rows of one upload may land in any order: that lets DuckDB insert on all of its threads.
        connection.execute("SET SESSION preserve_insertion_order = false")?;
        connection.execute("BEGIN TRANSACTION")?;
        if let Some(replace) = &self.replace {
            connection.execute(replace)?;
        }
        loop {
            match steps.blocking_recv() {
                Some(Step::Insert(batches, share)) => {
                    self.insert(connection, &batches)?;
                    drop((batches, share));
                }
                Some(Step::Finish) => return Ok(()),
                None => return Err(Error::BadArrow("the upload ended before it was complete".into())),
            }
        }
    }

    fn insert(&self, connection: &Pooled, batches: &[RecordBatch]) -> Result<()> {
        if batches.is_empty() {
            return Ok(());
        }
        let offer = self.database.scans.offer(connection, batches)?;
        let columns: Vec<_> = self.target.columns.iter().map(|column| quote(column)).collect();
        connection.execute(&format!(
            "INSERT INTO {} ({}) FROM {SCAN_FUNCTION}({}::UBIGINT)",
            self.target.table.sql(),
            columns.join(", "),
            offer.key()
        ))?;
        Ok(())
    }
}
