//! Maintenance of a DuckLake: small files into large ones, and what nobody can see any more out of the way.
//!
//! A run that has nothing to do is to write nothing, or else a lake at rest would get snapshots and files from its
//! maintenance alone. So a run looks first whether the lake has changed since one that this server has ended well.

mod age;
mod inlined;
mod orphans;

use std::time::{Duration, Instant};

use arrow_array::cast::AsArray;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use self::orphans::Found;
use super::{JobClock, TABLES, retry::retry_conflicts};
use crate::{
    counted::counted,
    engine::{
        Error, Result,
        answers::{count, text_or_null},
        ffi::Connection,
        lake::{AttachedCatalog, Maintenance, metadata_of},
        ledger::{self, LedgerTable, Retention},
    },
    sql::{INTERNAL_PREFIX, literal, quote},
};

/// A step that others were faster than is tried this many times.
const TRIES: u32 = 5;
/// Merging a table ends after so many steps at the latest; the next run goes on.
const MERGES: usize = 100;
/// A lake at rest is searched for orphans so many times in the age at which they are deleted.
const SEARCHES: u32 = 4;

/// DuckLake's function that deletes what it takes for orphans.
const ORPHANS: &str = "ducklake_delete_orphaned_files";
/// The one that deletes files to which no snapshot refers any more.
const OLD_FILES: &str = "ducklake_cleanup_old_files";

/// What a run has done.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine::jobs) struct Tidied {
    flushed_rows: u64,
    merged_files: u64,
    expired_snapshots: u64,
    deleted_files: u64,
    orphaned_files: u64,
    pruned_units: u64,
}

impl Tidied {
    /// For people.
    pub(in crate::engine::jobs) fn summary(&self) -> String {
        format!(
            "flushed {}, merged {}, expired {}, deleted {} and {}, forgot {}",
            counted(self.flushed_rows, "row"),
            counted(self.merged_files, "file"),
            counted(self.expired_snapshots, "snapshot"),
            counted(self.deleted_files, "old file"),
            counted(self.orphaned_files, "orphaned file"),
            counted(self.pruned_units, "unit")
        )
    }

    /// How many things were moved or taken away.
    pub(in crate::engine::jobs) fn count(&self) -> u64 {
        self.flushed_rows
            + self.merged_files
            + self.expired_snapshots
            + self.deleted_files
            + self.orphaned_files
            + self.pruned_units
    }
}

/// The maintenance of one lake.
pub(in crate::engine::jobs) struct LakeMaintenance {
    catalog: AttachedCatalog,
    seen: Mutex<Seen>,
}

/// What this server knows of a lake from its runs that have ended well.
#[derive(Default)]
struct Seen {
    /// The newest snapshot when the last of them began.
    newest: Option<u64>,
    /// When a search found no orphans, or those that it found were deleted; `None` where it found what is no orphan. It
    /// lists all that is below the data_path.
    searched: Option<Instant>,
}

impl Seen {
    fn is_search_due(&self, delete_after: Duration) -> bool {
        self.searched.is_none_or(|searched| searched.elapsed() >= delete_after / SEARCHES)
    }
}

impl LakeMaintenance {
    /// That of a catalog of type `ducklake`.
    pub(in crate::engine::jobs) fn of(catalog: AttachedCatalog) -> Self {
        Self { catalog, seen: Mutex::default() }
    }

    /// What is maintained.
    pub(in crate::engine::jobs) fn catalog(&self) -> &AttachedCatalog {
        &self.catalog
    }

    /// One run. `take_lease` takes the lease of the job, which only a run needs that has something to do; where another server
    /// has it, there is no answer. `clock` is one of those that tell what is old.
    ///
    /// # Errors
    /// That of the first step that failed.
    pub(in crate::engine::jobs) fn run(
        &self,
        connection: &Connection,
        clock: &JobClock,
        stop: &CancellationToken,
        take_lease: &mut dyn FnMut() -> Result<bool>,
    ) -> Result<Option<Tidied>> {
        let lake = Lake::new(connection, &self.catalog, clock, stop);
        lake.compare_clocks()?;
        let mut seen = self.seen.lock();
        let newest = lake.newest_snapshot()?;
        // A lake that was put back to an earlier state begins to count anew.
        let (options, begun) = (&self.catalog.maintenance, Instant::now());
        if let Some(before) = seen.newest
            && newest >= before
            && !lake.has_changed_since(before)?
            && !lake.has_aged(options)?
        {
            if !seen.is_search_due(options.delete_after) {
                return Ok(Some(Tidied::default()));
            }
            if lake.orphans(&lake.older_than(options.delete_after)?)? == 0 {
                seen.searched = Some(begun);
                return Ok(Some(Tidied::default()));
            }
        }
        if !take_lease()? {
            return Ok(None);
        }
        let (mut tidied, swept) = tidy_up(&lake, &self.catalog)?;
        // All else is done, so that a lake at rest is only searched again.
        if matches!(swept, Ok(_) | Err(Error::NotOrphans { .. })) {
            *seen = Seen { newest: Some(newest), searched: swept.is_ok().then_some(begun) };
        }
        tidied.orphaned_files = swept?;
        Ok(Some(tidied))
    }
}

/// Does all of it, a step at a time. One that fails does not keep the others from being done. What came of the orphans is
/// told apart.
fn tidy_up(lake: &Lake<'_>, catalog: &AttachedCatalog) -> Result<(Tidied, Result<u64>)> {
    let Maintenance { every, expire_after, delete_after, merge_files, .. } = &catalog.maintenance;
    let (mut tidied, mut trimmed_rows, mut failed) = (Tidied::default(), 0, None);
    let log = |error: &Error| tracing::warn!(catalog = catalog.name, %error, "a step of maintenance failed");
    let mut step = |count: &mut u64, step: Result<u64>| match step.inspect_err(log) {
        Ok(done) => *count += done,
        Err(error) => drop(failed.get_or_insert(error)),
    };
    step(&mut tidied.pruned_units, prune(lake.connection, &catalog.name, lake.stop));
    step(&mut tidied.flushed_rows, lake.flush(every.is_some()));
    step(&mut trimmed_rows, lake.trim());
    match lake.tables(every.is_some()) {
        Ok(tables) => {
            tables.iter().for_each(|table| step(&mut tidied.merged_files, lake.merge(table, *merge_files)))
        }
        Err(error) => step(&mut tidied.merged_files, Err(error)),
    }
    if let Some(age) = expire_after {
        step(&mut tidied.expired_snapshots, lake.expire(*age));
    }
    tracing::debug!(
        catalog = catalog.name,
        trimmed_rows,
        "old rows of the server's own tables are forgotten"
    );
    step(&mut tidied.deleted_files, lake.delete_old_files(*delete_after));
    let swept = lake.sweep(*delete_after).inspect_err(log);
    failed.map_or(Ok((tidied, swept)), Err)
}

fn prune(connection: &Connection, catalog: &str, stop: &CancellationToken) -> Result<u64> {
    let table = LedgerTable::find(connection, catalog, true)?;
    retry_conflicts(stop, TRIES, || Ok(table.prune(connection, Retention::default())?))
}

/// The arguments for a look at what a function with these would take away.
fn dry(arguments: &str) -> String {
    format!("{arguments}, dry_run => true")
}

/// A table of the lake.
struct Table {
    schema: String,
    name: String,
}

impl Table {
    fn is(&self, schema: &str, name: &str) -> bool {
        (self.schema.as_str(), self.name.as_str()) == (schema, name)
    }
}

/// A lake on a connection; the name also as a literal, and that of its metadata as an identifier.
struct Lake<'a> {
    connection: &'a Connection,
    plain: &'a str,
    name: String,
    metadata: String,
    is_in_postgres: bool,
    is_in_sqlite: bool,
    clock: &'a JobClock,
    stop: &'a CancellationToken,
}

impl<'a> Lake<'a> {
    fn new(
        connection: &'a Connection,
        catalog: &'a AttachedCatalog,
        clock: &'a JobClock,
        stop: &'a CancellationToken,
    ) -> Self {
        let (is_in_postgres, is_in_sqlite) = (catalog.has_queue(), catalog.is_in_sqlite());
        let plain = catalog.name.as_str();
        let (name, metadata) = (literal(plain), quote(&metadata_of(plain)));
        Self { connection, plain, name, metadata, is_in_postgres, is_in_sqlite, clock, stop }
    }

    fn newest_snapshot(&self) -> Result<u64> {
        self.number(&format!("SELECT max(snapshot_id) FROM {}.ducklake_snapshot", self.metadata))
    }

    /// Whether anything but the tables of jobs was changed after a snapshot.
    fn has_changed_since(&self, snapshot: u64) -> Result<bool> {
        self.has_changes(&format!("> {snapshot}"))
    }

    /// Whether those of the snapshots with such an id have changed anything but the tables of jobs: each names what it
    /// changes, as in `inserted_into_table:5,created_table:"main"."t"`.
    fn has_changes(&self, ids: &str) -> Result<bool> {
        let metadata = &self.metadata;
        let names = TABLES.map(|(name, _)| literal(name)).join(", ");
        let changed = self.number(&format!(
            "SELECT count(*) FROM (
                SELECT unnest(string_split(changes_made, ',')) AS change FROM {metadata}.ducklake_snapshot_changes
                WHERE snapshot_id {ids}
             ) WHERE NOT coalesce(regexp_full_match(change, '[a-z_]+:(' || (
                SELECT string_agg(t.table_id::VARCHAR, '|') FROM {metadata}.ducklake_table AS t
                JOIN {metadata}.ducklake_schema AS s USING (schema_id)
                WHERE schema_name = {} AND table_name IN ({names})
             ) || ')'), false)",
            literal(INTERNAL_PREFIX)
        ))?;
        Ok(changed > 0)
    }

    /// Whether there is something to forget or to delete, which comes with time. What comes from the tables of jobs does not
    /// count, or else each run would be the reason of another one later; it goes with the next run.
    fn has_aged(&self, options: &Maintenance) -> Result<bool> {
        Ok(self.has_old_snapshots(options)? || self.has_old_files(options)?)
    }

    /// Deletes files that no commit has written down, where nothing else would go with them. What is found and what is deleted
    /// is older than the same moment, so that nothing has come to be old enough meanwhile.
    fn sweep(&self, age: Duration) -> Result<u64> {
        let older = self.older_than(age)?;
        match self.orphans(&older)? {
            0 => Ok(0),
            _ => self.count(ORPHANS, &older),
        }
    }

    /// How many such files there are.
    fn orphans(&self, older: &str) -> Result<u64> {
        let listed = format!("{ORPHANS}({}{})", self.name, dry(older));
        retry_conflicts(self.stop, TRIES, || {
            Found::look(self.connection, self.plain, &self.metadata, &listed)
        })?
        .check(self.plain)
    }

    /// Forgets snapshots that are so old; gives how many.
    fn expire(&self, age: Duration) -> Result<u64> {
        let ids = format!("SELECT string_agg(snapshot_id, ', ') {}", self.expirable(age)?);
        match self.retried(|| text_or_null(self.connection, &ids))? {
            Some(ids) => self.count("ducklake_expire_snapshots", &format!(", versions => [{ids}]")),
            None => Ok(0),
        }
    }

    /// Those that are so old, as what follows the columns of a query. The newest one always stays.
    fn expirable(&self, age: Duration) -> Result<String> {
        let older = self.snapshots_before(age)?;
        Ok(format!(
            "{older} AND snapshot_id < (SELECT max(snapshot_id) FROM {}.ducklake_snapshot)",
            self.metadata
        ))
    }

    /// Deletes files that no snapshot refers to since so long; gives how many.
    fn delete_old_files(&self, age: Duration) -> Result<u64> {
        self.count(OLD_FILES, &self.scheduled_before(age)?)
    }

    fn has_old_snapshots(&self, options: &Maintenance) -> Result<bool> {
        let Some(age) = options.expire_after else { return Ok(false) };
        self.has_changes(&format!("IN (SELECT snapshot_id {})", self.expirable(age)?))
    }

    fn has_old_files(&self, options: &Maintenance) -> Result<bool> {
        let older = dry(&self.scheduled_before(options.delete_after)?);
        let old = format!("{OLD_FILES}({}{older})", self.name);
        let of_jobs =
            TABLES.map(|(name, _)| format!("contains(path, '/{INTERNAL_PREFIX}/{name}/')")).join(" OR ");
        Ok(self.number(&format!("SELECT count(*) FROM {old} WHERE NOT ({of_jobs})"))? > 0)
    }

    /// The tables to merge, from its own metadata: DuckDB's list asks every catalog, and fails where another one is out of
    /// reach. Where few rows that are deleted stay in the metadata, DuckLake sees no conflict with a merge, which would bring
    /// them back (DuckDB 1.5.5). So no table is merged of which that is known, but the ledger, from which nobody but these
    /// runs deletes where they have a schedule.
    fn tables(&self, with_ledger: bool) -> Result<Vec<Table>> {
        let metadata = &self.metadata;
        let of_ledger =
            format!("schema_name = {} AND table_name = {}", literal(INTERNAL_PREFIX), literal(ledger::TABLE));
        let sql = format!(
            "SELECT schema_name, table_name FROM {metadata}.ducklake_table AS t \
             JOIN {metadata}.ducklake_schema AS s USING (schema_id) \
             WHERE t.end_snapshot IS NULL AND s.end_snapshot IS NULL \
             AND (({}) OR NOT EXISTS (SELECT 1 FROM {metadata}.ducklake_metadata AS o \
                 WHERE o.key = 'data_inlining_row_limit' AND coalesce(try_cast(o.value AS BIGINT), 1) > 0 \
                 AND (o.scope IS NULL OR (o.scope = 'schema' AND o.scope_id = t.schema_id) \
                 OR (o.scope = 'table' AND o.scope_id = t.table_id)))) ORDER BY ALL",
            if with_ledger { of_ledger } else { "false".into() }
        );
        self.listed(&sql)
    }

    /// The tables that a query lists by schema and name.
    fn listed(&self, sql: &str) -> Result<Vec<Table>> {
        let mut rows = self.connection.extract(sql)?.prepare(0)?.execute()?;
        let mut tables = Vec::new();
        while let Some(batch) = rows.next()? {
            let (schemas, names) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
            tables.extend(
                schemas
                    .iter()
                    .flatten()
                    .zip(names.iter().flatten())
                    .map(|(schema, name)| Table { schema: schema.to_owned(), name: name.to_owned() }),
            );
        }
        Ok(tables)
    }

    /// Merges small files of one table, into a bounded number of large ones at a time; gives how many there were.
    fn merge(&self, table: &Table, files: u64) -> Result<u64> {
        let (schema, name) = (literal(&table.schema), literal(&table.name));
        let arguments = format!(", {name}, schema => {schema}, max_compacted_files => {files}");
        let mut merged = 0;
        for _ in 0..MERGES {
            match self.merge_once(&arguments)? {
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

    /// One step of a merge; gives how many files there were. It reads what there is to be merged when it is planned.
    fn merge_once(&self, arguments: &str) -> Result<u64> {
        let call = format!("ducklake_merge_adjacent_files({}{arguments})", self.name);
        let sql = format!("SELECT coalesce(sum(files_processed), 0)::BIGINT FROM {call}");
        self.retried(|| self.in_transaction(|| count(self.connection, &sql)))
    }

    /// Does what reads the lake when it is planned. A statement outside a transaction is planned in one and run in the next, so
    /// that DuckLake would not see a conflict with what was committed between them, and that would be undone.
    fn in_transaction<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.connection.execute("BEGIN TRANSACTION")?;
        let ended =
            work().and_then(|done| self.connection.execute("COMMIT").map(|_| done).map_err(Error::from));
        if ended.is_err() {
            // Where COMMIT failed there is no transaction left.
            let _ = self.connection.execute("ROLLBACK");
        }
        ended
    }

    fn retried<T>(&self, work: impl FnMut() -> Result<T>) -> Result<T> {
        retry_conflicts(self.stop, TRIES, work)
    }

    fn number(&self, sql: &str) -> Result<u64> {
        self.retried(|| count(self.connection, sql))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lake_is_searched_for_orphans_once_and_then_from_time_to_time() {
        let day = Duration::from_secs(24 * 60 * 60);
        assert!(Seen::default().is_search_due(day));
        let just = Seen { searched: Some(Instant::now()), ..Seen::default() };
        assert!(!just.is_search_due(day));
        assert!(just.is_search_due(Duration::ZERO), "what is deleted at once is looked for at once");
    }
}
