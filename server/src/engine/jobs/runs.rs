//! Which server is at a job, and how the last run of it has ended, whichever server's that was: a table in the job's
//! catalog.
//!
//! It is not the [`watermarks`](super::watermarks), because the two change at the same time: while the rows of a pipeline enter, which
//! may take long and changes the watermarks, the lease of the run is renewed here, and other jobs begin and end.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use arrow_array::RecordBatch;

use super::{
    status::LastRun,
    table::{Columns, JobTable, moment_at, moment_sql, number_at, number_sql, text_at, text_sql},
    watermarks::Watermarks,
};
use crate::engine::{Result, ffi::Connection};

/// The table's name, beside the ledger.
pub(super) const TABLE: &str = "job_runs";
/// Its columns.
pub(super) const COLUMNS: &Columns = &[
    ("job", "VARCHAR"),
    ("changes", "BIGINT"),
    ("begun_at", "BIGINT"),
    ("held_until", "BIGINT"),
    ("last_begun_at", "BIGINT"),
    ("last_took", "BIGINT"),
    ("last_outcome", "VARCHAR"),
    ("last_detail", "VARCHAR"),
    ("last_changed", "BIGINT"),
];
/// Those of a [`RunRecord`], after the job's name.
const READ: &str =
    "job, begun_at, held_until, last_begun_at, last_took, last_outcome, last_detail, last_changed";

/// The table in one catalog.
pub(super) struct Runs {
    table: JobTable,
    watermarks: Arc<Watermarks>,
    is_shared: bool,
}

/// What it says of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RunRecord {
    /// When it was begun last. A run that has failed takes it back, so that the next one need not wait.
    pub(super) begun_at: Option<SystemTime>,
    /// Somebody is at it until then, unless it is dead.
    pub(super) held_until: Option<SystemTime>,
    /// The last run that has ended.
    pub(super) last: Option<LastRun>,
}

impl Runs {
    /// The one beside these watermarks, of a catalog that other servers may have at the same time or not.
    pub(super) fn of(catalog: &str, is_shared: bool, watermarks: Arc<Watermarks>) -> Self {
        Self { table: JobTable::of(catalog, TABLE, COLUMNS), watermarks, is_shared }
    }

    /// Whether another server may be at a job in it.
    pub(super) fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// The name of the catalog.
    pub(super) fn catalog(&self) -> &str {
        &self.table.name().catalog
    }

    /// Makes the tables where they are not there yet. The version before had the leases beside the watermarks: those that somebody
    /// may still hold are taken over.
    pub(super) fn ensure(&self, connection: &Connection) -> Result<()> {
        let fill = || {
            let watermarks = self.watermarks.table();
            if !watermarks.is_there(connection)? {
                return Ok(String::new());
            }
            Ok(format!(
                "INSERT INTO {} (job, changes, begun_at, held_until) SELECT job, 0, begun_at, held_until FROM {} \
                 WHERE begun_at IS NOT NULL OR held_until IS NOT NULL;",
                self.table.name().sql(),
                watermarks.name().sql()
            ))
        };
        self.table.ensure(connection, fill)?;
        self.watermarks.ensure(connection)
    }

    /// Reads a job's row.
    fn read(&self, connection: &Connection, job: &str) -> Result<RunRecord> {
        let rows = self.table.rows(connection, READ, Some(job))?;
        Ok(records(&rows).next().map(|(_, record)| record).unwrap_or_default())
    }

    /// Reads it where the table may not be there yet.
    pub(super) fn look(&self, connection: &Connection, job: &str) -> Result<RunRecord> {
        match self.table.is_there(connection)? {
            true => self.read(connection, job),
            false => Ok(RunRecord::default()),
        }
    }

    /// The last runs of all jobs; none where nobody has made the table yet.
    pub(super) fn last_runs(&self, connection: &Connection) -> Result<Vec<(String, LastRun)>> {
        if !self.table.is_there(connection)? {
            return Ok(Vec::new());
        }
        let rows = self.table.rows(connection, READ, None)?;
        Ok(records(&rows).filter_map(|(job, record)| Some((job, record.last?))).collect())
    }

    /// Changes a job's row in a transaction of its own, which writes nothing where nothing changes.
    pub(super) fn change(
        &self,
        connection: &Connection,
        job: &str,
        change: impl FnOnce(&mut RunRecord),
    ) -> Result<()> {
        self.table.transaction(connection, || {
            let before = self.read(connection, job)?;
            let mut record = before.clone();
            change(&mut record);
            if record == before { Ok(()) } else { self.table.write(connection, job, &record.values()) }
        })
    }
}

impl RunRecord {
    /// When it was begun last, also where that failed; what lies after `latest` was told by a clock that was wrong.
    pub(super) fn last_begun(&self, latest: SystemTime) -> Option<SystemTime> {
        let told = [self.begun_at, self.last.as_ref().map(|last| last.begun)];
        told.into_iter().flatten().filter(|begun| *begun <= latest).max()
    }

    fn values(&self) -> [(&'static str, String); 7] {
        let last = self.last.as_ref();
        let number = |of: &dyn Fn(&LastRun) -> u128| {
            number_sql(last.map(|last| i64::try_from(of(last)).unwrap_or(i64::MAX)))
        };
        [
            ("begun_at", moment_sql(self.begun_at)),
            ("held_until", moment_sql(self.held_until)),
            ("last_begun_at", moment_sql(last.map(|last| last.begun))),
            ("last_took", number(&|last| last.took.as_micros())),
            ("last_outcome", text_sql(last.map(|last| last.outcome.as_str()))),
            ("last_detail", text_sql(last.map(|last| last.detail.as_str()))),
            ("last_changed", number(&|last| last.changed.into())),
        ]
    }
}

/// The rows with the names of their jobs.
fn records(batches: &[RecordBatch]) -> impl Iterator<Item = (String, RunRecord)> {
    let rows = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| (batch, row)));
    rows.map(|(batch, row)| {
        let record = RunRecord {
            begun_at: moment_at(batch, 1, row),
            held_until: moment_at(batch, 2, row),
            last: last_run(batch, row),
        };
        (text_at(batch, 0, row).unwrap_or_default(), record)
    })
}

fn last_run(batch: &RecordBatch, row: usize) -> Option<LastRun> {
    Some(LastRun {
        begun: moment_at(batch, 3, row)?,
        took: Duration::from_micros(number_at(batch, 4, row)?),
        outcome: text_at(batch, 5, row)?,
        detail: text_at(batch, 6, row)?,
        changed: number_at(batch, 7, row)?,
    })
}
