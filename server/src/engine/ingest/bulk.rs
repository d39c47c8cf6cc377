//! Uploads that are too large to be collected: they append on a connection of their own and in a
//! transaction of their own while they arrive; only their COMMIT goes through the writer. DuckDB writes full
//! row groups to the file ahead of that COMMIT, which is then short.
//!
//! A parallel INSERT would be faster and is not used, because readers see its rows before they are
//! committed; see [`crate::engine::append`].

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures::Stream;
use tokio::sync::{mpsc, oneshot};

use super::{Ack, Admission, Collected, IngestRequest, budget, fit::Fit};
use crate::engine::{
    Engine, Error, Result,
    append::{Imports, Sink, Target},
    database::{Database, Pooled},
    permit,
    writer::{BulkCommit, Held, Unit, WriterHandle},
};

/// Rows are handed over in pieces of about this size: large enough that handing over costs nothing.
const PIECE_BYTES: usize = 4 << 20;
/// Pieces that may wait while one is appended.
pub(super) const PIECES_WAITING: usize = 4;

/// What goes to the thread that inserts.
pub(super) enum Step {
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
        let (steps, received) = mpsc::channel(PIECES_WAITING);
        let job = Inserter {
            target: admission.target(),
            replace: admission.create.take(),
            database: Arc::clone(&self.shared.database),
        };
        let inserting = self.blocking(move || job.run(received));
        // Feeding ends by itself when inserting fails, because the channel closes.
        let (fed, inserted) =
            tokio::join!(self.feed(&admission.fit, collected, &mut batches, steps), inserting);
        let (rows, bytes) = fed?;
        let connection = inserted?;
        let (answer, answered) = oneshot::channel();
        let held =
            Held { budget: None, slot: None, turn: admission.turn, appending: Some(admission.appending) };
        let span = tracing::Span::current();
        writer
            .commit(
                BulkCommit { connection, rows, bytes, replaces: admission.replaces, answer, span, held },
                answered,
            )
            .await
    }

    /// Cuts the upload into pieces and hands them over; returns the numbers of rows and bytes. Dropping `steps`
    /// before the end rolls the upload back.
    pub(super) async fn feed(
        &self,
        fit: &Fit,
        mut collected: Collected,
        batches: &mut (impl Stream<Item = Result<RecordBatch>> + Unpin + Send),
        steps: mpsc::Sender<Step>,
    ) -> Result<(usize, usize)> {
        let mut sent = Sent { steps, rows: 0, bytes: 0 };
        while let Some(batch) = self.next_batch(batches).await? {
            // What waits here holds its share of the budget; without room it must move on first.
            if let Some(batch) = collected.try_add(batch, &self.shared.budget) {
                sent.piece(fit, &mut collected).await?;
                collected.add(batch, &self.shared.budget).await?;
            }
            if collected.bytes >= PIECE_BYTES {
                sent.piece(fit, &mut collected).await?;
            }
            if sent.steps.is_closed() {
                break;
            }
        }
        sent.piece(fit, &mut collected).await?;
        sent.step(Step::Finish).await;
        Ok((sent.rows, sent.bytes))
    }

    async fn bulk_place(&self) -> Result<tokio::sync::OwnedSemaphorePermit> {
        permit::take(&self.shared.bulks, 1, self.shared.options.wait, || Error::QueueFull).await
    }
}

/// What has been handed over so far.
struct Sent {
    steps: mpsc::Sender<Step>,
    rows: usize,
    bytes: usize,
}

impl Sent {
    async fn piece(&mut self, fit: &Fit, collected: &mut Collected) -> Result<()> {
        let piece = std::mem::take(collected);
        self.rows += piece.rows;
        self.bytes += piece.bytes;
        let fitted = fit.apply(piece.batches)?;
        self.step(Step::Insert(fitted, piece.budget)).await;
        Ok(())
    }

    /// A closed channel means that appending failed; its own error says why.
    async fn step(&self, step: Step) {
        let _ = self.steps.send(step).await;
    }
}

/// How many bulk uploads may run at once so that each can have its pieces, twice over, within the byte budget.
pub(crate) fn places(budget_bytes: usize) -> usize {
    (budget_bytes / (2 * PIECES_WAITING * PIECE_BYTES)).max(1)
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

/// Appends the pieces of one upload, on a thread that may block.
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
        connection.execute("BEGIN TRANSACTION")?;
        if let Some(replace) = &self.replace {
            connection.execute(replace)?;
        }
        let mut imports = Imports::default();
        let sink = Sink::open(connection, &self.database.scans, &self.target)?;
        loop {
            match steps.blocking_recv() {
                Some(Step::Insert(batches, share)) => {
                    batches.iter().try_for_each(|batch| sink.take(&mut imports, batch))?;
                    drop((batches, share));
                }
                Some(Step::Finish) => return Ok(sink.finish()?),
                None => return Err(Error::Disconnected),
            }
        }
    }
}
