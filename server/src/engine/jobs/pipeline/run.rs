//! One run of a pipeline.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::runtime::Handle;

use super::{
    super::{
        connect,
        limit::Limit,
        retry::retry_conflicts,
        watermarks::{Scope, Watermark, Watermarks},
    },
    Pipeline,
    query::has_infinity,
};
use crate::{
    counted::counted,
    engine::{
        CatalogKind, Engine, Error, Result,
        answers::count,
        attached::Site,
        catalog::FullName,
        database::Pooled,
        ffi::Connection,
        ingest::{StagedQuery, Way},
    },
    sql::quote,
};

/// A run that others were faster than begins anew this many times.
const TRIES: u32 = 10;

/// What a run has moved.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine::jobs) struct Moved {
    pub(in crate::engine::jobs) rows: u64,
    /// Rows with infinity, or with what is no number, in the column by which rows are new; counted where any have moved.
    left_out: u64,
    /// Why it has begun anew, from the first row on.
    anew: Option<&'static str>,
}

impl Moved {
    /// For people.
    pub(in crate::engine::jobs) fn summary(&self, pipeline: &Pipeline) -> String {
        let Self { rows, left_out, anew } = self;
        let mut summary = format!("moved {}", counted(*rows, "row"));
        if let Some(reason) = anew {
            summary += &format!(" from the first one on, because {reason}");
        }
        if *left_out > 0 {
            summary +=
                &format!(", left out {left_out} with infinity or NaN in {}", quote(&pipeline.incremental));
        }
        summary
    }
}

/// One run of a pipeline, on a thread of the runtime that may block.
pub(in crate::engine::jobs) struct Run<'a> {
    pub(in crate::engine::jobs) pipeline: &'a Pipeline,
    pub(in crate::engine::jobs) target: &'a FullName,
    pub(in crate::engine::jobs) engine: &'a Engine,
    pub(in crate::engine::jobs) watermarks: &'a Arc<Watermarks>,
    /// Whether the source has been checked.
    pub(in crate::engine::jobs) checked: &'a AtomicBool,
    pub(in crate::engine::jobs) limit: &'a Limit,
}

/// How far the pipeline had come before.
struct Before {
    mark: Option<Watermark>,
    /// The row in which that is,
    from: String,
    /// and the one in which it is written from now on.
    row: String,
    /// It may have been written for another database, so that it says nothing of this one.
    is_foreign: bool,
}

/// What a try has staged.
struct Found {
    staged: StagedQuery,
    before: Before,
    /// How far it comes with these rows,
    last: String,
    /// in what.
    scope: Scope,
    moved: Moved,
}

impl Run<'_> {
    /// Moves what is new; tells what that was. `take_lease` takes the lease of the job, which only rows that are to be
    /// moved need; where another server has it, there is no answer.
    pub(in crate::engine::jobs) fn promote(
        &self,
        take_lease: &mut dyn FnMut() -> Result<bool>,
    ) -> Result<Option<Moved>> {
        retry_conflicts(&self.engine.shared.jobs.stop, TRIES, || self.try_once(take_lease))
    }

    fn try_once(&self, take_lease: &mut dyn FnMut() -> Result<bool>) -> Result<Option<Moved>> {
        // Of its own, with what is staged on it: the catalog's writer gets it.
        let connection = connect(&self.engine.shared.database, &self.target.catalog)?;
        self.limit.covers(&connection);
        if !self.checked.load(Ordering::Relaxed) {
            self.pipeline.check_source(&connection)?;
            self.checked.store(true, Ordering::Relaxed);
        }
        let Some(found) = self.find(&connection)? else { return Ok(Some(Moved::default())) };
        if !take_lease()? {
            return Ok(None);
        }
        let moved = found.moved;
        if let Some(reason) = moved.anew {
            tracing::warn!(pipeline = self.pipeline.name, reason, "a pipeline begins anew");
        }
        match self.engine.shared.attached.site(&self.target.catalog) {
            Some(site) => self.enter_by_writer(site, connection, found)?,
            None => self.enter_in_turn(&connection, &found)?,
        }
        Ok(Some(moved))
    }

    /// Stages what is new; nothing where that changes nothing.
    fn find(&self, connection: &Connection) -> Result<Option<Found>> {
        let Self { pipeline, target, engine, .. } = *self;
        if engine.shared.database.attached_catalogs().any(|catalog| catalog.kind == CatalogKind::Postgres) {
            // Else columns would be those of the first look at PostgreSQL.
            connection.execute("CALL pg_clear_cache()")?;
        }
        let sql_type = pipeline.column_type(connection)?;
        let before = self.before(connection, &sql_type)?;
        let table = engine.shared.catalog.look_up(target)?;
        let scope = pipeline.scope(target);
        let anew = self.begins_anew(connection, &before, &scope, table.is_some())?;
        let after = before.mark.as_ref().filter(|_| anew.is_none()).map(|mark| mark.value.as_str());
        let begin = after.map(|mark| pipeline.begin(connection, mark, &sql_type)).transpose()?.flatten();
        let condition = pipeline.condition(begin.as_deref(), &sql_type);
        let by = quote(&pipeline.incremental);
        let query = format!("SELECT * FROM {} {condition} ORDER BY {by} NULLS FIRST", pipeline.source());
        // Into the server's own database rows are admitted as those of an upload; and PostgreSQL has types of its own.
        let keeps_types = matches!(
            engine.shared.database.kind_of(&target.catalog),
            Some(CatalogKind::DuckLake { .. } | CatalogKind::DuckDb)
        );
        let request = pipeline.request();
        let staged = StagedQuery::fill(connection, target, table.as_deref(), &request, &query, keeps_types)?;
        let Some(last) = staged.last(connection, &pipeline.incremental)? else { return Ok(None) };
        let rows = staged.settle(connection, target)?;
        if rows == 0 && after == Some(last.as_str()) {
            return Ok(None);
        }
        let left_out = self.left_out(connection, after, &sql_type);
        Ok(Some(Found { staged, last, scope, moved: Moved { rows, left_out, anew }, before }))
    }

    /// How far the pipeline has come over what it reads. The version before wrote one watermark for all databases: that goes on as
    /// the one of a database which has come as far.
    fn before(&self, connection: &Connection, sql_type: &str) -> Result<Before> {
        let Self { pipeline, target, engine, watermarks, .. } = *self;
        let (row, name) = (pipeline.row(connection, &engine.shared.database, target)?, &pipeline.name);
        let mark = watermarks.read(connection, &row)?;
        if mark.is_some() || row == *name {
            return Ok(Before { mark, from: row.clone(), row, is_foreign: false });
        }
        let Some(mark) = watermarks.read(connection, name)? else {
            return Ok(Before { mark: None, from: row.clone(), row, is_foreign: false });
        };
        let is_foreign = count(connection, &pipeline.reached(&mark.value, sql_type))? == 0;
        Ok(Before { mark: Some(mark), from: name.clone(), row, is_foreign })
    }

    /// Why a pipeline that has come far is to begin with the first row again: its watermark is of something else.
    fn begins_anew(
        &self,
        connection: &Connection,
        before: &Before,
        scope: &Scope,
        is_there: bool,
    ) -> Result<Option<&'static str>> {
        let Some(watermark) = &before.mark else { return Ok(None) };
        let reason = match &watermark.scope {
            _ if !is_there => return Ok(Some("the table that they go to was not there")),
            _ if before.is_foreign => {
                "how far it has come was written for another database, which has come further"
            }
            Some(before) if !before.target.eq_ignore_ascii_case(&scope.target) => {
                "they go to another table now"
            }
            Some(before) if !before.incremental.eq_ignore_ascii_case(&scope.incremental) => {
                "another column tells now which are new"
            }
            _ => return Ok(None),
        };
        // Rows that are there would come twice.
        let any = format!("SELECT count(*) FROM (FROM {} LIMIT 1)", self.target.sql());
        if self.pipeline.key.is_empty() && count(connection, &any)? > 0 {
            return Err(Error::SchemaMismatch(format!(
                "the pipeline cannot go on, because {reason}, and cannot begin anew without doubles, because it has no \
                 key and {} has rows; give it a key, empty the table, or give the pipeline another name to add all rows",
                self.target
            )));
        }
        Ok(Some(reason))
    }

    /// How many rows are left out. It is for people alone: where it fails, the run goes on.
    fn left_out(&self, connection: &Connection, watermark: Option<&str>, sql_type: &str) -> u64 {
        if !has_infinity(sql_type) {
            return 0;
        }
        let pipeline = self.pipeline;
        let condition = pipeline.left_out(watermark, sql_type);
        let sql = format!("SELECT count(*) FROM {} {condition}", pipeline.source());
        count(connection, &sql).unwrap_or_else(|error| {
            tracing::debug!(pipeline = pipeline.name, %error, "rows that are left out were not counted");
            0
        })
    }

    /// Has the catalog's writer bring the rows in.
    fn enter_by_writer(&self, site: &Site, connection: Pooled, found: Found) -> Result<()> {
        let (shape, way) = (found.staged.shape(found.moved.rows), Way::into(site));
        let (watermarks, target) = (Arc::clone(self.watermarks), self.target.clone());
        let limit = self.limit.clone();
        let enter = move |connection: &Connection| {
            // It may have waited for its place.
            limit.check()?;
            found.enter(connection, &watermarks, &target, &way)
        };
        let committing = self.engine.commit_query(site, connection, shape, self.target, enter);
        Handle::current().block_on(committing)
    }

    /// Brings the rows in where no writer of a catalog is: in the server's turn, as anybody's would.
    fn enter_in_turn(&self, connection: &Connection, found: &Found) -> Result<()> {
        let Self { pipeline, target, engine, watermarks, .. } = *self;
        let request = pipeline.request();
        let way = Handle::current().block_on(engine.admit_query(&request, &found.staged))?;
        let _writing = engine.shared.clock.writing();
        watermarks.transaction(connection, || found.enter(connection, watermarks, target, &way))?;
        if way.changes_schema(&found.staged) {
            engine.shared.clock.schema_changed();
        }
        Ok(())
    }
}

impl Found {
    /// Brings the staged rows in, and writes down how far that is, in the transaction that is open.
    fn enter(
        &self,
        connection: &Connection,
        watermarks: &Watermarks,
        target: &FullName,
        way: &Way,
    ) -> Result<()> {
        let Before { mark, from, row, is_foreign } = &self.before;
        let moves = from != row;
        if watermarks.read(connection, from)? != *mark || moves && watermarks.read(connection, row)?.is_some()
        {
            // By a server that was believed to be dead, or else has read them before this one took the lease.
            return Err(Error::JobBusy);
        }
        self.staged.enter(connection, target, way)?;
        watermarks.write(connection, row, &self.last, &self.scope)?;
        if moves && !is_foreign { watermarks.forget(connection, from) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::query::tests::pipeline, *};
    use crate::engine::{
        AttachedCatalog, Lake, Maintenance, Options, Script, TableRef,
        jobs::{
            LIMIT,
            job::{Job, Work},
        },
    };

    /// A run of an engine's only pipeline.
    fn run<'a>(engine: &'a Engine, job: &'a Job, limit: &'a Limit) -> Run<'a> {
        let Work::Promote { pipeline, target, checked } = &job.work else { panic!("no pipeline") };
        Run { pipeline, target, engine, watermarks: &job.tables.watermarks, checked, limit }
    }

    /// An engine with one row to be moved into this table, and a file of DuckDB beside its own database.
    fn moving_into(folder: &tempfile::TempDir, catalog: Option<&str>) -> Engine {
        let archive = AttachedCatalog {
            name: "archive".into(),
            kind: CatalogKind::DuckDb,
            location: folder.path().join("archive.db").to_string_lossy().into(),
            secret: None,
            read_only: false,
            required: true,
            maintenance: Maintenance::default(),
        };
        let into = TableRef { catalog: catalog.map(Into::into), schema: None, table: "moved".into() };
        let sql = "CREATE TABLE events AS SELECT 1 AS at".into();
        let options = Options {
            init_sql: Some(Script { name: "init".into(), sql }),
            lake: Lake { catalogs: vec![archive], ..Lake::default() },
            pipelines: vec![Pipeline { into, ..pipeline("events", &[], None) }],
            ..Options::default()
        };
        Engine::open(options).unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_run_that_is_overtaken_after_it_has_staged_moves_nothing_twice() {
        for catalog in [None, Some("archive")] {
            let folder = tempfile::tempdir().unwrap();
            let engine = moving_into(&folder, catalog);
            let running = engine.clone();
            let moved = tokio::task::spawn_blocking(move || {
                let job = &running.shared.jobs.jobs[0];
                let connection = job.connect(&running).unwrap();
                job.tables.runs.ensure(&connection).unwrap();
                let mut faster = None;
                let limit = Limit::of(LIMIT);
                let slower = run(&running, job, &limit).promote(&mut || {
                    // What the slower one has staged goes in here.
                    if faster.is_none() {
                        faster = run(&running, job, &limit).promote(&mut || Ok(true))?;
                    }
                    Ok(true)
                });
                let count = count(&connection, &format!("SELECT count(*) FROM {}", job_table(job)));
                (faster.unwrap().rows, slower.unwrap().unwrap().rows, count.unwrap())
            });
            assert_eq!(moved.await.unwrap(), (1, 0, 1), "into {catalog:?}");
            engine.shutdown().await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_watermark_of_the_version_before_goes_on_for_the_database_that_has_come_as_far() {
        let folder = tempfile::tempdir().unwrap();
        let engine = moving_into(&folder, Some("archive"));
        let running = engine.clone();
        let tried = tokio::task::spawn_blocking(move || {
            let job = &running.shared.jobs.jobs[0];
            let connection = job.connect(&running).unwrap();
            job.tables.runs.ensure(&connection).unwrap();
            connection.execute("CREATE TABLE archive.moved AS SELECT 1 AS at").unwrap();
            let (limit, watermarks) = (Limit::of(LIMIT), &job.tables.watermarks);
            let write = |mark: &str| {
                let scope = Scope { target: "\"main\".\"moved\"".into(), incremental: "at".into() };
                let written = || watermarks.write(&connection, "p", mark, &scope);
                watermarks.transaction(&connection, written).unwrap();
            };
            let promote =
                || run(&running, job, &limit).promote(&mut || Ok(true)).map(|moved| moved.unwrap().rows);
            write("7");
            let refused = promote().unwrap_err().to_string();
            assert!(refused.contains("for another database"), "{refused}");
            write("1");
            assert_eq!(promote().unwrap(), 0);
            connection.execute("INSERT INTO events VALUES (2)").unwrap();
            assert_eq!(promote().unwrap(), 1);
            assert_eq!(watermarks.read(&connection, "p").unwrap(), None, "nobody else goes on from it");
            assert_eq!(promote().unwrap(), 0);
            assert_eq!(count(&connection, "SELECT count(*) FROM archive.moved").unwrap(), 2);
        });
        tried.await.unwrap();
        engine.shutdown().await;
    }

    fn job_table(job: &Job) -> String {
        let Work::Promote { target, .. } = &job.work else { panic!("no pipeline") };
        target.sql()
    }
}
