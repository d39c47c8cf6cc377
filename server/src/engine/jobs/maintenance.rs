//! Maintenance of a DuckLake: small files into large ones, and what nobody can see any more out of the way.
//!
//! A run that has nothing to do is to write nothing, or else a lake at rest would get snapshots and files from its
//! maintenance alone. So a run looks first whether the lake has changed since one that this server has ended well.

use arrow_array::cast::AsArray;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{TABLES, again::again};
use crate::{
    engine::{
        Result,
        answers::numbers,
        ffi::Connection,
        lake::{AttachedCatalog, Maintenance},
        ledger::{LedgerTable, Retention},
    },
    sql::{INTERNAL_PREFIX, literal, quote},
};

/// A step that others were faster than is tried this many times.
const TRIES: u32 = 5;
/// Merging a table ends after so many steps at the latest; the next run goes on.
const MERGES: usize = 100;

/// What a run has done.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tidied {
    flushed_rows: u64,
    merged_files: u64,
    expired_snapshots: u64,
    deleted_files: u64,
    orphaned_files: u64,
    pruned_units: u64,
}

impl Tidied {
    /// For people.
    pub(super) fn told(&self) -> String {
        format!(
            "flushed {} rows, merged {} files, expired {} snapshots, deleted {} old and {} orphaned files, \
             forgot {} units",
            self.flushed_rows,
            self.merged_files,
            self.expired_snapshots,
            self.deleted_files,
            self.orphaned_files,
            self.pruned_units
        )
    }

    /// How many things were moved or taken away.
    pub(super) fn count(&self) -> u64 {
        self.flushed_rows
            + self.merged_files
            + self.expired_snapshots
            + self.deleted_files
            + self.orphaned_files
            + self.pruned_units
    }
}

/// The maintenance of one lake.
pub(super) struct Upkeep {
    catalog: AttachedCatalog,
    /// The newest snapshot when a run of this server began that has ended well.
    seen: Mutex<Option<u64>>,
}

impl Upkeep {
    /// That of a catalog of type `ducklake`.
    pub(super) fn of(catalog: AttachedCatalog) -> Self {
        Self { catalog, seen: Mutex::default() }
    }

    /// What is maintained.
    pub(super) fn catalog(&self) -> &AttachedCatalog {
        &self.catalog
    }

    /// One run. `take` takes the lease of the job, which only a run needs that has something to do; where another server
    /// has it, there is no answer.
    ///
    /// # Errors
    /// That of the first step that failed.
    pub(super) fn run(
        &self,
        connection: &Connection,
        stop: &CancellationToken,
        take: &mut dyn FnMut() -> Result<bool>,
    ) -> Result<Option<Tidied>> {
        let (name, metadata) = (literal(&self.catalog.name), metadata_of(&self.catalog.name));
        let lake = Lake { connection, name, metadata, stop };
        let mut seen = self.seen.lock();
        let newest = lake.newest_snapshot()?;
        // A lake that was put back to an earlier state begins to count anew.
        if let Some(seen) = *seen
            && newest >= seen
            && !lake.has_changed_since(seen)?
            && !lake.has_aged(&self.catalog.maintenance)?
        {
            return Ok(Some(Tidied::default()));
        }
        if !take()? {
            return Ok(None);
        }
        let tidied = tidy_up(&lake, &self.catalog)?;
        *seen = Some(newest);
        Ok(Some(tidied))
    }
}

/// Does all of it, a step at a time. One that fails does not keep the others from being done.
fn tidy_up(lake: &Lake<'_>, catalog: &AttachedCatalog) -> Result<Tidied> {
    let Maintenance { expire_after, delete_after, merge_files, .. } = &catalog.maintenance;
    let (mut tidied, mut failed) = (Tidied::default(), None);
    let mut step = |count: &mut u64, step: Result<u64>| match step {
        Ok(done) => *count += done,
        Err(error) => {
            tracing::warn!(catalog = catalog.name, %error, "a step of maintenance failed");
            failed.get_or_insert(error);
        }
    };
    step(&mut tidied.pruned_units, prune(lake.connection, &catalog.name, lake.stop));
    step(&mut tidied.flushed_rows, lake.sum("ducklake_flush_inlined_data", "", "rows_flushed"));
    match lake.tables() {
        Ok(tables) => {
            tables.iter().for_each(|table| step(&mut tidied.merged_files, lake.merge(table, *merge_files)))
        }
        Err(error) => step(&mut tidied.merged_files, Err(error)),
    }
    if let Some(age) = expire_after {
        let older = older_than(*age);
        step(&mut tidied.expired_snapshots, lake.count("ducklake_expire_snapshots", &older));
    }
    let older = older_than(*delete_after);
    step(&mut tidied.deleted_files, lake.count("ducklake_cleanup_old_files", &older));
    step(&mut tidied.orphaned_files, lake.count("ducklake_delete_orphaned_files", &older));
    failed.map_or(Ok(tidied), Err)
}

fn prune(connection: &Connection, catalog: &str, stop: &CancellationToken) -> Result<u64> {
    let table = LedgerTable::find(connection, catalog, true)?;
    again(stop, TRIES, || Ok(table.prune(connection, Retention::default())?))
}

fn older_than(age: std::time::Duration) -> String {
    // Without a zone, as DuckLake's functions want it; sessions run in UTC.
    format!(", older_than => (now() - to_microseconds({}))::TIMESTAMP", age.as_micros())
}

/// A table of the lake, as literals.
struct Table {
    schema: String,
    name: String,
}

/// A lake on a connection; the name as a literal, and that of its metadata as an identifier.
struct Lake<'a> {
    connection: &'a Connection,
    name: String,
    metadata: String,
    stop: &'a CancellationToken,
}

/// The catalog in which DuckLake keeps what it knows of a lake.
fn metadata_of(lake: &str) -> String {
    quote(&format!("__ducklake_metadata_{lake}"))
}

impl Lake<'_> {
    fn newest_snapshot(&self) -> Result<u64> {
        self.number(&format!("SELECT max(snapshot_id) FROM {}.ducklake_snapshot", self.metadata))
    }

    /// Whether anything but the tables of jobs was changed after a snapshot: each names what it changes, as in
    /// `inserted_into_table:5,created_table:"main"."t"`.
    fn has_changed_since(&self, snapshot: u64) -> Result<bool> {
        let metadata = &self.metadata;
        let names = TABLES.map(|(name, _)| literal(name)).join(", ");
        let changed = self.number(&format!(
            "SELECT count(*) FROM (
                SELECT unnest(string_split(changes_made, ',')) AS change FROM {metadata}.ducklake_snapshot_changes
                WHERE snapshot_id > {snapshot}
             ) WHERE NOT coalesce(regexp_full_match(change, '[a-z_]+:(' || (
                SELECT string_agg(t.table_id::VARCHAR, '|') FROM {metadata}.ducklake_table AS t
                JOIN {metadata}.ducklake_schema AS s USING (schema_id)
                WHERE schema_name = {} AND table_name IN ({names})
             ) || ')'), false)",
            literal(INTERNAL_PREFIX)
        ))?;
        Ok(changed > 0)
    }

    /// Whether there is something to forget or to delete, which comes with time.
    fn has_aged(&self, options: &Maintenance) -> Result<bool> {
        let dry = |function, age| self.count(function, &format!("{}, dry_run => true", older_than(age)));
        Ok(match options.expire_after {
            Some(age) => dry("ducklake_expire_snapshots", age)? > 0,
            None => false,
        } || dry("ducklake_cleanup_old_files", options.delete_after)? > 0
            || dry("ducklake_delete_orphaned_files", options.delete_after)? > 0)
    }

    /// Its tables, from its own metadata: DuckDB's list asks every catalog, and fails where another one is out of reach.
    fn tables(&self) -> Result<Vec<Table>> {
        let metadata = &self.metadata;
        let sql = format!(
            "SELECT schema_name, table_name FROM {metadata}.ducklake_table AS t \
             JOIN {metadata}.ducklake_schema AS s USING (schema_id) \
             WHERE t.end_snapshot IS NULL AND s.end_snapshot IS NULL ORDER BY ALL"
        );
        let mut rows = self.connection.extract(&sql)?.prepare(0)?.execute()?;
        let mut tables = Vec::new();
        while let Some(batch) = rows.next()? {
            let (schemas, names) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
            tables.extend(
                schemas
                    .iter()
                    .flatten()
                    .zip(names.iter().flatten())
                    .map(|(schema, name)| Table { schema: literal(schema), name: literal(name) }),
            );
        }
        Ok(tables)
    }

    /// Merges small files of one table, into a bounded number of large ones at a time; gives how many there were.
    fn merge(&self, table: &Table, files: u64) -> Result<u64> {
        let arguments =
            format!(", {}, schema => {}, max_compacted_files => {files}", table.name, table.schema);
        let mut merged = 0;
        for _ in 0..MERGES {
            match self.sum("ducklake_merge_adjacent_files", &arguments, "files_processed")? {
                0 => break,
                more => merged += more,
            }
        }
        Ok(merged)
    }

    /// How many rows a function of DuckLake gives.
    fn count(&self, function: &str, arguments: &str) -> Result<u64> {
        self.number(&format!("SELECT count(*) FROM {function}({}{arguments})", self.name))
    }

    /// The sum of a column of what a function of DuckLake gives.
    fn sum(&self, function: &str, arguments: &str, column: &str) -> Result<u64> {
        let call = format!("{function}({}{arguments})", self.name);
        self.number(&format!("SELECT coalesce(sum({column}), 0)::BIGINT FROM {call}"))
    }

    fn number(&self, sql: &str) -> Result<u64> {
        let counted = again(self.stop, TRIES, || numbers(self.connection, sql))?;
        Ok(counted.first().copied().flatten().unwrap_or_default() as u64)
    }
}
