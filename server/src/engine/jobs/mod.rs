//! What the server does by itself from time to time, and on demand: maintenance of lakes, and pipelines.
//!
//! Each job has a task that waits for its time by a [`clock`]. Several servers may have the same jobs: they see in
//! the [`roster`], a table in the job's catalog, that one of them is at it or has just done it, and in the [`book`],
//! another one, how far a pipeline has come. [`board`] is what clients see of it all.

mod again;
mod board;
mod book;
mod clock;
mod lease;
mod limit;
mod maintenance;
mod orphans;
mod pipeline;
mod roster;
mod schedule;
mod sheet;
mod teller;

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant, SystemTime},
};

use futures::future::join_all;
use tokio::{runtime::Handle, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use self::{
    board::{ELSEWHERE, FAILED, LastRun, Notice},
    book::Book,
    lease::{Lease, RENEWED_AFTER},
    limit::Limit,
    maintenance::Upkeep,
    pipeline::Run,
    roster::Roster,
    schedule::follow,
    sheet::Columns,
    teller::Teller,
};
use super::{
    Engine, Error, Outcome, Result,
    catalog::FullName,
    database::{Database, Pooled},
    error::Class,
    ffi::Connection,
    lake::AttachedCatalog,
    names::Names,
};
use crate::{metrics, sql};
pub(crate) use board::{Board, listing, listing_schema};
pub use clock::JobClock;
pub use pipeline::Pipeline;

/// The tables that jobs have beside the ledger, with their columns.
pub(crate) const TABLES: [(&str, &Columns); 2] =
    [(book::TABLE, book::COLUMNS), (roster::TABLE, roster::COLUMNS)];

/// How long a stop waits for all jobs to end. What they have not committed then is as if it had not been done.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// A run is stopped after so long, unless the configuration says otherwise.
pub(crate) const LIMIT: Duration = Duration::from_secs(6 * 3600);

/// All jobs of a server.
pub(crate) struct Jobs {
    jobs: Vec<Arc<Job>>,
    tellers: Vec<Teller>,
    board: Board,
    clock: JobClock,
    stop: CancellationToken,
}

/// One job.
struct Job {
    name: String,
    work: Work,
    records: Records,
    lease: Lease,
    every: Option<Duration>,
    /// How long a run may take.
    limit: Duration,
    /// It runs once at a time; here is a run that was given up and may not have ended.
    running: tokio::sync::Mutex<Option<JoinHandle<Result<Ran>>>>,
    place: usize,
}

/// What the jobs of one catalog write down there.
#[derive(Clone)]
struct Records {
    book: Arc<Book>,
    roster: Arc<Roster>,
}

impl Records {
    fn of(catalog: &str) -> Self {
        let book = Arc::new(Book::of(catalog));
        let roster = Arc::new(Roster::of(catalog, Arc::clone(&book)));
        Self { book, roster }
    }
}

/// What a job does.
enum Work {
    Maintain(Box<Upkeep>),
    Promote { pipeline: Box<Pipeline>, target: FullName, checked: AtomicBool },
}

/// A job that was run, or found done by another server.
enum Ran {
    Done { changed: u64, detail: String },
    Elsewhere,
}

impl Jobs {
    /// The jobs that the configuration declares. Pipelines are checked, as far as what they read is there.
    ///
    /// # Errors
    /// [`Error::Setup`], which names the pipeline.
    pub(crate) fn new(database: &Arc<Database>) -> Result<Self> {
        let options = database.options();
        let names = Names::default_of(&database.catalog);
        let mut works = Vec::new();
        if !options.read_only {
            // Also of those that are missing, for they may come.
            let lakes = options.lake.catalogs.iter().filter(|it| it.is_shared() && !it.read_only);
            works.extend(lakes.map(|lake| Work::Maintain(Box::new(Upkeep::of(lake.clone())))));
            for pipeline in &options.pipelines {
                let target = pipeline.target(&names);
                let checked = check(database, pipeline, &target).map_err(|error| Error::Setup {
                    what: format!("pipeline {}", pipeline.name),
                    reason: error.to_string(),
                })?;
                let (pipeline, checked) = (Box::new(pipeline.clone()), AtomicBool::new(checked));
                works.push(Work::Promote { pipeline, target, checked });
            }
        }
        let stop = CancellationToken::new();
        let mut records: HashMap<String, Records> = HashMap::new();
        let mut jobs = Vec::new();
        for (place, work) in works.into_iter().enumerate() {
            let catalog = work.catalog();
            let records = records.entry(catalog.to_lowercase()).or_insert_with(|| Records::of(catalog));
            jobs.push(Arc::new(Job::new(records.clone(), work, &stop, place)));
        }
        let tellers = records.into_values().map(|records| Teller::of(records.roster)).collect();
        let board = Arc::clone(&database.board);
        *board.lock() = jobs.iter().map(|job| job.notice()).collect();
        Ok(Self { jobs, tellers, board, clock: options.job_clock.clone(), stop })
    }

    /// Ends the tasks; a run under way goes on to its end.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        for name in self.still_running(STOP_WITHIN).await {
            tracing::warn!(job = name, "a job is still running and is left to end with the process");
        }
    }

    /// The jobs whose runs have not ended after so long.
    async fn still_running(&self, patience: Duration) -> Vec<&str> {
        let deadline = tokio::time::Instant::now() + patience;
        let running = self.jobs.iter().map(async |job| {
            let ended = tokio::time::timeout_at(deadline, job.running.lock()).await;
            ended.is_err().then_some(job.name.as_str())
        });
        join_all(running).await.into_iter().flatten().collect()
    }
}

/// Checks a pipeline; false where what it reads may be in a catalog that is still to come.
fn check(database: &Arc<Database>, pipeline: &Pipeline, target: &FullName) -> Result<bool> {
    pipeline.check_target(database, target)?;
    let Err(error) = pipeline.check_source(&*database.connection()?) else { return Ok(true) };
    let is_optional = database.options().lake.catalogs.iter().any(|catalog| !catalog.required);
    let may_come = database.missing_catalogs().next().is_some()
        || is_optional && error.class() == Some(Class::Unreachable);
    if !may_come {
        return Err(error);
    }
    tracing::warn!(pipeline = pipeline.name, %error, "a pipeline is checked once its catalogs are there");
    Ok(false)
}

impl Engine {
    /// Lets the jobs that have a schedule begin to run. Call it within a runtime.
    pub fn start_jobs(&self) {
        for job in self.shared.jobs.jobs.iter().filter(|job| job.every.is_some()) {
            tokio::spawn(follow(self.clone(), Arc::clone(job)));
        }
    }

    /// Runs a job now; tells how many rows it moved, or how many rows, files and snapshots it tidied up.
    ///
    /// # Errors
    /// [`Error::JobMissing`]; [`Error::JobBusy`] when another server is at it; whatever DuckDB says.
    pub(super) async fn run_asked(&self, asked: sql::Job) -> Result<Outcome> {
        if self.read_only() {
            return Err(Error::ReadOnly);
        }
        let job = self.shared.jobs.jobs.iter().find(|job| job.work.is(&asked));
        let job = Arc::clone(job.ok_or_else(|| Error::JobMissing(missing(&asked)))?);
        let engine = self.clone();
        // Whoever asked may go away; the run goes on to its end.
        let running = tokio::spawn(async move { engine.run_job(&job, None).await });
        match running.await.unwrap_or_else(|panic| Err(Error::Internal(panic.to_string())))? {
            Ran::Done { changed, .. } => Ok(Outcome::Changed(changed)),
            Ran::Elsewhere => Err(Error::JobBusy),
        }
    }

    /// One run. `every` is its schedule, where it is run by that.
    async fn run_job(&self, job: &Arc<Job>, every: Option<Duration>) -> Result<Ran> {
        let mut given_up = job.running.lock().await;
        if self.shared.jobs.stop.is_cancelled() {
            return Err(Error::Stopping);
        }
        let begun = self.shared.jobs.clock.now();
        let started = Instant::now();
        let limit = Limit::of(job.limit);
        let is_stuck = given_up.as_ref().is_some_and(|before| !before.is_finished());
        let ran = if is_stuck {
            Err(limit.error())
        } else {
            let mut run =
                tokio::spawn(self.clone().on_a_thread(Arc::clone(job), begun, every, limit.clone()));
            tokio::select! {
                ran = &mut run => ran.unwrap_or_else(|panic| Err(Error::Internal(panic.to_string()))),
                never = self.keep_lease(job, begun) => match never {},
                () = limit.enforce(&self.shared.jobs.clock, begun) => {
                    *given_up = Some(run);
                    Err(limit.error())
                }
            }
        };
        let last = LastRun::of(begun, started.elapsed(), &ran);
        let LastRun { took, outcome, detail, .. } = &last;
        metrics::job_ran(&job.name, outcome, *took);
        match &ran {
            Err(error) => tracing::warn!(job = job.name, %error, "a job failed"),
            Ok(_) => {
                let milliseconds = took.as_millis() as u64;
                tracing::info!(job = job.name, outcome, detail, milliseconds, "ran a job");
            }
        }
        let mut board = self.shared.jobs.board.lock();
        if let Some(notice) = board.get_mut(job.place) {
            notice.own = Some(last);
        }
        ran
    }

    async fn on_a_thread(
        self,
        job: Arc<Job>,
        begun: SystemTime,
        every: Option<Duration>,
        limit: Limit,
    ) -> Result<Ran> {
        let engine = self.clone();
        self.blocking(move || job.run(&engine, begun, every, &limit)).await
    }

    /// Renews the lease of a run from time to time.
    async fn keep_lease(&self, job: &Arc<Job>, begun: SystemTime) -> Infallible {
        let clock = &self.shared.jobs.clock;
        let mut since = begun;
        loop {
            clock.reach(since + RENEWED_AFTER).await;
            since = clock.now();
            let (engine, kept) = (self.clone(), Arc::clone(job));
            let renewing = self.blocking(move || kept.lease.renew(&*kept.connect(&engine)?, since));
            if let Err(error) = renewing.await {
                tracing::warn!(job = job.name, %error, "the lease of a job was not renewed");
            }
        }
    }
}

/// A connection for work in a catalog.
fn connect(database: &Arc<Database>, catalog: &str) -> Result<Pooled> {
    let connection = database.private_connection()?;
    // What fails in another database does not condemn this one.
    if catalog != database.catalog {
        connection.forgive();
    }
    Ok(connection)
}

impl LastRun {
    fn of(begun: SystemTime, took: Duration, ran: &Result<Ran>) -> Self {
        let (outcome, detail, changed) = match ran {
            Ok(Ran::Done { changed, detail }) => ("done", detail.clone(), *changed),
            Ok(Ran::Elsewhere) => (ELSEWHERE, "another server is at it, or has just done it".into(), 0),
            Err(error) => (FAILED, error.to_string(), 0),
        };
        Self { begun, took, outcome: outcome.to_owned(), detail, changed }
    }
}

/// What came of a part of a run, as every client may read it: without hosts and paths, and with the name of the catalog
/// that does not answer. On a thread of the runtime that may block.
fn named<T>(engine: &Engine, outcome: Result<T>) -> Result<T> {
    Handle::current().block_on(engine.named(outcome)).map_err(|error| {
        let (class, told) = match error.class() {
            // All catalogs answer, so that it is storage, or was out of reach for a moment.
            Some(class @ (Class::Unreachable | Class::Storage)) => {
                (class, "a server, or the storage of files, that the job needs could not be reached")
            }
            Some(class @ Class::Io) => (class, "a file that the job needs could not be read or written"),
            _ => return error,
        };
        tracing::warn!(%error, "a job needs what it cannot reach");
        Error::Duck { class, message: format!("{told}; the server's log says which") }
    })
}

fn missing(asked: &sql::Job) -> String {
    match asked {
        sql::Job::Maintain(name) => {
            format!("there is no catalog {name:?} of type ducklake that takes writes")
        }
        sql::Job::Promote(name) => format!("there is no pipeline {name:?}"),
    }
}

impl Work {
    /// Where the job's book is.
    fn catalog(&self) -> &str {
        match self {
            Self::Maintain(upkeep) => &upkeep.catalog().name,
            Self::Promote { target, .. } => &target.catalog,
        }
    }

    fn is(&self, asked: &sql::Job) -> bool {
        match (self, asked) {
            (Self::Maintain(upkeep), sql::Job::Maintain(name)) => {
                upkeep.catalog().name.eq_ignore_ascii_case(name)
            }
            (Self::Promote { pipeline, .. }, sql::Job::Promote(name)) => {
                pipeline.name.eq_ignore_ascii_case(name)
            }
            (Self::Maintain(_) | Self::Promote { .. }, _) => false,
        }
    }
}

impl Job {
    fn new(records: Records, work: Work, stop: &CancellationToken, place: usize) -> Self {
        let (name, every, limit) = match &work {
            Work::Maintain(upkeep) => {
                let AttachedCatalog { name, maintenance, .. } = upkeep.catalog();
                (format!("maintain {name}"), maintenance.every, maintenance.limit)
            }
            Work::Promote { pipeline, .. } => (pipeline.name.clone(), pipeline.every, pipeline.limit),
        };
        let lease = Lease::new(&name, Arc::clone(&records.roster), stop.clone());
        Self { name, work, records, lease, every, limit, running: tokio::sync::Mutex::default(), place }
    }

    /// The catalog in which it is written down.
    fn catalog(&self) -> &str {
        self.records.roster.catalog()
    }

    fn notice(&self) -> Notice {
        let kind = match &self.work {
            Work::Maintain(_) => "maintenance",
            Work::Promote { .. } => "pipeline",
        };
        Notice {
            job: self.name.clone(),
            kind,
            catalog: self.catalog().to_owned(),
            every: self.every,
            own: None,
            told: None,
            next: None,
        }
    }

    fn connect(&self, engine: &Engine) -> Result<Pooled> {
        connect(&engine.shared.database, self.catalog())
    }

    fn run(&self, engine: &Engine, now: SystemTime, every: Option<Duration>, limit: &Limit) -> Result<Ran> {
        let shared = &engine.shared;
        let started = Instant::now();
        if shared.database.missing_catalogs().any(|missing| missing.name.eq_ignore_ascii_case(self.catalog()))
        {
            return Err(Error::CatalogDown(self.catalog().to_owned()));
        }
        let connection = self.connect(engine)?;
        limit.covers(&connection);
        if !named(engine, self.lease.is_free(&connection, now, every))? {
            return Ok(Ran::Elsewhere);
        }
        let mut taken = false;
        let mut take = || {
            limit.check()?;
            taken = taken || self.lease.take(&connection, shared.jobs.clock.now(), every)?;
            Ok(taken)
        };
        let ran = limit.explain(self.work(engine, &connection, limit, &mut take));
        limit.lift();
        let ran = named(engine, ran);
        if taken && matches!(self.work, Work::Maintain(_)) {
            shared.clock.schema_changed();
        }
        let last = LastRun::of(now, started.elapsed(), &ran);
        let told = match (&ran, taken) {
            (_, true) => self.lease.end(&connection, &last),
            (Ok(Ran::Elsewhere), false) => Ok(()),
            (_, false) => self.lease.tell(&connection, &last),
        };
        let ran = ran?;
        told?;
        Ok(ran)
    }

    /// Does what the job is there for. `take` takes the lease, once; false where another server was faster.
    fn work(
        &self,
        engine: &Engine,
        connection: &Connection,
        limit: &Limit,
        take: &mut dyn FnMut() -> Result<bool>,
    ) -> Result<Ran> {
        let shared = &engine.shared;
        match &self.work {
            Work::Maintain(upkeep) => {
                let tidied = upkeep.run(connection, &shared.jobs.stop, take)?;
                Ok(tidied.map_or(Ran::Elsewhere, |tidied| Ran::Done {
                    changed: tidied.count(),
                    detail: tidied.told(),
                }))
            }
            Work::Promote { pipeline, target, checked } => {
                if let Some(missing) = pipeline.missing(&shared.database, target) {
                    return Err(Error::CatalogDown(missing));
                }
                let run = Run { pipeline, target, engine, book: &self.records.book, checked, limit };
                let moved = run.promote(take)?;
                Ok(moved.map_or(Ran::Elsewhere, |moved| Ran::Done {
                    changed: moved.rows,
                    detail: moved.told(pipeline),
                }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Options, Script, TableRef, answers::numbers};

    /// A pipeline from a table with one row to another one, which has to wait for its turn.
    fn options(clock: &JobClock, from: &str) -> Options {
        let pipeline = Pipeline {
            name: "copy".into(),
            from: from.into(),
            incremental: "id".into(),
            overlap: None,
            into: TableRef { catalog: None, schema: None, table: "copied".into() },
            key: vec!["id".into()],
            every: None,
            limit: LIMIT,
        };
        let sql = "CREATE TABLE events AS SELECT 1 AS id, 'text' AS v".into();
        Options {
            init_sql: Some(Script { name: "init".into(), sql }),
            wait: Duration::from_secs(3600),
            pipelines: vec![pipeline],
            job_clock: clock.clone(),
            ..Options::default()
        }
    }

    /// What the book says of the pipeline: when it was begun and when the lease ends, in microseconds since 1970.
    fn page(engine: &Engine) -> Option<[Option<i64>; 2]> {
        let connection = engine.shared.database.connection().unwrap();
        let sql = "SELECT begun_at, held_until FROM __merganser.job_runs WHERE job = 'copy'";
        numbers(&connection, sql).ok()?.try_into().ok()
    }

    fn held_until(engine: &Engine) -> Option<i64> {
        page(engine)?[1]
    }

    async fn until(mut holds: impl FnMut() -> bool) {
        let holding = async {
            while !holds() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), holding).await.expect("it holds in time");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stop_waits_for_all_jobs_together() {
        let clock = JobClock::standing();
        let mut options = options(&clock, "events");
        let first = options.pipelines[0].clone();
        options.pipelines.extend(["b", "c"].map(|name| Pipeline { name: name.into(), ..first.clone() }));
        let engine = Engine::open(options).unwrap();
        let jobs = &engine.shared.jobs;
        let runs = join_all(jobs.jobs.iter().map(|job| job.running.lock())).await;
        let (patience, started) = (Duration::from_secs(1), Instant::now());
        assert_eq!(jobs.still_running(patience).await, ["copy", "b", "c"]);
        assert!(started.elapsed() < patience * 3, "{:?}", started.elapsed());
        drop(runs);
        assert!(jobs.still_running(patience).await.is_empty());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_run_that_goes_on_renews_its_lease() {
        let clock = JobClock::standing();
        let engine = Engine::open(options(&clock, "events")).unwrap();
        let turn = engine.shared.turn.take().await.unwrap();
        let asked = engine.clone();
        let running = tokio::spawn(async move { asked.run_asked(sql::Job::Promote("copy".into())).await });
        until(|| held_until(&engine).is_some()).await;
        let first = held_until(&engine);
        clock.advance(RENEWED_AFTER);
        until(|| held_until(&engine) > first).await;
        drop(turn);
        assert!(matches!(running.await.unwrap().unwrap(), Outcome::Changed(1)));
        assert!(matches!(page(&engine), Some([Some(_), None])));
        engine.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_run_that_fails_leaves_nothing_that_holds_the_next_one_up() {
        let wrong = "SELECT id, CAST(v AS INTEGER) AS v FROM events";
        let engine = Engine::open(options(&JobClock::standing(), wrong)).unwrap();
        assert!(engine.run_asked(sql::Job::Promote("copy".into())).await.is_err());
        assert_eq!(page(&engine), Some([None, None]));
        engine.shutdown().await;
    }
}
