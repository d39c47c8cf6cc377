//! Uploads into a catalog that the configuration attaches. They go to that catalog's own writer.
//!
//! Small ones are grouped there. Large ones, and those that are matched by key, are staged in a temporary table while
//! they arrive, because a transaction in a lake must not be as old as its upload; the writer then brings the rows in,
//! in one statement, so that a lake gets few large files. Nobody needs the turn: what two writers do at once is for
//! the catalog itself to tell apart, and the writer tries again.

use std::{sync::Arc, time::Instant};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures::Stream;
use tokio::sync::{mpsc, oneshot};

use super::{
    Ack, Collected, Entry, Hashing, IngestRequest, Pending,
    bulk::{PIECE_BYTES, PIECES_WAITING},
    merge::Staged,
    merge_stage::MergeStage,
    partitions::partition_sql,
};
use crate::engine::{
    CatalogKind, Engine, Error, Result,
    append::Target,
    attached::Site,
    catalog::FullName,
    error::Class,
    ffi::Connection,
    ledger::{Keyed, Verdict},
    permit,
    turn::TurnPermit,
    writer::{BulkCommit, Held, Unit},
};

impl Engine {
    /// Goes on with an upload of which nothing has arrived.
    pub(super) async fn begin_attached(
        &self,
        site: &Site,
        request: &IngestRequest,
        name: &FullName,
        schema: SchemaRef,
        mut batches: Hashing<impl Stream<Item = Result<RecordBatch>> + Unpin + Send>,
    ) -> Result<Pending> {
        let mut collected = Collected::of(request.loader);
        while let Some(batch) = self.next_batch(&mut batches).await? {
            collected.add(batch, &self.shared.budget).await?;
            if collected.bytes > self.collected_at_most() {
                return self.begin_staged(site, request, name, schema, collected, batches).await;
            }
        }
        if request.merge.is_some() && collected.rows > 0 {
            return self.begin_staged(site, request, name, schema, collected, batches).await;
        }
        let keyed = batches.finish(request);
        let (entry, turn) = match self.entry_in_turn(site, name, request, &schema).await {
            Ok(entered) => entered,
            Err(error) => return site.repeated(keyed.as_ref(), collected.bytes, error).await,
        };
        if collected.rows == 0 && entry.create.is_none() && keyed.is_none() {
            return Ok(Pending::nothing());
        }
        let (answer, answered) = oneshot::channel();
        let Entry { fit, create, .. } = entry;
        let unit = Unit {
            target: Target { table: name.clone(), columns: fit.columns().to_vec(), casts: fit.casts() },
            batches: fit.apply(collected.batches)?,
            rows: collected.rows,
            bytes: collected.bytes,
            create,
            loader: request.loader,
            keyed,
            received: Instant::now(),
            answer,
            span: tracing::Span::current(),
            held: Held { budget: collected.budget, turn, ..Held::nothing() },
        };
        site.writer.append(unit).await?;
        Ok(Pending::queued(answered))
    }

    /// The same for one whose rows are staged; `collected` has arrived.
    async fn begin_staged(
        &self,
        site: &Site,
        request: &IngestRequest,
        name: &FullName,
        schema: SchemaRef,
        collected: Collected,
        mut batches: Hashing<impl Stream<Item = Result<RecordBatch>> + Unpin + Send>,
    ) -> Result<Pending> {
        let place =
            permit::take(&self.shared.bulks, 1, self.shared.options.wait, || Error::QueueFull).await?;
        let entry = match self.entry(name, request, &schema).await {
            Ok(entry) => entry,
            Err(error) if request.key.is_none() => return Err(error),
            // It may be the table that its first copy has made.
            Err(error) => {
                let bytes = collected.bytes;
                drop(collected);
                let bytes = bytes + self.read_through(&mut batches).await?;
                return site.repeated(batches.finish(request).as_ref(), bytes, error).await;
            }
        };
        let entering = Plan::new(site, name, request, &entry);
        let (steps, received) = mpsc::channel(PIECES_WAITING);
        let (database, target) = (Arc::clone(&self.shared.database), name.clone());
        let staging = self.blocking(move || Staged::fill(&database, &target, entry, received));
        let upload = async {
            // Feeding ends by itself when staging fails, because the channel closes.
            let (fed, staged) = tokio::join!(self.feed(PIECE_BYTES, collected, &mut batches, steps), staging);
            Ok((fed?, staged?))
        };
        let ((rows, bytes), staged) = self.shared.database.while_open(upload).await?;
        let (answer, answered) = oneshot::channel();
        let Staged { connection, stage } = staged;
        let Plan { creates, merges, .. } = entering;
        let commit = BulkCommit {
            connection,
            enter: Some(Box::new(move |connection| entering.run(&stage, connection))),
            merges,
            rows,
            bytes,
            creates,
            table: name.to_string(),
            keyed: batches.finish(request),
            received: Instant::now(),
            answer,
            span: tracing::Span::current(),
            held: Held { place: Some(place), ..Held::nothing() },
        };
        site.writer.commit(commit).await?;
        Ok(Pending::queued(answered))
    }

    /// How an upload enters its table; one that makes or widens it does so in its turn, so that those behind it find
    /// the table and can be committed together.
    async fn entry_in_turn(
        &self,
        site: &Site,
        name: &FullName,
        request: &IngestRequest,
        schema: &SchemaRef,
    ) -> Result<(Entry, Option<TurnPermit>)> {
        let entry = self.entry(name, request, schema).await?;
        if entry.create.is_none() {
            return Ok((entry, None));
        }
        let turn = site.turn.take().await?;
        let entry = self.entry(name, request, schema).await?;
        let turn = entry.create.is_some().then_some(turn);
        Ok((entry, turn))
    }

    /// How an upload enters its table as it is now.
    async fn entry(&self, name: &FullName, request: &IngestRequest, schema: &SchemaRef) -> Result<Entry> {
        let table = self.table_info(name).await?;
        let mut entry = match Entry::decide(name, table.as_deref(), request, schema) {
            Ok(entry) => entry,
            // Another server may have changed the table a moment ago.
            Err(_) => {
                let (catalog, looked_up) = (Arc::clone(&self.shared.catalog), name.clone());
                let table = self.blocking(move || catalog.look_up(&looked_up)).await?;
                Entry::decide(name, table.as_deref(), request, schema)?
            }
        };
        if !request.partition_by.is_empty()
            && !entry.widens
            && let Some(create) = &mut entry.create
        {
            let (columns, types) = (entry.fit.columns(), entry.fit.sql_types());
            request.partition_by.iter().try_for_each(|key| key.check(columns, types))?;
            *create = format!("{create}; {}", partition_sql(name, &request.partition_by));
        }
        Ok(entry)
    }

    /// Refuses an upload into a catalog of the configuration that takes no writes, or is not there.
    pub(super) fn check_writable(&self, name: &FullName) -> Result<()> {
        let declared = &self.shared.options.lake.catalogs;
        let Some(catalog) = declared.iter().find(|it| it.name.eq_ignore_ascii_case(&name.catalog)) else {
            return Ok(());
        };
        if catalog.read_only {
            let message = format!("the catalog {} takes no writes", catalog.name);
            return Err(Error::Duck { class: Class::ReadOnly, message });
        }
        match self.shared.attached.site(&catalog.name) {
            Some(_) => Ok(()),
            None => Err(Error::CatalogDown(catalog.name.clone())),
        }
    }

    /// Refuses partitions where a table has no files of its own.
    pub(super) fn check_partitions(&self, request: &IngestRequest, name: &FullName) -> Result<()> {
        let kind = self.shared.attached.site(&name.catalog).map(|site| &site.catalog.kind);
        match kind {
            Some(CatalogKind::DuckLake { .. }) => Ok(()),
            _ if request.partition_by.is_empty() => Ok(()),
            _ => Err(Error::SchemaMismatch("partition_by is for tables of a DuckLake".into())),
        }
    }
}

impl Site {
    /// The acknowledgement of an upload that its table does not take any more because it was committed before; else
    /// the error.
    async fn repeated(&self, keyed: Option<&Keyed>, bytes: usize, error: Error) -> Result<Pending> {
        let Some(keyed) = keyed else { return Err(error) };
        self.writer.catch_up().await?;
        let mut ledger = self.ledger.lock();
        match ledger.judge(&keyed.key) {
            Ok(Verdict::Known(committed)) if committed.hash == keyed.hash => {
                ledger.count_duplicate(&keyed.key.loader);
                Ok(Pending::answered(Ack::of_duplicate(committed, bytes as u64)))
            }
            _ => Err(error),
        }
    }
}

/// How staged rows enter their table.
struct Plan {
    name: FullName,
    create: Option<String>,
    /// The table is created, replaced or widened.
    creates: bool,
    /// Rows that are there are changed or taken away.
    merges: bool,
    kind: CatalogKind,
}

impl Plan {
    fn new(site: &Site, name: &FullName, request: &IngestRequest, entry: &Entry) -> Self {
        Self {
            name: name.clone(),
            create: entry.create.clone(),
            creates: entry.create.is_some(),
            merges: request.merge.is_some(),
            kind: site.catalog.kind.clone(),
        }
    }

    fn run(&self, stage: &MergeStage, connection: &Connection) -> Result<()> {
        match self.kind {
            CatalogKind::DuckLake { .. } => {
                stage.enter_at_once(connection, &self.name, self.create.as_deref())
            }
            CatalogKind::DuckDb | CatalogKind::Postgres | CatalogKind::Sqlite => {
                // Somebody else may have made the table by now, and have filled it.
                stage.enter_as_staged(connection, &self.name, self.create.as_deref(), true)
            }
        }
    }
}
