//! Uploads that change what is there: rows that are matched by key, and large ones that bring new columns.
//!
//! Their rows are staged on a connection of their own while they arrive, with nothing held. Once all are there,
//! the upload takes the turn, because it conflicts with whoever else updates rows, and goes in in a transaction
//! of now; the COMMIT goes through the writer. So a merge into a large table delays no append: neither the
//! writer's thread nor a gate waits for it, unless something in the table must be unique, or columns are added.

use std::{sync::Arc, time::Duration};

use arrow_schema::SchemaRef;
use futures::Stream;
use tokio::sync::mpsc;

use super::{
    Admission, Arrived, Collected, Entry, IngestRequest, NewColumns,
    bulk::{PIECE_BYTES, PIECES_WAITING, Uploaded},
    merge_stage::MergeStage,
    pieces::{Step, append_pieces},
};
use crate::engine::{
    Engine, Result,
    appends::{Appends, Load},
    catalog::FullName,
    database::{Database, Pooled},
    open_writes::Kind,
};

impl Engine {
    /// Whether an upload changes rows or columns that are there, by what is known before it is complete.
    pub(super) async fn changes_what_is_there(
        &self,
        request: &IngestRequest,
        schema: &SchemaRef,
    ) -> Result<bool> {
        if request.merge.is_some() {
            return Ok(true);
        }
        if request.new_columns == NewColumns::Refuse {
            return Ok(false);
        }
        let name = self.full_name(request);
        let table = self.table_info(&name).await?;
        Ok(Entry::decide(&name, table.as_deref(), request, schema)?.widens)
    }

    /// Stages an upload of which `collected` has arrived, then brings it into its table.
    pub(super) async fn merge(
        &self,
        request: &IngestRequest,
        schema: SchemaRef,
        collected: Collected,
        batches: &mut (impl Stream<Item = Result<Arrived>> + Unpin + Send),
    ) -> Result<Uploaded> {
        let staged = self.stage_merge(request, &schema, collected, batches).await?;
        self.enter_merge(request, &schema, staged, self.shared.options.wait).await
    }

    /// Stages an upload as it fits its table now.
    pub(super) async fn stage_merge(
        &self,
        request: &IngestRequest,
        schema: &SchemaRef,
        collected: Collected,
        batches: &mut (impl Stream<Item = Result<Arrived>> + Unpin + Send),
    ) -> Result<Staged> {
        let name = self.full_name(request);
        let table = self.table_info(&name).await?;
        let entry = Entry::decide(&name, table.as_deref(), request, schema)?;
        self.stage_pieces(&name, entry, collected, batches).await
    }

    /// Brings what is staged into its table; its COMMIT is all that is missing then.
    pub(super) async fn enter_merge(
        &self,
        request: &IngestRequest,
        schema: &SchemaRef,
        staged: Staged,
        patience: Duration,
    ) -> Result<Uploaded> {
        let mut admission = self.admit_staged(request, schema, patience).await?;
        admission.held.open = Some(self.shared.database.writes.open(Kind::Upload));
        let creates = admission.create.is_some();
        let (rows, bytes) = (staged.rows, staged.bytes);
        // What is held goes along, so that it outlasts the work even if nobody waits for it any more.
        let database = Arc::clone(&self.shared.database);
        let entering =
            self.blocking(move || Ok((staged.enter(&database.appends, &admission)?, admission.held)));
        let (connection, held) = entering.await?;
        Ok(Uploaded { connection, enter: None, rows, bytes, creates, held })
    }

    /// Stages an upload of which `collected` has arrived.
    pub(super) async fn stage_pieces(
        &self,
        name: &FullName,
        entry: Entry,
        collected: Collected,
        batches: &mut (impl Stream<Item = Result<Arrived>> + Unpin + Send),
    ) -> Result<Staged> {
        let (steps, received) = mpsc::channel(PIECES_WAITING);
        let (database, name) = (Arc::clone(&self.shared.database), name.clone());
        let staging = self.blocking(move || Staged::fill(&database, &name, entry, received));
        // Feeding ends by itself when staging fails, because the channel closes.
        let (fed, staged) = tokio::join!(self.feed(PIECE_BYTES, collected, batches, steps), staging);
        let (rows, bytes) = fed?;
        Ok(Staged { rows, bytes, ..staged? })
    }
}

/// An upload that is complete on its own connection.
pub(super) struct Staged {
    pub(super) connection: Pooled,
    pub(super) stage: MergeStage,
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

impl Staged {
    /// Takes the pieces of the upload, which counts them, in a transaction that concerns the temporary table alone.
    fn fill(
        database: &Arc<Database>,
        name: &FullName,
        entry: Entry,
        mut steps: mpsc::Receiver<Step>,
    ) -> Result<Self> {
        let connection = database.private_connection()?;
        connection.execute("BEGIN TRANSACTION")?;
        let stage = MergeStage::open(&connection, name, entry.fit, entry.matching)?;
        append_pieces(stage.sink(&connection, &database.scans)?, stage.fit(), &database.disk, &mut steps)?;
        stage.settle(&connection)?;
        connection.execute("COMMIT")?;
        Ok(Self { connection, stage, rows: 0, bytes: 0 })
    }

    /// Returns the connection whose COMMIT is all that is missing.
    fn enter(self, appends: &Appends, admission: &Admission) -> Result<Pooled> {
        self.connection.execute("BEGIN TRANSACTION")?;
        let load = Load { rows: self.rows, bytes: self.bytes, matched: true, remote: false };
        let enter = || self.stage.enter(&self.connection, &admission.entering());
        appends.begin(&self.connection, load).append_to(&admission.name.to_string(), enter)?;
        Ok(self.connection)
    }
}
