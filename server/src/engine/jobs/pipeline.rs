//! Pipelines: rows that are new in a query go into a table, once each.
//!
//! How far a pipeline has come is written in the same transaction as its rows, in the catalog of the table. So
//! whatever dies, and however many servers run the same pipeline, no row comes twice and none is left out.
//!
//! What is new is read into a temporary table first, with nothing held, because a source may be slow, and because a run
//! that finds nothing is to write nothing. Servers that read the same rows at the same time find out when they take the
//! lease, or else in the transaction.
//!
//! The transaction in an attached catalog is that of the catalog's writer, as an upload's, so that rows with the same keys
//! which loaders send at the same time do not come twice.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::runtime::Handle;

use super::{
    again::again,
    book::{Book, Course, Mark},
    connect,
    limit::Limit,
};
use crate::{
    counted::counted,
    engine::{
        CatalogKind, Engine, Error, IfExists, IfMissing, IngestRequest, Merge, NewColumns, OnConflict,
        Result,
        answers::{count, text_or_null},
        attached::Site,
        catalog::{FullName, TableRef},
        database::{Database, Pooled},
        ffi::Connection,
        ingest::{StagedQuery, Way},
        names::Names,
    },
    sql::{literal, mentions, quote},
};

/// A run that others were faster than begins anew this many times.
const TRIES: u32 = 10;
/// As whose upload the rows count.
const LOADER: u64 = 0;

/// What moves, from where and to where.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// The name.
    pub name: String,
    /// A query, or the name of a table.
    pub from: String,
    /// The column by which rows are new: it grows.
    pub incremental: String,
    /// Rows are read again that lie this far before the last one, in the column's own unit: for rows that become
    /// visible late. A number, or an interval such as `10 minutes`.
    pub overlap: Option<String>,
    /// The table that they go to, which is made where it is missing.
    pub into: TableRef,
    /// The columns that tell rows apart; a row whose key is there takes the place of the old one. None adds all rows.
    pub key: Vec<String>,
    /// How often; `None` is only on demand.
    pub every: Option<std::time::Duration>,
    /// How long a run may take.
    pub limit: std::time::Duration,
}

/// What a run has moved.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) rows: u64,
    /// Rows with infinity, or with what is no number, in the column by which rows are new; counted where any have moved.
    left_out: u64,
    /// Why it has begun anew, from the first row on.
    anew: Option<&'static str>,
}

impl Moved {
    /// For people.
    pub(super) fn told(&self, pipeline: &Pipeline) -> String {
        let Self { rows, left_out, anew } = self;
        let mut told = format!("moved {}", counted(*rows, "row"));
        if let Some(reason) = anew {
            told += &format!(" from the first one on, because {reason}");
        }
        if *left_out > 0 {
            told +=
                &format!(", left out {left_out} with infinity or NaN in {}", quote(&pipeline.incremental));
        }
        told
    }
}

/// One run of a pipeline, on a thread of the runtime that may block.
pub(super) struct Run<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) target: &'a FullName,
    pub(super) engine: &'a Engine,
    pub(super) book: &'a Arc<Book>,
    /// Whether the source has been checked.
    pub(super) checked: &'a AtomicBool,
    pub(super) limit: &'a Limit,
}

/// What a try has staged.
struct Found {
    staged: StagedQuery,
    /// How far the pipeline had come before,
    before: Option<Mark>,
    /// and how far it comes with these rows,
    last: String,
    /// in what.
    course: Course,
    moved: Moved,
}

impl Pipeline {
    /// The table's whole name.
    pub(super) fn target(&self, default: &Names) -> FullName {
        self.into.resolve(default)
    }

    /// What its watermark is of.
    fn course(&self, target: &FullName) -> Course {
        let target = format!("{}.{}", quote(&target.schema), quote(&target.table));
        Course { target, incremental: self.incremental.clone() }
    }

    /// The rows as a query in parentheses.
    fn source(&self) -> String {
        let text = self.from.trim_start();
        let first: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let is_query = ["select", "from", "with"].contains(&first.to_lowercase().as_str());
        match is_query || text.starts_with('(') {
            // A comment at its end must not take the bracket with it.
            true => format!("({}\n)", self.from.trim_end().trim_end_matches(';').trim_end()),
            false => format!("(FROM {})", self.from),
        }
    }

    /// The declared catalogs that it needs and that are not there, for people.
    pub(super) fn missing(&self, database: &Database, target: &FullName) -> Option<String> {
        let is_needed = |name: &str| {
            name.eq_ignore_ascii_case(&target.catalog) || mentions(&self.from, &name.to_lowercase())
        };
        let missing = database.missing_catalogs().map(|catalog| catalog.name.as_str());
        let missing: Vec<_> = missing.filter(|name| is_needed(name)).collect();
        (!missing.is_empty()).then(|| missing.join(", "))
    }

    /// Whether rows may go where they are to go.
    pub(super) fn check_target(&self, database: &Database, target: &FullName) -> Result<()> {
        let declared = &database.options().lake.catalogs;
        let catalog = declared.iter().find(|catalog| catalog.name.eq_ignore_ascii_case(&target.catalog));
        if catalog.is_some_and(|catalog| catalog.read_only) {
            return Err(Error::SchemaMismatch(format!(
                "nothing can be written to the catalog {:?}",
                target.catalog
            )));
        }
        if catalog.is_some_and(|catalog| catalog.kind == CatalogKind::Sqlite) {
            // The book needs a schema that clients cannot reach, and cannot be in another database: one transaction
            // writes to one.
            return Err(Error::SchemaMismatch(
                "SQLite has no schema beside its own, and so no place for how far a pipeline has come; \
                 send its rows to a catalog of another type"
                    .into(),
            ));
        }
        Ok(())
    }

    /// Whether everything that it reads is there, without moving anything.
    pub(super) fn check_source(&self, connection: &Connection) -> Result<()> {
        let sql_type = self.column_type(connection)?;
        let columns: Vec<_> =
            self.key.iter().chain([&self.incremental]).map(|column| quote(column)).collect();
        connection.execute(&format!("SELECT {} FROM {} LIMIT 0", columns.join(", "), self.source()))?;
        if self.overlap.is_some() {
            connection.execute(&format!("SELECT {}", self.bound("NULL", &sql_type)))?;
        }
        Ok(())
    }

    /// The SQL type of the column by which rows are new.
    fn column_type(&self, connection: &Connection) -> Result<String> {
        let sql = format!(
            "SELECT column_type FROM (DESCRIBE FROM {}) WHERE lower(column_name) = lower({})",
            self.source(),
            literal(&self.incremental)
        );
        let missing = || Error::SchemaMismatch(format!("there is no column {:?}", self.incremental));
        text_or_null(connection, &sql)?.ok_or_else(missing)
    }

    fn request(&self) -> IngestRequest {
        let merge = Merge { keys: self.key.clone(), on_conflict: OnConflict::Update };
        IngestRequest {
            if_missing: IfMissing::Create,
            if_exists: IfExists::Append,
            merge: (!self.key.is_empty()).then_some(merge),
            new_columns: NewColumns::Add,
            ..IngestRequest::append(self.into.clone(), LOADER)
        }
    }

    /// The condition for rows after the watermark, as a WHERE, which the source may be asked with. With a key those that are
    /// equal to it are read again, since more of them may have come; without one they would come twice. What is infinite
    /// or no number is never among them: nothing comes after it.
    fn condition(&self, watermark: Option<&str>, sql_type: &str) -> String {
        let column = quote(&self.incremental);
        let after = if self.key.is_empty() { ">" } else { ">=" };
        let after =
            watermark.map(|mark| format!("{column} {after} {}", self.bound(&literal(mark), sql_type)));
        let finite = has_infinity(sql_type).then(|| format!("isfinite({column}) IS DISTINCT FROM false"));
        let conditions: Vec<_> = after.into_iter().chain(finite).collect();
        match conditions.is_empty() {
            true => String::new(),
            false => format!("WHERE {}", conditions.join(" AND ")),
        }
    }

    /// The condition for rows after the watermark that are left out, which a source finds by what it knows of its files or
    /// by an index. To DuckDB, what is no number is larger than infinity.
    fn left_out(&self, watermark: Option<&str>, sql_type: &str) -> String {
        let column = quote(&self.incremental);
        let before_all = match watermark {
            Some(_) => String::new(),
            None => format!(" OR {column} = CAST('-infinity' AS {sql_type})"),
        };
        format!("WHERE {column} >= CAST('infinity' AS {sql_type}){before_all}")
    }

    /// From where rows are read; the watermark as SQL.
    fn bound(&self, watermark: &str, sql_type: &str) -> String {
        let from = format!("CAST({watermark} AS {sql_type})");
        match &self.overlap {
            None => from,
            Some(number) if number.parse::<f64>().is_ok() => format!("{from} - {number}"),
            Some(interval) => format!("{from} - INTERVAL {}", literal(interval)),
        }
    }
}

/// Whether values of an SQL type may be infinite or no number.
fn has_infinity(sql_type: &str) -> bool {
    ["DATE", "TIMESTAMP", "FLOAT", "DOUBLE"].iter().any(|kind| sql_type.starts_with(kind))
}

impl Run<'_> {
    /// Moves what is new; tells what that was. `take` takes the lease of the job, which only rows that are to be
    /// moved need; where another server has it, there is no answer.
    pub(super) fn promote(&self, take: &mut dyn FnMut() -> Result<bool>) -> Result<Option<Moved>> {
        again(&self.engine.shared.jobs.stop, TRIES, || self.try_once(take))
    }

    fn try_once(&self, take: &mut dyn FnMut() -> Result<bool>) -> Result<Option<Moved>> {
        // Of its own, with what is staged on it: the catalog's writer gets it.
        let connection = connect(&self.engine.shared.database, &self.target.catalog)?;
        self.limit.covers(&connection);
        if !self.checked.load(Ordering::Relaxed) {
            self.pipeline.check_source(&connection)?;
            self.checked.store(true, Ordering::Relaxed);
        }
        let Some(found) = self.find(&connection)? else { return Ok(Some(Moved::default())) };
        if !take()? {
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
        let Self { pipeline, target, engine, book, .. } = *self;
        if engine.shared.database.attached_catalogs().any(|catalog| catalog.kind == CatalogKind::Postgres) {
            // Else columns would be those of the first look at PostgreSQL.
            connection.execute("CALL pg_clear_cache()")?;
        }
        let before = book.read(connection, &pipeline.name)?;
        let table = engine.shared.catalog.look_up(target)?;
        let course = pipeline.course(target);
        let anew = self.begins_anew(connection, before.as_ref(), &course, table.is_some())?;
        let mark = before.as_ref().filter(|_| anew.is_none()).map(|mark| mark.watermark.as_str());
        let sql_type = pipeline.column_type(connection)?;
        let condition = pipeline.condition(mark, &sql_type);
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
        if rows == 0 && mark == Some(last.as_str()) {
            return Ok(None);
        }
        let left_out = self.left_out(connection, mark, &sql_type);
        Ok(Some(Found { staged, last, course, moved: Moved { rows, left_out, anew }, before }))
    }

    /// Why a pipeline that has come far is to begin with the first row again: its mark is of something else.
    fn begins_anew(
        &self,
        connection: &Connection,
        mark: Option<&Mark>,
        course: &Course,
        is_there: bool,
    ) -> Result<Option<&'static str>> {
        let Some(mark) = mark else { return Ok(None) };
        let reason = match &mark.course {
            _ if !is_there => return Ok(Some("the table that they go to was not there")),
            Some(before) if !before.target.eq_ignore_ascii_case(&course.target) => {
                "they go to another table now"
            }
            Some(before) if !before.incremental.eq_ignore_ascii_case(&course.incremental) => {
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
        let (book, name, target) = (Arc::clone(self.book), self.pipeline.name.clone(), self.target.clone());
        let limit = self.limit.clone();
        let enter = move |connection: &Connection| {
            // It may have waited for its place.
            limit.check()?;
            found.enter(connection, &book, &name, &target, &way)
        };
        let committing = self.engine.commit_query(site, connection, shape, self.target, enter);
        Handle::current().block_on(committing)
    }

    /// Brings the rows in where no writer of a catalog is: in the server's turn, as anybody's would.
    fn enter_in_turn(&self, connection: &Connection, found: &Found) -> Result<()> {
        let Self { pipeline, target, engine, book, .. } = *self;
        let request = pipeline.request();
        let way = Handle::current().block_on(engine.admit_query(&request, &found.staged))?;
        let _writing = engine.shared.clock.writing();
        book.transaction(connection, || found.enter(connection, book, &pipeline.name, target, &way))?;
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
        book: &Book,
        name: &str,
        target: &FullName,
        way: &Way,
    ) -> Result<()> {
        if book.read(connection, name)? != self.before {
            // By a server that was believed to be dead, or else has read them before this one took the lease.
            return Err(Error::JobBusy);
        }
        self.staged.enter(connection, target, way)?;
        book.write(connection, name, &self.last, &self.course)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{
        AttachedCatalog, Lake, Maintenance, Options, Script,
        jobs::{Job, LIMIT, Work},
    };

    /// A run of an engine's only pipeline.
    fn run<'a>(engine: &'a Engine, job: &'a Job, limit: &'a Limit) -> Run<'a> {
        let Work::Promote { pipeline, target, checked } = &job.work else { panic!("no pipeline") };
        Run { pipeline, target, engine, book: &job.records.book, checked, limit }
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
                job.records.roster.ensure(&connection).unwrap();
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

    fn job_table(job: &Job) -> String {
        let Work::Promote { target, .. } = &job.work else { panic!("no pipeline") };
        target.sql()
    }

    fn pipeline(from: &str, key: &[&str], overlap: Option<&str>) -> Pipeline {
        Pipeline {
            name: "p".into(),
            from: from.into(),
            incremental: "at".into(),
            overlap: overlap.map(str::to_owned),
            into: TableRef { catalog: None, schema: None, table: "t".into() },
            key: key.iter().map(|&key| key.to_owned()).collect(),
            every: None,
            limit: LIMIT,
        }
    }

    #[test]
    fn a_table_or_a_query_is_read() {
        assert_eq!(pipeline("pg.public.events", &[], None).source(), "(FROM pg.public.events)");
        assert_eq!(pipeline("SELECT 1 AS at ;", &[], None).source(), "(SELECT 1 AS at\n)");
    }

    #[test]
    fn rows_after_the_watermark_are_new() {
        let plain = pipeline("t", &[], None);
        assert_eq!(plain.condition(None, "BIGINT"), "");
        assert_eq!(plain.condition(Some("7"), "BIGINT"), "WHERE \"at\" > CAST('7' AS BIGINT)");
        assert_eq!(plain.condition(None, "DOUBLE"), "WHERE isfinite(\"at\") IS DISTINCT FROM false");
        let keyed = pipeline("t", &["id"], Some("10 minutes"));
        let after = "WHERE \"at\" >= CAST('2026-01-01' AS TIMESTAMP) - INTERVAL '10 minutes'";
        assert_eq!(
            keyed.condition(Some("2026-01-01"), "TIMESTAMP"),
            format!("{after} AND isfinite(\"at\") IS DISTINCT FROM false")
        );
        assert_eq!(keyed.left_out(Some("2026-01-01"), "DATE"), "WHERE \"at\" >= CAST('infinity' AS DATE)");
        let five = pipeline("t", &["id"], Some("5"));
        assert!(five.condition(Some("9"), "BIGINT").ends_with("- 5"));
    }
}
