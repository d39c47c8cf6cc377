//! The ledger on disk: a table in a schema of the server's own, in the database of the rows.
//!
//! A catalog that several servers share has a fence beside it: see [`super::fence`].
//!
//! It is made with the first keyed unit. A row is appended with each keyed unit, in its transaction; rows are
//! only ever removed by [`LedgerTable::prune`], from the front of a loader's.

use std::{
    collections::HashSet,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arrow_array::{
    ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array,
    cast::AsArray,
    types::{TimestampMicrosecondType, UInt64Type},
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::{Committed, Entry, IngestKey, Ledger, SharedLedger, Total, fence::Fence};
use crate::{
    engine::{
        Error, Result,
        append::{Imports, Sink, Target},
        catalog::FullName,
        ffi::{Connection, DuckError, ScanRegistry},
        jobs::{BOOK_COLUMNS, BOOK_TABLE},
    },
    sql::{INTERNAL_PREFIX, literal, quote},
};

const TABLE: &str = "ingest_ledger";
pub(super) const TABLE_OF_FENCE: &str = "ingest_fence";
/// The table's columns, as SQL.
const COLUMNS: [(&str, &str); 10] = [
    ("loader", "VARCHAR"),
    ("epoch", "UBIGINT"),
    ("sequence", "UBIGINT"),
    ("table_name", "VARCHAR"),
    ("rows", "UBIGINT"),
    ("hash_high", "UBIGINT"),
    ("hash_low", "UBIGINT"),
    ("commit_id", "UBIGINT"),
    ("total_rows", "UBIGINT"),
    ("total_units", "UBIGINT"),
];
const TIME_COLUMN: (&str, &str) = ("committed_at", "TIMESTAMP WITH TIME ZONE");

/// How long the ledger keeps what it knows of a loader's units; of its last one it knows for ever.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retention {
    /// Younger units are kept,
    pub(crate) age: Duration,
    /// up to so many a loader.
    pub(crate) units: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { age: Duration::from_secs(7 * 24 * 3600), units: 100_000 }
    }
}

/// Where the ledger of a database is.
#[derive(Debug)]
pub(crate) struct LedgerTable {
    target: Target,
    /// Where several servers share it.
    pub(super) fence: Option<Fence>,
    exists: AtomicBool,
}

impl LedgerTable {
    /// That of a catalog, which other servers may share; looks whether it is there.
    ///
    /// # Errors
    /// [`Error::LedgerClash`] when its place is taken by something else.
    pub(crate) fn find(connection: &Connection, catalog: &str, shared: bool) -> Result<Self> {
        let table = Self::of(catalog, shared);
        table.look_again(connection)?;
        Ok(table)
    }

    /// That of a catalog, taken for missing until it is looked for.
    pub(crate) fn of(catalog: &str, shared: bool) -> Self {
        let fence = shared.then(|| Fence::of(catalog));
        let table = FullName { catalog: catalog.into(), schema: INTERNAL_PREFIX.into(), table: TABLE.into() };
        let columns = columns().map(|(name, _)| name.to_owned()).collect();
        let target = Target { table, columns, casts: false };
        Self { target, fence, exists: AtomicBool::new(false) }
    }

    /// Looks whether it is there; for a database that was opened again.
    ///
    /// # Errors
    /// As [`LedgerTable::find`].
    pub(crate) fn look_again(&self, connection: &Connection) -> Result<()> {
        self.exists.store(self.is_there(connection)?, Ordering::SeqCst);
        Ok(())
    }

    /// Whether it has been made.
    pub(crate) fn exists(&self) -> bool {
        self.exists.load(Ordering::SeqCst)
    }

    fn is_there(&self, connection: &Connection) -> Result<bool> {
        let FullName { catalog, schema, table } = &self.target.table;
        let sql = format!(
            "SELECT coalesce(table_name, ''), coalesce(column_name, ''), coalesce(data_type, '') \
             FROM duckdb_schemas() s LEFT JOIN duckdb_columns() c USING (database_name, schema_name) \
             WHERE database_name = {} AND schema_name = {} ORDER BY column_index",
            literal(catalog),
            literal(schema)
        );
        let mut found = Vec::new();
        each_batch(connection, &sql, |batch| {
            for row in 0..batch.num_rows() {
                let text = |column| batch.column(column).as_string::<i32>().value(row).to_owned();
                found.push((text(0), text(1), text(2)));
            }
        })?;
        // What jobs remember has its place beside it.
        let mut others = found.iter().filter(|(table, ..)| table == BOOK_TABLE);
        let is_ours = |column: &(String, String, String)| {
            BOOK_COLUMNS.iter().any(|(name, sql)| column.1 == *name && column.2 == *sql)
        };
        if !others.all(is_ours) {
            return Err(Error::LedgerClash(schema.clone()));
        }
        found.retain(|(table, ..)| table != BOOK_TABLE);
        let mut expected: HashSet<_> =
            columns().map(|(name, sql)| (table.clone(), name.to_owned(), sql.to_owned())).collect();
        expected.extend(self.fence.as_ref().map(Fence::listed));
        match found.as_slice() {
            [] => Ok(false),
            // The schema without anything in it.
            [(table, ..)] if table.is_empty() => Ok(false),
            found if found.iter().cloned().collect::<HashSet<_>>() == expected => Ok(true),
            _ => Err(Error::LedgerClash(schema.clone())),
        }
    }

    /// Makes it where it is not there yet, in a transaction of its own.
    pub(crate) fn ensure(&self, connection: &Connection) -> Result<(), DuckError> {
        if self.exists() {
            return Ok(());
        }
        let FullName { catalog, schema, .. } = &self.target.table;
        let columns: Vec<_> =
            columns().map(|(name, sql)| format!("{} {sql} NOT NULL", quote(name))).collect();
        let fence = self.fence.as_ref().map_or_else(String::new, Fence::create_sql);
        let script = format!(
            "BEGIN TRANSACTION; CREATE SCHEMA IF NOT EXISTS {}.{}; CREATE TABLE IF NOT EXISTS {} ({}); {fence} COMMIT",
            quote(catalog),
            quote(schema),
            self.target.table.sql(),
            columns.join(", ")
        );
        if let Err(error) = connection.execute(&script) {
            // Where BEGIN itself failed there is nothing to roll back.
            let _ = connection.execute("ROLLBACK");
            return Err(error);
        }
        self.exists.store(true, Ordering::SeqCst);
        if let Some(fence) = &self.fence
            && let Err(error) = connection.execute(&fence.inline_sql(&self.target.table))
        {
            // Another server that has made them at the same time sets it, too; without it they only need more files.
            tracing::debug!(%error, "the ledger of a lake is not kept in its metadata");
        }
        Ok(())
    }

    /// Appends entries inside the transaction that is open on the connection.
    pub(crate) fn append(
        &self,
        connection: &Connection,
        scans: &Arc<ScanRegistry>,
        imports: &mut Imports,
        entries: &[Entry],
    ) -> Result<(), DuckError> {
        let sink = Sink::open(connection, scans, &self.target)?;
        sink.take(imports, &rows(entries))?;
        sink.finish()
    }

    /// Reads all of it.
    pub(crate) fn load(&self, connection: &Connection) -> Result<Ledger> {
        let mut ledger = Ledger::default();
        if self.exists() {
            // In the order in which it was written, which is that of each loader's sequences. A table of files has
            // no order of its own.
            let order = if self.fence.is_some() { " ORDER BY commit_id, sequence" } else { "" };
            let sql = format!("FROM {}{order}", self.target.table.sql());
            each_batch(connection, &sql, |batch| entries(batch).for_each(|entry| ledger.record(entry)))?;
        }
        Ok(ledger)
    }

    /// Takes into the ledger the units of later commits than this one.
    pub(super) fn load_since(
        &self,
        connection: &Connection,
        commit: u64,
        ledger: &SharedLedger,
    ) -> Result<()> {
        let sql = format!(
            "FROM {} WHERE commit_id > {commit} ORDER BY commit_id, sequence",
            self.target.table.sql()
        );
        each_batch(connection, &sql, |batch| {
            let mut ledger = ledger.lock();
            entries(batch).for_each(|entry| ledger.record(entry));
        })
    }

    /// What it knows of one unit.
    pub(crate) fn look_up(&self, connection: &Connection, key: &IngestKey) -> Result<Option<Committed>> {
        if !self.exists() {
            return Ok(None);
        }
        let sql = format!(
            "FROM {} WHERE loader = {} AND sequence = {}",
            self.target.table.sql(),
            literal(&key.loader),
            key.sequence
        );
        let mut found = None;
        each_batch(connection, &sql, |batch| found = entries(batch).last().map(|entry| entry.committed))?;
        Ok(found)
    }

    /// Forgets units that are older or more than a loader may have, but never its last. Returns how many.
    pub(crate) fn prune(&self, connection: &Connection, retention: Retention) -> Result<u64, DuckError> {
        if !self.exists() {
            return Ok(0);
        }
        let table = self.target.table.sql();
        connection.execute(&format!(
            "DELETE FROM {table} AS ledger USING \
             (SELECT loader, max(sequence) AS last FROM {table} GROUP BY loader) AS ends \
             WHERE ledger.loader = ends.loader AND ledger.sequence < ends.last \
             AND (ledger.sequence + {} <= ends.last OR ledger.committed_at < now() - to_seconds({}))",
            retention.units,
            retention.age.as_secs()
        ))
    }
}

fn columns() -> impl Iterator<Item = (&'static str, &'static str)> {
    COLUMNS.into_iter().chain([TIME_COLUMN])
}

fn schema() -> SchemaRef {
    static SCHEMA: OnceLock<SchemaRef> = OnceLock::new();
    let field = |(name, sql): (&str, &str)| {
        let data_type = match sql {
            "VARCHAR" => DataType::Utf8,
            "UBIGINT" => DataType::UInt64,
            _ => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        };
        Field::new(name, data_type, true)
    };
    Arc::clone(SCHEMA.get_or_init(|| Arc::new(Schema::new(columns().map(field).collect::<Vec<_>>()))))
}

/// Entries as rows of the table.
fn rows(entries: &[Entry]) -> RecordBatch {
    let numbers = |value: fn(&Entry) -> u64| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(entries.iter().map(value)))
    };
    let texts = |value: fn(&Entry) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(entries.iter().map(value)))
    };
    let at = TimestampMicrosecondArray::from_iter_values(entries.iter().map(|entry| entry.at));
    let columns = vec![
        texts(|entry| &entry.key.loader),
        numbers(|entry| entry.key.epoch),
        numbers(|entry| entry.key.sequence),
        texts(|entry| &entry.table),
        numbers(|entry| entry.committed.rows),
        numbers(|entry| (entry.committed.hash >> 64) as u64),
        numbers(|entry| entry.committed.hash as u64),
        numbers(|entry| entry.committed.commit),
        numbers(|entry| entry.total.rows),
        numbers(|entry| entry.total.units),
        Arc::new(at.with_timezone("UTC")) as ArrayRef,
    ];
    // The schema is made of the same list of columns.
    RecordBatch::try_new(schema(), columns).unwrap_or_else(|_| RecordBatch::new_empty(schema()))
}

/// The rows of the table as entries. Loaders and tables repeat, so their names are shared where they follow each
/// other.
fn entries(batch: &RecordBatch) -> impl Iterator<Item = Entry> + use<'_> {
    let text = |column: usize| batch.column(column).as_string::<i32>();
    let (loaders, tables) = (text(0), text(3));
    let number = |column: usize, row: usize| batch.column(column).as_primitive::<UInt64Type>().value(row);
    let at = batch.column(10).as_primitive::<TimestampMicrosecondType>();
    let mut before: (Arc<str>, Arc<str>) = ("".into(), "".into());
    (0..batch.num_rows()).map(move |row| {
        if *before.0 != *loaders.value(row) {
            before.0 = loaders.value(row).into();
        }
        if *before.1 != *tables.value(row) {
            before.1 = tables.value(row).into();
        }
        let hash = u128::from(number(5, row)) << 64 | u128::from(number(6, row));
        Entry {
            key: IngestKey { loader: Arc::clone(&before.0), epoch: number(1, row), sequence: number(2, row) },
            table: Arc::clone(&before.1),
            committed: Committed { hash, commit: number(7, row), rows: number(4, row) },
            at: at.value(row),
            total: Total { rows: number(8, row), units: number(9, row) },
        }
    })
}

fn each_batch(connection: &Connection, sql: &str, mut take: impl FnMut(&RecordBatch)) -> Result<()> {
    let mut rows = connection.extract(sql)?.prepare(0)?.stream()?;
    while let Some(batch) = rows.next()? {
        take(&batch);
    }
    Ok(())
}
