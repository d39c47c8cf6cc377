//! One unit of ingest: collected from its client, fitted to its table, and given to the writer.
//!
//! The order of things keeps promises to others. Rows are collected first, within a byte budget, so that a
//! stalled client holds nothing but its share of memory. Only then is the table looked at and announced as
//! being appended to, which keeps ALTER and DROP away until the commit. See [`fit`] for what may be
//! appended where, and [`bulk`] and [`staged`] for uploads that are too large to be collected.

mod again;
mod arrived;
mod attached;
mod budget;
mod bulk;
mod collect;
mod collected;
mod columns;
mod entry;
mod fit;
mod from_query;
mod hashing;
mod in_workspace;
mod matching;
mod merge;
mod merge_queue;
mod merge_stage;
mod partitions;
mod pending;
mod pieces;
mod staged;
mod whose;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arrow_schema::SchemaRef;
use futures::Stream;
use tokio::sync::oneshot;

use super::{
    Engine, Error, Names, Result,
    catalog::{FullName, TEMPORARY, TableInfo, TableRef},
    insert::Target,
    ledger::{Committed, IngestKey, Keyed},
    writer::{Held, Unit, WriterHandle},
};
pub use arrived::{Arrived, Arriving, Rows};
pub(crate) use budget::{Budget, Sharer};
pub use budget::{Reservation, Share};
pub(crate) use bulk::places as bulk_places;
use collected::Collected;
pub(crate) use collected::bytes_of;
use entry::Entry;
use fit::Fit;
pub(in crate::engine) use from_query::{StagedQuery, Way};
use hashing::Hashing;
use matching::Matching;
pub(crate) use merge_queue::MergeQueue;
use merge_stage::Entering;
pub use partitions::PartitionKey;
pub use pending::Pending;
use pending::Refusals;
pub(crate) use whose::Whose;

/// What to do when the table is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfMissing {
    /// Create it from the Arrow schema.
    Create,
    /// Refuse the upload.
    Fail,
}

/// What to do when the table is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfExists {
    /// Append to it, matching columns by name.
    Append,
    /// Replace it, in the same transaction as the rows.
    Replace,
    /// Refuse the upload.
    Fail,
}

/// What to do with a row whose key columns have the values of one that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnConflict {
    /// The new row takes the other's place: its columns are updated.
    Update,
    /// The row that is there stays as it is.
    Ignore,
}

/// Rows are matched with those that are there by key columns.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Merge {
    /// The key columns; none means those of the table's primary key.
    pub keys: Vec<String>,
    /// What becomes of a match.
    pub on_conflict: OnConflict,
}

/// What to do about columns that the table lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum NewColumns {
    /// Refuse the upload.
    #[default]
    Refuse,
    /// Add them to the table, in the same transaction as the rows.
    Add,
}

/// Where an upload goes.
#[derive(Debug, Clone)]
pub struct IngestRequest {
    /// The table.
    pub table: TableRef,
    /// What to do when it is not there.
    pub if_missing: IfMissing,
    /// What to do when it is.
    pub if_exists: IfExists,
    /// Whose upload it is, as any number that stays the same for one client.
    pub loader: u64,
    /// A table that only its session sees; see [`Engine::ingest_in`].
    pub temporary: bool,
    /// What an unqualified table name means; `None` is the default.
    pub names: Option<Names>,
    /// What makes sending the upload again harmless.
    pub key: Option<IngestKey>,
    /// How rows meet those that are there; `None` adds them.
    pub merge: Option<Merge>,
    /// What to do about columns that the table lacks.
    pub new_columns: NewColumns,
    /// By what the files of a table that is made in a lake are kept apart.
    pub partition_by: Vec<PartitionKey>,
}

impl IngestRequest {
    /// Behind whose units it has to be committed; what is merged has the turn, and waits for nobody.
    fn in_order_of(&self) -> Option<u64> {
        self.merge.is_none().then_some(self.loader)
    }

    /// Appends to a table, which is created when it is missing.
    pub fn append(table: TableRef, loader: u64) -> Self {
        Self {
            table,
            if_missing: IfMissing::Create,
            if_exists: IfExists::Append,
            loader,
            temporary: false,
            names: None,
            key: None,
            merge: None,
            new_columns: NewColumns::default(),
            partition_by: Vec::new(),
        }
    }
}

/// The answer to an upload: its rows are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Rows of this upload.
    pub rows: u64,
    /// What they occupied as Arrow data.
    pub bytes: u64,
    /// The commit that holds them, counted from 1 since the server started; 0 when there was nothing to
    /// commit.
    pub commit: u64,
    /// False inside an explicit transaction: the rows become durable with its commit.
    pub committed: bool,
    /// The key was committed before, with the same rows; nothing was written now.
    pub duplicate: bool,
}

impl Ack {
    /// For a unit that was committed before.
    pub(crate) fn of_duplicate(committed: Committed, bytes: u64) -> Self {
        let Committed { rows, commit, .. } = committed;
        Self { rows, bytes, commit, committed: true, duplicate: true }
    }
}

/// How an upload enters its table: decided when its rows are ready.
pub(super) struct Admission {
    name: FullName,
    fit: Fit,
    /// The statements that create, replace or widen the table.
    create: Option<String>,
    /// The table was not there, or is replaced.
    makes_table: bool,
    replaces: bool,
    /// How its rows are matched with those that are there.
    matching: Option<Matching>,
    /// An append to the table at the same time may make the two fail.
    collides: bool,
    held: Held,
}

impl Admission {
    /// By the table as it is now, if it is there.
    fn new(name: FullName, entry: Entry, table: Option<&TableInfo>, held: Held) -> Self {
        let collides = entry.matching.is_some() && table.is_some_and(|table| table.keys.unique);
        let Entry { fit, create, matching, widens } = entry;
        let makes_table = create.is_some() && !widens;
        let replaces = makes_table && table.is_some();
        Self { name, fit, create, makes_table, replaces, matching, collides, held }
    }

    /// What is done with rows that are staged.
    fn entering(&self) -> Entering<'_> {
        Entering {
            name: &self.name,
            fit: &self.fit,
            matching: self.matching.as_ref(),
            create: self.create.as_deref(),
            is_there: !self.makes_table,
        }
    }

    fn target(&self) -> Target {
        Target { table: self.name.clone(), columns: self.fit.columns().to_vec(), casts: self.fit.casts() }
    }
}

impl Engine {
    /// Takes an upload and answers when it is committed: all of its rows or none.
    ///
    /// # Errors
    /// What is wrong with the rows ([`Error::SchemaMismatch`], [`Error::BadArrow`], constraint errors of
    /// DuckDB), with the table ([`Error::TableMissing`], [`Error::TableExists`]), or with the moment
    /// ([`Error::QueueFull`], [`Error::WriteBusy`], [`Error::Stalled`], [`Error::Stopping`]); of a key
    /// [`Error::KeyReused`], [`Error::SequenceGap`], [`Error::Fenced`], [`Error::KeyExpired`],
    /// [`Error::KeyNotHere`].
    pub async fn ingest(
        &self,
        request: IngestRequest,
        schema: SchemaRef,
        batches: impl Stream<Item = Result<Arrived>> + Unpin + Send,
    ) -> Result<Ack> {
        self.begin_ingest(request, schema, batches).await?.committed().await
    }

    /// The same, but for the wait for the commit: returns when all rows have come and are queued. Uploads that a
    /// caller begins one after the other are committed in that order.
    ///
    /// # Errors
    /// As [`Engine::ingest`].
    pub async fn begin_ingest(
        &self,
        request: IngestRequest,
        schema: SchemaRef,
        batches: impl Stream<Item = Result<Arrived>> + Unpin + Send,
    ) -> Result<Pending> {
        let refusals = self.refusals(&request);
        match self.begin_uncounted(request, schema, batches).await {
            Ok(pending) => Ok(pending.counted(refusals)),
            Err(error) => {
                refusals.iter().for_each(Refusals::count);
                Err(error)
            }
        }
    }

    fn refusals(&self, request: &IngestRequest) -> Option<Refusals> {
        let loader = Arc::clone(&request.key.as_ref()?.loader);
        let site = self.shared.attached.site(&self.full_name(request).catalog);
        let ledger = Arc::clone(site.map_or(&self.shared.ledger, |site| &site.ledger));
        Some(Refusals { ledger, loader })
    }

    async fn begin_uncounted(
        &self,
        request: IngestRequest,
        schema: SchemaRef,
        batches: impl Stream<Item = Result<Arrived>> + Unpin + Send,
    ) -> Result<Pending> {
        let writer = self.shared.writer.as_ref().ok_or(Error::ReadOnly)?;
        columns::check(&schema)?;
        let name = self.full_name(&request);
        check_shared(&name)?;
        self.check_writable(&name)?;
        self.check_key(&request, &name)?;
        self.check_partitions(&request, &name)?;
        let mut batches = Hashing::new(batches, &request, &name, &schema);
        if let Some(site) = self.shared.attached.site(&name.catalog) {
            return self.begin_attached(site, &request, &name, schema, batches).await;
        }
        let collected = self.collect(request.loader, &mut batches).await?;
        if self.is_bulk(&collected) {
            return self.begin_bulk(writer, &request, schema, collected, batches).await;
        }
        let keyed = batches.finish(&request);
        let bytes = collected.bytes;
        if let Some(ack) = self.repeated(keyed.as_ref(), bytes).await? {
            return Ok(Pending::answered(ack));
        }
        match self.queue(writer, &request, schema, collected, keyed.clone()).await {
            // Its first copy may have been committed meanwhile, and have made the table.
            Err(error) => match self.repeated(keyed.as_ref(), bytes).await? {
                Some(ack) => Ok(Pending::answered(ack)),
                None => Err(error),
            },
            queued => queued,
        }
    }

    /// Gives an upload that is complete to the writer.
    async fn queue(
        &self,
        writer: &WriterHandle,
        request: &IngestRequest,
        schema: SchemaRef,
        collected: Collected,
        keyed: Option<Keyed>,
    ) -> Result<Pending> {
        let has_something_to_merge = collected.rows > 0 || keyed.is_some();
        if request.merge.is_some() && has_something_to_merge {
            return self.queue_merge(request, schema, collected, keyed).await;
        }
        self.queue_append(writer, request, schema, collected, keyed).await
    }

    /// The same for one whose rows are added to those that are there.
    async fn queue_append(
        &self,
        writer: &WriterHandle,
        request: &IngestRequest,
        schema: SchemaRef,
        collected: Collected,
        keyed: Option<Keyed>,
    ) -> Result<Pending> {
        let admission = match collected.rows {
            0 => self.admit_without_rows(request, &schema, keyed.is_some()).await?,
            _ => Some(self.admit(request, &schema, self.shared.options.wait).await?),
        };
        match admission {
            Some(admission) => append(writer, admission, collected, keyed, request.loader).await,
            None => Ok(Pending::nothing()),
        }
    }

    /// The same as [`Engine::admit`] for an upload without rows. It may still make its table, or advance the sequence of
    /// its loader; `None` where there is nothing to do.
    async fn admit_without_rows(
        &self,
        request: &IngestRequest,
        schema: &SchemaRef,
        keyed: bool,
    ) -> Result<Option<Admission>> {
        let name = self.full_name(request);
        if keyed && self.brings_key_alone(request, &name).await? {
            return Ok(Some(Admission::new(name, Entry::of_key_alone(), None, Held::nothing())));
        }
        let table = self.table_info(&name).await?;
        let entry = Entry::decide(&name, table.as_deref(), request, schema)?;
        if entry.create.is_none() && !keyed {
            return Ok(None);
        }
        let admission = self.admit(request, schema, self.shared.options.wait).await?;
        // Somebody else may have made the table meanwhile.
        Ok((admission.create.is_some() || keyed).then_some(admission))
    }

    /// Whether a unit without rows goes to a table that is there. Then its columns need not fit, so that a unit that the
    /// table refuses can be skipped by one with the same columns and no rows.
    async fn brings_key_alone(&self, request: &IngestRequest, name: &FullName) -> Result<bool> {
        Ok(request.if_exists == IfExists::Append && self.table_info(name).await?.is_some())
    }

    /// The acknowledgement of an upload whose key was committed before.
    async fn repeated(&self, keyed: Option<&Keyed>, bytes: usize) -> Result<Option<Ack>> {
        match keyed {
            Some(keyed) => self.committed_before(keyed, bytes).await,
            None => Ok(None),
        }
    }

    /// Decides how the rows enter the table. Whoever needs the turn takes it before announcing the append,
    /// as ALTER does, so that the two never wait for each other; the table is looked at again afterwards.
    async fn admit(
        &self,
        request: &IngestRequest,
        schema: &SchemaRef,
        patience: Duration,
    ) -> Result<Admission> {
        let name = self.full_name(request);
        let mut turn = None;
        loop {
            let appending = self.shared.turn.appending_within(&name, patience).await?;
            let table = self.table_info(&name).await?;
            let entry = Entry::decide(&name, table.as_deref(), request, schema)?;
            if entry.needs_turn() && turn.is_none() {
                drop(appending);
                turn = Some(self.shared.turn.take_within(patience).await?);
                continue;
            }
            // Somebody else created it while we waited: no need to hold the turn any longer.
            let turn = if entry.needs_turn() { turn } else { None };
            let mut held = Held { appending: Some(appending), turn, ..Held::nothing() };
            if entry.widens {
                self.shut_out_appends(&name, &mut held, patience).await?;
            }
            return Ok(Admission::new(name, entry, table.as_deref(), held));
        }
    }

    /// The whole name of the table. The server's own catalog and that of temporary tables have one spelling.
    fn full_name(&self, request: &IngestRequest) -> FullName {
        let name = match &request.names {
            Some(names) => request.table.resolve(names),
            None => request.table.resolve(&self.default_names()),
        };
        let own = [self.default_catalog(), TEMPORARY];
        match own.into_iter().find(|own| name.catalog.eq_ignore_ascii_case(own)) {
            Some(own) => FullName { catalog: own.to_owned(), ..name },
            None => name,
        }
    }

    async fn table_info(&self, name: &FullName) -> Result<Option<Arc<TableInfo>>> {
        if let Some(info) = self.shared.catalog.known(name) {
            return Ok(Some(info));
        }
        let (catalog, name) = (Arc::clone(&self.shared.catalog), name.clone());
        self.blocking(move || catalog.look_up(&name)).await
    }
}

/// Refuses the catalog of temporary tables: on the connection that writes, nobody would see them.
fn check_shared(name: &FullName) -> Result<()> {
    match name.catalog == TEMPORARY {
        true => Err(Error::BadName(
            "the catalog temp is that of one session; send the rows inside of a session as an ingest with \
             temporary = true, or leave the catalog out"
                .into(),
        )),
        false => Ok(()),
    }
}

/// Gives a collected upload to the writer.
async fn append(
    writer: &WriterHandle,
    admission: Admission,
    collected: Collected,
    keyed: Option<Keyed>,
    loader: u64,
) -> Result<Pending> {
    let (answer, answered) = oneshot::channel();
    let unit = Unit {
        target: admission.target(),
        batches: admission.fit.apply(collected.batches)?,
        rows: collected.rows,
        bytes: collected.bytes,
        create: admission.create,
        loader,
        keyed,
        received: Instant::now(),
        answer,
        span: tracing::Span::current(),
        held: Held { budget: collected.reserved.into_share(), ..admission.held },
    };
    writer.append(unit).await?;
    Ok(Pending::queued(answered))
}
