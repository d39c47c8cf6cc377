//! The ledger on disk: a table in a schema of the server's own, in the database of the rows.
//!
//! A catalog that several servers share has a fence beside it: see [`super::fence`].
//!
//! It is made with the first keyed unit. A row is appended with each keyed unit, in its transaction; rows are
//! only ever removed by [`LedgerTable::prune`], from the front of a loader's.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arrow_array::{RecordBatch, cast::AsArray};

use super::{Committed, Entry, IngestKey, Ledger, SharedLedger, fence::Fence, layout, upgrade};
use crate::{
    engine::{
        Error, Result,
        answers::first_text,
        catalog::FullName,
        ffi::{Class, Connection, DuckError, ScanRegistry},
        insert::{Inserts, Target},
        jobs,
        lake::PinnedSchemas,
    },
    sql::{INTERNAL_PREFIX, literal, quote},
};

pub(crate) const TABLE: &str = "ingest_units";
pub(crate) const TABLE_OF_FENCE: &str = "ingest_fence";

/// What there is of a ledger in a database.
enum Found {
    Nothing,
    Today,
    /// One that has to be upgraded.
    Before,
}

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
        let columns = layout::COLUMNS.map(|(name, _)| name.to_owned()).to_vec();
        let target = Target { table, columns, casts: false };
        Self { target, fence, exists: AtomicBool::new(false) }
    }

    /// Looks whether it is there; for a database that was opened again. One of an earlier version is upgraded.
    ///
    /// # Errors
    /// As [`LedgerTable::find`].
    pub(crate) fn look_again(&self, connection: &Connection) -> Result<()> {
        let exists = match self.search(connection)? {
            Found::Nothing => false,
            Found::Today => {
                self.settle_if_unused(connection)?;
                true
            }
            Found::Before => self.upgrade(connection)?,
        };
        self.exists.store(exists, Ordering::SeqCst);
        Ok(())
    }

    /// Gives false for a database that is only read, which has no use for its ledger.
    fn upgrade(&self, connection: &Connection) -> Result<bool> {
        let catalog = &self.target.table.catalog;
        let touch = self.fence.as_ref().map_or_else(String::new, Fence::touch_sql);
        match self.make(connection, &format!("{touch}{}", upgrade::sql(&self.target.table))) {
            Ok(()) => {
                tracing::info!(catalog, "upgraded the ledger");
                Ok(true)
            }
            Err(error) if error.class == Class::ReadOnly => {
                tracing::warn!(
                    catalog,
                    "the ledger is of an earlier version; open the database for writing once"
                );
                Ok(false)
            }
            // Another server of the lake may have been faster.
            Err(error) => match self.search(connection)? {
                Found::Today => Ok(true),
                Found::Nothing | Found::Before => Err(error.into()),
            },
        }
    }

    /// Whether it has been made.
    pub(crate) fn exists(&self) -> bool {
        self.exists.load(Ordering::SeqCst)
    }

    fn search(&self, connection: &Connection) -> Result<Found> {
        let schema = &self.target.table.schema;
        let mut found = match self.listed(connection) {
            // Perhaps another catalog is out of reach, for DuckDB's lists ask all.
            Err(error) if error.class() == Some(Class::Unreachable) => self.described(connection)?,
            listed => listed?,
        };
        // What jobs remember has its place beside it.
        for (others, columns) in jobs::TABLES {
            let is_ours = |(_, column, data_type): &ListedColumn| {
                columns.iter().any(|(name, sql)| column == name && data_type == sql)
            };
            if !found.iter().filter(|(table, ..)| table == others).all(is_ours) {
                return Err(Error::LedgerClash(schema.clone()));
            }
            found.retain(|(table, ..)| table != others);
        }
        match found.as_slice() {
            [] => Ok(Found::Nothing),
            // The schema without anything in it.
            [(table, ..)] if table.is_empty() => Ok(Found::Nothing),
            found if self.is_made_of(found, TABLE, &layout::COLUMNS) => Ok(Found::Today),
            found if self.is_made_of(found, upgrade::TABLE, &upgrade::COLUMNS) => Ok(Found::Before),
            _ => Err(Error::LedgerClash(schema.clone())),
        }
    }

    /// The columns of all tables in its schema, with their tables and types.
    fn listed(&self, connection: &Connection) -> Result<Vec<ListedColumn>> {
        let FullName { catalog, schema, .. } = &self.target.table;
        let sql = format!(
            "SELECT coalesce(table_name, ''), coalesce(column_name, ''), coalesce(data_type, '') \
             FROM system.main.duckdb_schemas() s \
             LEFT JOIN system.main.duckdb_columns() c USING (database_name, schema_name) \
             WHERE database_name = {} AND schema_name = {} ORDER BY column_index",
            literal(catalog),
            literal(schema)
        );
        listed_columns(connection, &sql)
    }

    /// The same of the server's own tables, one by one, which asks this catalog alone. What else is there goes unseen.
    fn described(&self, connection: &Connection) -> Result<Vec<ListedColumn>> {
        let mut found = Vec::new();
        let of_jobs = jobs::TABLES.map(|(table, _)| table);
        for table in [TABLE, TABLE_OF_FENCE, upgrade::TABLE].into_iter().chain(of_jobs) {
            let name = FullName { table: table.into(), ..self.target.table.clone() };
            let sql = format!(
                "SELECT {}, column_name, column_type FROM (DESCRIBE FROM {})",
                literal(table),
                name.sql()
            );
            match listed_columns(connection, &sql) {
                Ok(columns) => found.extend(columns),
                Err(error) if matches!(error.class(), Some(Class::NotFound | Class::Binder)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Whether that table, and the fence where there has to be one, is all that was found.
    fn is_made_of(&self, found: &[ListedColumn], table: &str, columns: &[(&str, &str)]) -> bool {
        let column = |(name, sql): &(&str, &str)| (table.to_owned(), (*name).to_owned(), (*sql).to_owned());
        let mut expected: HashSet<_> = columns.iter().map(column).collect();
        expected.extend(self.fence.as_ref().map(Fence::listed));
        found.iter().cloned().collect::<HashSet<_>>() == expected
    }

    /// Makes it where it is not there yet, in a transaction of its own.
    pub(crate) fn ensure(&self, connection: &Connection) -> Result<(), DuckError> {
        if self.exists() {
            return Ok(());
        }
        self.make(connection, &self.fence.as_ref().map_or_else(String::new, Fence::create_sql))?;
        self.exists.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Makes its table, and in the same transaction what `more` makes.
    fn make(&self, connection: &Connection, more: &str) -> Result<(), DuckError> {
        let FullName { catalog, schema, .. } = &self.target.table;
        let columns = layout::COLUMNS.map(|(name, sql)| format!("{} {sql} NOT NULL", quote(name)));
        let script = format!(
            "BEGIN TRANSACTION; CREATE SCHEMA IF NOT EXISTS {}.{}; CREATE TABLE IF NOT EXISTS {} ({}); {more} COMMIT",
            quote(catalog),
            quote(schema),
            self.target.table.sql(),
            columns.join(", ")
        );
        let mut pinned = PinnedSchemas::default();
        if self.fence.is_some() {
            pinned.pin(connection, catalog);
        }
        if let Err(error) = connection.execute(&script) {
            // Where BEGIN itself failed there is nothing to roll back.
            let _ = connection.execute("ROLLBACK");
            return Err(error);
        }
        self.settle(connection);
        Ok(())
    }

    /// Goes on where whoever has made it came no further. Commits without keys move the fence and leave it empty.
    fn settle_if_unused(&self, connection: &Connection) -> Result<()> {
        if let Some(fence) = &self.fence {
            let units = format!("SELECT system.main.count(*)::VARCHAR FROM {}", self.target.table.sql());
            if first_text(connection, &units)? == "0" && fence.version(connection)? == 0 {
                self.settle(connection);
            }
        }
        Ok(())
    }

    /// What a lake needs besides the tables, where it can be had. Another server that is at it, too, or has begun to
    /// write units, is in the way; without it the ledger needs more files, or what [`LedgerTable::inline`] says.
    fn settle(&self, connection: &Connection) {
        if let Some(fence) = &self.fence
            && let Err(error) = self.inline(connection, fence)
        {
            let _ = connection.execute("ROLLBACK");
            tracing::warn!(%error, "the ledger of a lake may not have its place in the lake's metadata");
        }
    }

    /// Keeps rows in the lake's metadata from now on, and has DuckLake make their places there, in commits that make
    /// no table besides. Otherwise they would come to be in the commit of the first unit, which may make its table:
    /// once all snapshots of that time have expired, a flush of the ledger would leave DuckLake a schema without
    /// that table, and its files could not be merged any more (DuckLake keeps schemas by their version alone).
    fn inline(&self, connection: &Connection, fence: &Fence) -> Result<(), DuckError> {
        let ledger = self.target.table.sql();
        connection.execute(&fence.inline_sql(&self.target.table))?;
        connection.execute(&format!(
            "BEGIN TRANSACTION; {} INSERT INTO {ledger} VALUES {}; COMMIT",
            fence.touch_sql(),
            layout::NOBODYS
        ))?;
        connection.execute(&format!("DELETE FROM {ledger} WHERE loader = ''"))?;
        Ok(())
    }

    /// Adds entries inside the transaction that is open on the connection.
    pub(crate) fn insert(
        &self,
        connection: &Connection,
        scans: &Arc<ScanRegistry>,
        inserts: &mut Inserts,
        entries: &[Entry],
    ) -> Result<(), DuckError> {
        let rows = layout::rows(entries);
        inserts.insert(connection, scans, (&self.target, rows.schema_ref()), std::iter::once(&rows))
    }

    /// Reads all of it.
    pub(crate) fn load(&self, connection: &Connection) -> Result<Ledger> {
        let mut ledger = Ledger::default();
        if self.exists() {
            // In the order in which it was written, which is that of each loader's sequences. A table of files has
            // no order of its own.
            let order = if self.fence.is_some() { " ORDER BY commit_id, sequence" } else { "" };
            let sql = format!("FROM {}{order}", self.target.table.sql());
            each_batch(connection, &sql, |batch| record(batch, &mut ledger))?;
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
        each_batch(connection, &sql, |batch| record(batch, &mut ledger.lock()))
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
        each_batch(connection, &sql, |batch| {
            for entry in layout::entries(batch) {
                found = Some(entry?.committed);
            }
            Ok(())
        })?;
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
             (SELECT loader, system.main.max(sequence) AS last FROM {table} GROUP BY loader) AS ends \
             WHERE ledger.loader = ends.loader AND ledger.sequence < ends.last \
             AND (system.main.\"+\"(ledger.sequence, {}) <= ends.last \
             OR ledger.committed_at < system.main.\"-\"(system.main.now(), system.main.to_seconds({})))",
            retention.units,
            retention.age.as_secs()
        ))
    }
}

/// A table, a column of it, and the column's type.
type ListedColumn = (String, String, String);

fn listed_columns(connection: &Connection, sql: &str) -> Result<Vec<ListedColumn>> {
    let mut found = Vec::new();
    each_batch(connection, sql, |batch| {
        for row in 0..batch.num_rows() {
            let text = |column| batch.column(column).as_string::<i32>().value(row).to_owned();
            found.push((text(0), text(1), text(2)));
        }
        Ok(())
    })?;
    Ok(found)
}

/// Takes the rows of the table into the ledger.
fn record(batch: &RecordBatch, ledger: &mut Ledger) -> Result<()> {
    for entry in layout::entries(batch) {
        let entry = entry?;
        if !entry.key.loader.is_empty() {
            ledger.record(entry);
        }
    }
    Ok(())
}

fn each_batch(
    connection: &Connection,
    sql: &str,
    mut take: impl FnMut(&RecordBatch) -> Result<()>,
) -> Result<()> {
    let mut rows = connection.extract(sql)?.prepare(0)?.stream()?;
    while let Some(batch) = rows.next()? {
        take(&batch)?;
    }
    Ok(())
}
