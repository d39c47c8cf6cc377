//! Uploads into a catalog that the configuration attaches. They go to that catalog's own writer.
//!
//! Small ones are grouped there. Large ones, and those that are matched by key, are staged in a temporary table while
//! they arrive, because a transaction in a lake must not be as old as its upload; the writer then brings the rows in,
//! in one statement, so that a lake gets few large files. Who makes or widens a table takes a turn among this
//! server's uploads; what two servers do at once is for the catalog itself to tell apart, and the writer tries again.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use futures::Stream;

use super::{
    Ack, Admission, Arrived, Collected, Entry, Hashing, IngestRequest, Pending,
    bulk::Uploaded,
    merge::Staged,
    merge_stage::MergeStage,
    partitions::{self, partition_sql},
    queue::append,
};
use crate::engine::{
    CatalogKind, Engine, Error, Result,
    attached::Site,
    catalog::FullName,
    error::Class,
    ffi::Connection,
    ledger::{Keyed, Verdict},
    permit,
    turn::TurnPermit,
    writer::{Enter, Held},
};

impl Engine {
    /// Goes on with an upload of which nothing has arrived.
    pub(super) async fn begin_attached(
        &self,
        site: &Site,
        request: &IngestRequest,
        name: &FullName,
        schema: SchemaRef,
        mut batches: Hashing<impl Stream<Item = Result<Arrived>> + Unpin + Send>,
    ) -> Result<Pending> {
        let collected = self.collect(request.loader, &mut batches).await?;
        if self.is_bulk(&collected) || request.merge.is_some() && collected.rows > 0 {
            return self.begin_staged(site, request, name, schema, collected, batches).await;
        }
        let keyed = batches.finish(request);
        if collected.rows == 0 && keyed.is_some() && self.brings_key_alone(request, name).await? {
            let admission = Admission::new(name.clone(), Entry::of_key_alone(), None, Held::nothing());
            return append(&site.writer, admission, collected, keyed, request.loader).await;
        }
        let appending = self.shared.turn.appending_within(name, self.shared.options.wait).await?;
        let (entry, turn) = match self.entry_in_turn(site, name, request, &schema).await {
            Ok(entered) => entered,
            Err(error) => return site.repeated(keyed.as_ref(), collected.bytes, error).await,
        };
        if collected.rows == 0 && entry.create.is_none() && keyed.is_none() {
            return Ok(Pending::nothing());
        }
        let held = Held { appending: Some(appending), turn, ..Held::nothing() };
        let admission = Admission::new(name.clone(), entry, None, held);
        append(&site.writer, admission, collected, keyed, request.loader).await
    }

    /// The same for one whose rows are staged; `collected` has arrived.
    async fn begin_staged(
        &self,
        site: &Site,
        request: &IngestRequest,
        name: &FullName,
        schema: SchemaRef,
        collected: Collected,
        mut batches: Hashing<impl Stream<Item = Result<Arrived>> + Unpin + Send>,
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
        let (create, kind) = (entry.create.clone(), site.catalog.kind.clone());
        let entering = Plan { name: name.clone(), create, kind };
        let staging = self.stage_pieces(name, entry, collected, &mut batches);
        let Staged { connection, stage, rows, bytes } = self.shared.database.while_open(staging).await?;
        let creates = entering.create.is_some();
        let merges = request.merge.is_some();
        let enter = Enter { merges, run: Box::new(move |connection| entering.run(&stage, connection)) };
        let appending = self.shared.turn.appending_within(name, self.shared.options.wait).await?;
        let held = Held { place: Some(place), appending: Some(appending), ..Held::nothing() };
        let uploaded = Uploaded { connection, enter: Some(enter), rows, bytes, creates, held };
        let loader = request.in_order_of();
        self.commit_upload(&site.writer, uploaded, name, loader, batches.finish(request)).await
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
            partitions::check(&request.partition_by, columns, types)?;
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
    kind: CatalogKind,
}

impl Plan {
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
