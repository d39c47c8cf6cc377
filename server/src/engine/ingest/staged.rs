//! Uploads that create or replace their table and are too large to be collected.
//!
//! They go into a staging table that was made in the same transaction, and that nobody else can see. So a
//! parallel INSERT may fill it, which shows the rows of a visible table too early. Once the upload is complete,
//! it takes the turn, the staging table takes the target's place and name, and the COMMIT goes through the
//! writer. An upload that fails leaves nothing, and one that trickles holds nobody up.
//!
//! The transaction is as old as the upload. If the target has changed since, DuckDB would refuse to rename
//! over it; then the rows are read from the staging table and appended in a transaction of now.

use std::{sync::Arc, time::Duration};

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Schema, SchemaRef};
use arrow_select::concat::concat_batches;
use futures::Stream;
use tokio::sync::mpsc;

use super::{
    Admission, Arrived, Collected, IngestRequest,
    bulk::Uploaded,
    fit::{self, Creation, Fit},
    pieces::Step,
};
use crate::{
    engine::{
        Class, Engine, Error, Result,
        answers::text_or_null,
        append::Sink,
        catalog::{FullName, is_of_table},
        coalesce::Coalescer,
        database::{Database, Pooled},
        disk::DiskRoom,
        ffi::{BatchView, Connection},
        gates::Excluding,
        insert::Target,
        open_writes::Kind,
        types::imports_as,
        writer::Held,
    },
    sql::{Exclusion, INTERNAL_PREFIX, quote},
};

/// Rows of one of DuckDB's row groups. A batch of exactly so many becomes one as it is; smaller ones are
/// copied once more to make one, which halves the speed.
const ROW_GROUP: usize = 122_880;
/// Rows are inserted once there are so many row groups, one for each of several threads,
const GROUPS: usize = 2;
/// or so many bytes, then cut into so many batches.
const PENDING_BYTES: usize = 32 << 20;
const PARTS: usize = 4;
/// The upload is handed over in pieces of about this size.
const PIECE_BYTES: usize = 16 << 20;
/// How long a replacement waits for appends to its table to end. Those that go on would fail.
const APPENDS_END: Duration = Duration::from_secs(1);

impl Engine {
    /// Fills a staging table while the upload arrives, and puts it in the target's place.
    pub(super) async fn stage(
        &self,
        request: &IngestRequest,
        schema: SchemaRef,
        admission: Admission,
        collected: Collected,
        batches: &mut (impl Stream<Item = Result<Arrived>> + Unpin + Send),
    ) -> Result<Uploaded> {
        let open = self.shared.database.writes.open(Kind::Upload);
        let (database, columns) = (Arc::clone(&self.shared.database), Arc::clone(&schema));
        let nothing = Collected::nothing(self.reservation(request.loader));
        let stage = self.blocking(move || Stage::open(&database, admission, &columns, nothing)).await?;
        let (steps, received) = mpsc::channel(1);
        let database = Arc::clone(&self.shared.database);
        let filling = self.blocking(move || stage.fill(&database.disk, received));
        // Feeding ends by itself when filling fails, because the channel closes.
        let feeding = open.unless_ended(self.feed(PIECE_BYTES, collected, batches, steps));
        let (fed, filled) = tokio::join!(feeding, filling);
        let (rows, bytes) = fed?;
        let stage = filled?;

        let patience = self.shared.options.wait.max(self.shared.options.stall_timeout);
        let admission = open.unless_ended(self.admit_staged(request, &schema, patience)).await?;
        let creates = admission.create.is_some();
        let database = Arc::clone(&self.shared.database);
        // What is held goes along, so that it outlasts the work even if nobody waits for it any more.
        let placing = self.blocking(move || Ok((stage.take_place(&database, &admission)?, admission.held)));
        let (connection, held) = placing.await?;
        let held = Held { open: Some(open), ..held };
        Ok(Uploaded { connection, enter: None, rows, bytes, creates, held })
    }

    /// As [`Engine::admit`], for an upload that is complete: a replacement, and what may collide with appends,
    /// keeps them away, if those under way end soon.
    pub(super) async fn admit_staged(
        &self,
        request: &IngestRequest,
        schema: &SchemaRef,
        patience: Duration,
    ) -> Result<Admission> {
        let mut admission = self.admit(request, schema, patience).await?;
        let Admission { name, held, replaces, collides, .. } = &mut admission;
        if (*replaces || *collides)
            && held.appending.is_some()
            && self.shut_out_appends(name, held, APPENDS_END).await.is_err()
        {
            held.appending = Some(self.shared.turn.appending_within(name, patience).await?);
        }
        Ok(admission)
    }

    /// Waits for appends to a table to end, within a bound, and keeps new ones out. The caller has the turn, so
    /// that the table stays as it is meanwhile.
    pub(super) async fn shut_out_appends(
        &self,
        name: &FullName,
        held: &mut Held,
        patience: Duration,
    ) -> Result<()> {
        held.appending = None;
        let table = Exclusion::of_table(&name.table);
        held.alone = self.shared.turn.exclude_within(&table, &Excluding::default(), patience).await?;
        Ok(())
    }
}

/// A staging table under way.
struct Stage {
    /// With the transaction open; dropping it rolls back. Dropped before the view that it reads.
    connection: Pooled,
    view: BatchView,
    table: FullName,
    fit: Fit,
    /// The target as this transaction sees it.
    target: Option<String>,
    pending: Collected,
}

impl Stage {
    /// Opens the transaction and makes the staging table. What would keep the target from being made is found
    /// out here, before the client has sent the rest; the admission is held until then.
    fn open(
        database: &Arc<Database>,
        admission: Admission,
        schema: &Schema,
        pending: Collected,
    ) -> Result<Self> {
        let Admission { name, fit, create, replaces, held, .. } = admission;
        let connection = database.private_connection()?;
        let (found, find) = find_table(&connection, &name)?;
        if !(replaces && found.is_some()) {
            try_out(&connection, create.as_deref().unwrap_or_default())?;
        }
        drop(held);
        let unique = unique_name("upload")?;
        let table = FullName { table: unique.clone(), ..name.clone() };
        let view = database.batch_view(unique, fit.schema())?;
        connection.execute("BEGIN TRANSACTION")?;
        connection.execute(&fit::create_table(&table, schema, Creation::New)?)?;
        let target = find(&connection, &name)?;
        Ok(Self { connection, view, table, fit, target, pending })
    }

    /// Inserts the pieces of the upload. The transaction stays open.
    fn fill(mut self, disk: &DiskRoom, mut steps: mpsc::Receiver<Step>) -> Result<Self> {
        loop {
            match steps.blocking_recv() {
                Some(Step::Rows(piece)) => {
                    disk.check(piece.bytes as u64)?;
                    self.pending.extend(piece);
                    let whole = self.pending.rows / ROW_GROUP;
                    if whole >= GROUPS || whole > 0 && self.pending.bytes >= PENDING_BYTES {
                        self.insert(whole * ROW_GROUP)?;
                    } else if self.pending.bytes >= PENDING_BYTES {
                        self.insert(self.pending.rows)?;
                    }
                }
                Some(Step::MakeRoom) => self.insert(self.pending.rows)?,
                Some(Step::Finish) => {
                    self.insert(self.pending.rows)?;
                    return Ok(self);
                }
                None => return Err(Error::Disconnected),
            }
        }
    }

    /// Inserts the first `rows` of what is pending, by all threads.
    fn insert(&mut self, rows: usize) -> Result<()> {
        if rows == 0 {
            return Ok(());
        }
        let Collected { batches, reserved, .. } = self.pending.split_front(rows);
        let batches = self.fit.apply(batches)?;
        let part = if rows < ROW_GROUP { rows.div_ceil(PARTS) } else { ROW_GROUP };
        let schema = Arc::clone(self.fit.schema());
        self.view.offer(recut(batches, part).into_iter().flat_map(move |parts| join(&schema, parts)));
        let inserted =
            self.connection.execute(&format!("INSERT INTO {} FROM {}", self.table.sql(), self.view.sql()));
        self.view.withdraw();
        drop(reserved);
        inserted?;
        Ok(())
    }

    /// Puts the staging table in the target's place, or its rows into it; returns the connection whose COMMIT
    /// is all that is missing.
    fn take_place(self, database: &Arc<Database>, admission: &Admission) -> Result<Pooled> {
        let (found, _) = find_table(&*database.connection()?, &admission.name)?;
        let unchanged = found == self.target;
        if admission.create.is_none() || !unchanged {
            return self.carry_over(database, admission);
        }
        let target = &admission.name;
        if admission.replaces {
            self.connection.execute(&format!("DROP TABLE {}", target.sql()))?;
        }
        let rename = format!("ALTER TABLE {} RENAME TO {}", self.table.sql(), quote(&target.table));
        self.connection.execute(&rename)?;
        Ok(self.connection)
    }

    /// Reads the rows from the staging table and appends them in a transaction that sees the target as it is.
    fn carry_over(self, database: &Arc<Database>, admission: &Admission) -> Result<Pooled> {
        let into = database.private_connection()?;
        into.execute("BEGIN TRANSACTION")?;
        if let Some(create) = &admission.create {
            into.execute(create)?;
        }
        let mut rows =
            self.connection.extract(&format!("FROM {}", self.table.sql()))?.prepare(0)?.execute()?;
        let schema = Arc::clone(rows.schema());
        let types = schema.fields().iter().zip(admission.fit.sql_types());
        let target = Target {
            table: admission.name.clone(),
            columns: admission.fit.columns().to_vec(),
            casts: types.into_iter().any(|(field, sql_type)| !imports_as(field, sql_type)),
        };
        let mut coalescer = Coalescer::new(schema);
        let mut sink = Sink::open(&into, &database.scans, &target)?.within(&database.appends, &target.table);
        while let Some(batch) = coalescer.fetch(&mut rows)? {
            if let Some(batch) = coalescer.push(batch)? {
                sink.take(&batch)?;
            }
        }
        if let Some(batch) = coalescer.finish()? {
            sink.take(&batch)?;
        }
        sink.finish()?;
        Ok(into)
    }
}

/// Runs a statement to see whether it can be, and takes it back.
fn try_out(connection: &Connection, sql: &str) -> Result<()> {
    connection.execute("BEGIN TRANSACTION")?;
    let outcome = connection.execute(sql);
    // After a failure DuckDB may have ended the transaction already.
    let _ = connection.execute("ROLLBACK");
    outcome?;
    Ok(())
}

/// What changes when a table is made anew or altered; `None` when there is no such table.
fn identity(connection: &Connection, name: &FullName) -> Result<Option<String>> {
    let sql = format!(
        "SELECT system.main.concat_ws(' ', table_oid, index_count, comment, sql) FROM system.main.duckdb_tables() \
         WHERE {}",
        is_of_table(name)
    );
    text_or_null(connection, &sql)
}

/// How a table is looked for.
type Find = fn(&Connection, &FullName) -> Result<Option<String>>;

/// Looks for a table outside of a transaction, and tells how to look for it within one: DuckDB's list asks every
/// catalog, and where one is out of reach, the list would abort the transaction.
fn find_table(connection: &Connection, name: &FullName) -> Result<(Option<String>, Find)> {
    match identity(connection, name) {
        Err(error) if error.class() == Some(Class::Unreachable) => {
            Ok((presence(connection, name)?, presence))
        }
        found => Ok((found?, identity)),
    }
}

/// The same where DuckDB's list cannot be had: what is there is never the same as before.
fn presence(connection: &Connection, name: &FullName) -> Result<Option<String>> {
    match connection.extract(&format!("FROM {}", name.sql()))?.prepare(0) {
        Ok(_) => unique_name("unknown").map(Some),
        Err(error) if error.class == Class::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A name that nobody else has.
fn unique_name(what: &str) -> Result<String> {
    let random = getrandom::u64().map_err(|error| Error::Internal(error.to_string()))?;
    Ok(format!("{INTERNAL_PREFIX}_{what}_{random:016x}"))
}

/// The rows in lots of `rows`, but for the last, which may have fewer; nothing is copied.
fn recut(batches: Vec<RecordBatch>, rows: usize) -> Vec<Vec<RecordBatch>> {
    let mut lots = vec![Vec::new()];
    let mut room = rows;
    for batch in batches {
        let mut start = 0;
        while start < batch.num_rows() {
            if room == 0 {
                lots.push(Vec::new());
                room = rows;
            }
            let count = room.min(batch.num_rows() - start);
            if let Some(lot) = lots.last_mut() {
                lot.push(batch.slice(start, count));
            }
            start += count;
            room -= count;
        }
    }
    lots
}

/// One batch of several. Dictionaries stay apart: the values of all may be more than their keys can count.
fn join(schema: &SchemaRef, parts: Vec<RecordBatch>) -> Vec<RecordBatch> {
    if schema.fields().iter().any(|field| has_dictionary(field.data_type())) {
        return parts;
    }
    match concat_batches(schema, &parts) {
        Ok(whole) => vec![whole],
        Err(_) => parts,
    }
}

fn has_dictionary(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, _) => true,
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => has_dictionary(field.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_dictionary(field.data_type())),
        DataType::RunEndEncoded(_, values) => has_dictionary(values.data_type()),
        _ => false,
    }
}
