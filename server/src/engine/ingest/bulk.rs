//! Uploads that are too large to be collected, into a table that is there: they append on a connection of
//! their own and in a transaction of their own while they arrive; only their COMMIT goes through the writer.
//! DuckDB writes full row groups to the file ahead of that COMMIT, which is then short.
//!
//! A parallel INSERT would be faster and is not used here, because readers of a table see its rows before
//! they are committed; see [`crate::engine::append`]. Nobody reads a table that is not committed itself: that
//! is what [`super::staged`] makes use of.

use std::{sync::Arc, time::Instant};

use arrow_schema::SchemaRef;
use futures::Stream;
use tokio::sync::{mpsc, oneshot};

use super::{
    Admission, Arrived, Collected, Hashing, IngestRequest, Pending,
    fit::Fit,
    pieces::{Step, append_pieces},
};
use crate::engine::{
    Engine, Error, Result,
    append::Sink,
    catalog::FullName,
    database::{Database, Pooled},
    insert::Target,
    ledger::Keyed,
    permit,
    writer::{BulkCommit, Enter, Held, Part, WriterHandle},
};

/// Rows are handed over in pieces of about this size: large enough that handing over costs nothing.
pub(super) const PIECE_BYTES: usize = 4 << 20;
/// Pieces that may wait while one is appended.
pub(super) const PIECES_WAITING: usize = 4;
/// What one upload may need of the budget to run at full speed.
const PLACE_BYTES: usize = 32 << 20;

/// A bulk upload that only lacks its COMMIT.
pub(super) struct Uploaded {
    pub(super) connection: Pooled,
    /// What the writer is still to do in a transaction that it opens.
    pub(super) enter: Option<Enter>,
    pub(super) rows: usize,
    pub(super) bytes: usize,
    /// Whether it creates or replaces its table.
    pub(super) creates: bool,
    pub(super) held: Held,
}

impl Engine {
    /// Goes on with an upload of which `collected` has arrived.
    pub(super) async fn begin_bulk(
        &self,
        writer: &WriterHandle,
        request: &IngestRequest,
        schema: SchemaRef,
        collected: Collected,
        mut batches: Hashing<impl Stream<Item = Result<Arrived>> + Unpin + Send>,
    ) -> Result<Pending> {
        if self.is_repeat(request.key.as_ref()) {
            let bytes = collected.bytes;
            drop(collected);
            let bytes = bytes + self.read_through(&mut batches).await?;
            let keyed = batches.finish(request);
            if let Some(ack) = self.repeated(keyed.as_ref(), bytes).await? {
                return Ok(Pending::answered(ack));
            }
            return Err(Error::EngineDown);
        }
        if request.merge.is_some() {
            self.merges_before(request).await;
        }
        let place =
            permit::take(&self.shared.bulks, 1, self.shared.options.wait, || Error::QueueFull).await?;
        self.admit_bulk(writer, request.key.is_some()).await?;
        let mut uploaded = self.upload(request, schema, collected, &mut batches).await?;
        uploaded.held.place = Some(place);
        let (name, loader) = (self.full_name(request), request.in_order_of());
        self.commit_upload(writer, uploaded, &name, loader, batches.finish(request)).await
    }

    /// Waits until such an upload may begin; makes the ledger where it will need it.
    pub(super) async fn admit_bulk(&self, writer: &WriterHandle, keyed: bool) -> Result<()> {
        if keyed && !self.shared.ledger_table.exists() {
            writer.make_ledger().await?;
        }
        self.shared.database.writes.admitted().await
    }

    async fn upload(
        &self,
        request: &IngestRequest,
        schema: SchemaRef,
        collected: Collected,
        batches: &mut (impl Stream<Item = Result<Arrived>> + Unpin + Send),
    ) -> Result<Uploaded> {
        if self.changes_what_is_there(request, &schema).await? {
            let merging = self.merge(request, schema, collected, batches);
            return self.shared.database.while_open(merging).await;
        }
        let admission = self.admit(request, &schema, self.shared.options.wait).await?;
        if admission.create.is_some() && !admission.makes_table {
            // It lacked nothing a moment ago.
            return Err(Error::conflict(format!("a column of {} was dropped meanwhile", admission.name)));
        }
        let uploading = async {
            if admission.makes_table {
                self.stage(request, schema, admission, collected, batches).await
            } else {
                // One that only appends stands in no checkpoint's way.
                self.append_in_pieces(admission, collected, batches).await
            }
        };
        // An upload may wait for its client for long, and with it what it holds of the instance.
        self.shared.database.while_open(uploading).await
    }

    async fn append_in_pieces(
        &self,
        admission: Admission,
        collected: Collected,
        batches: &mut (impl Stream<Item = Result<Arrived>> + Unpin + Send),
    ) -> Result<Uploaded> {
        let (steps, received) = mpsc::channel(PIECES_WAITING);
        let target = admission.target();
        let Admission { fit, held, .. } = admission;
        let job = Inserter { target, fit, database: Arc::clone(&self.shared.database) };
        let inserting = self.blocking(move || job.run(received));
        // Feeding ends by itself when inserting fails, because the channel closes.
        let (fed, inserted) = tokio::join!(self.feed(PIECE_BYTES, collected, batches, steps), inserting);
        let (rows, bytes) = fed?;
        Ok(Uploaded { connection: inserted?, enter: None, rows, bytes, creates: false, held })
    }

    /// Commits through the writer, so that the order of commits is one; `loader` as in [`Part`].
    pub(super) async fn commit_upload(
        &self,
        writer: &WriterHandle,
        uploaded: Uploaded,
        table: &FullName,
        loader: Option<u64>,
        keyed: Option<Keyed>,
    ) -> Result<Pending> {
        let (answer, answered) = oneshot::channel();
        let (rows, bytes) = (uploaded.rows, uploaded.bytes);
        let part = Part { rows, bytes, loader, keyed, received: Instant::now(), answer };
        self.commit_parts(writer, uploaded, table, vec![part]).await?;
        Ok(Pending::queued(answered))
    }

    /// The same for uploads that were staged together.
    pub(super) async fn commit_parts(
        &self,
        writer: &WriterHandle,
        uploaded: Uploaded,
        table: &FullName,
        parts: Vec<Part>,
    ) -> Result<()> {
        let Uploaded { connection, enter, creates, held, .. } = uploaded;
        let (table, span) = (table.to_string(), tracing::Span::current());
        let commit = BulkCommit { connection, enter, creates, table, parts, span, held };
        // It may wait for a place in the writer's queue, and with it what it holds of the instance.
        self.shared.database.while_open(writer.commit(commit)).await
    }
}

/// How many bulk uploads may run at once within the byte budget.
pub(crate) fn places(budget_bytes: usize) -> usize {
    (budget_bytes / PLACE_BYTES).max(1)
}

/// Appends the pieces of one upload, on a thread that may block.
struct Inserter {
    target: Target,
    fit: Fit,
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
        let sink = Sink::open(connection, &self.database.scans, &self.target)?;
        let sink = sink.within(&self.database.appends, &self.target.table);
        append_pieces(sink, &self.fit, &self.database.disk, steps)
    }
}
