//! One job: what it does, and its run on a thread that may block.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant, SystemTime},
};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    Pipeline, connect,
    error::for_clients,
    lease::Lease,
    limit::Limit,
    maintenance::LakeMaintenance,
    pipeline::Run,
    runs::Runs,
    status::{JobStatus, LastRun},
    watermarks::Watermarks,
};
use crate::{
    engine::{
        Engine, Error, Result, catalog::FullName, database::Pooled, ffi::Connection, lake::AttachedCatalog,
    },
    sql,
};

/// One job.
pub(super) struct Job {
    pub(super) name: String,
    /// The name of its row in the tables.
    pub(super) row: String,
    pub(super) work: Work,
    pub(super) tables: Tables,
    pub(super) lease: Lease,
    pub(super) every: Option<Duration>,
    /// How long a run may take.
    pub(super) limit: Duration,
    /// It runs once at a time; here is a run that was given up and may not have ended.
    pub(super) running: tokio::sync::Mutex<Option<JoinHandle<Result<Ran>>>>,
    /// Of its status among those of all jobs.
    pub(super) index: usize,
}

/// What the jobs of one catalog write down there.
#[derive(Clone)]
pub(super) struct Tables {
    pub(super) watermarks: Arc<Watermarks>,
    pub(super) runs: Arc<Runs>,
}

impl Tables {
    /// Those in a catalog that other servers may have at the same time or not.
    pub(super) fn of(catalog: &str, is_shared: bool) -> Self {
        let watermarks = Arc::new(Watermarks::of(catalog));
        let runs = Arc::new(Runs::of(catalog, is_shared, Arc::clone(&watermarks)));
        Self { watermarks, runs }
    }
}

/// What a job does.
pub(super) enum Work {
    Maintain(Box<LakeMaintenance>),
    Promote { pipeline: Box<Pipeline>, target: FullName, checked: AtomicBool },
}

/// A job that was run, or found done by another server.
pub(super) enum Ran {
    Done { changed: u64, detail: String },
    Elsewhere,
}

impl Work {
    /// Where the job's tables are.
    pub(super) fn catalog(&self) -> &str {
        match self {
            Self::Maintain(maintenance) => &maintenance.catalog().name,
            Self::Promote { target, .. } => &target.catalog,
        }
    }

    pub(super) fn is(&self, asked: &sql::Job) -> bool {
        match (self, asked) {
            (Self::Maintain(maintenance), sql::Job::Maintain(name)) => {
                maintenance.catalog().name.eq_ignore_ascii_case(name)
            }
            (Self::Promote { pipeline, .. }, sql::Job::Promote(name)) => {
                pipeline.name.eq_ignore_ascii_case(name)
            }
            (Self::Maintain(_) | Self::Promote { .. }, _) => false,
        }
    }
}

impl Job {
    /// One that is written down in the row of this name; `None` is its own.
    pub(super) fn new(
        tables: Tables,
        work: Work,
        row: Option<String>,
        stop: &CancellationToken,
        index: usize,
    ) -> Self {
        let (name, every, limit) = match &work {
            Work::Maintain(maintenance) => {
                let AttachedCatalog { name, maintenance, .. } = maintenance.catalog();
                (format!("maintain {name}"), maintenance.every, maintenance.limit)
            }
            Work::Promote { pipeline, .. } => (pipeline.name.clone(), pipeline.every, pipeline.limit),
        };
        let row = row.unwrap_or_else(|| name.clone());
        let lease = Lease::new(&row, Arc::clone(&tables.runs), stop.clone());
        Self { name, row, work, tables, lease, every, limit, running: tokio::sync::Mutex::default(), index }
    }

    /// The catalog in which it is written down.
    pub(super) fn catalog(&self) -> &str {
        self.tables.runs.catalog()
    }

    pub(super) fn status(&self) -> JobStatus {
        let kind = match &self.work {
            Work::Maintain(_) => "maintenance",
            Work::Promote { .. } => "pipeline",
        };
        JobStatus {
            job: self.name.clone(),
            row: self.row.clone(),
            kind,
            catalog: self.catalog().to_owned(),
            every: self.every,
            own: None,
            recorded: None,
            next: None,
        }
    }

    pub(super) fn connect(&self, engine: &Engine) -> Result<Pooled> {
        connect(&engine.shared.database, self.catalog())
    }

    /// One run. `every` is its schedule, where it is run by that.
    pub(super) fn run(
        &self,
        engine: &Engine,
        now: SystemTime,
        every: Option<Duration>,
        limit: &Limit,
    ) -> Result<Ran> {
        let shared = &engine.shared;
        let started = Instant::now();
        if shared.database.missing_catalogs().any(|missing| missing.name.eq_ignore_ascii_case(self.catalog()))
        {
            return Err(Error::CatalogDown(self.catalog().to_owned()));
        }
        let connection = self.connect(engine)?;
        limit.covers(&connection);
        if !for_clients(engine, self.lease.is_free(&connection, now, every))? {
            return Ok(Ran::Elsewhere);
        }
        let mut taken = false;
        let mut take_lease = || {
            limit.check()?;
            taken = taken || self.lease.take(&connection, shared.jobs.clock.now(), every)?;
            Ok(taken)
        };
        let ran = limit.explain(self.work(engine, &connection, limit, &mut take_lease));
        limit.lift();
        let ran = for_clients(engine, ran);
        if taken && matches!(self.work, Work::Maintain(_)) {
            shared.clock.schema_changed();
        }
        let last = LastRun::of(now, started.elapsed(), &ran);
        let recorded = match (&ran, taken) {
            (_, true) => self.lease.end(&connection, &last),
            (Ok(Ran::Elsewhere), false) => Ok(()),
            (_, false) => self.lease.tell(&connection, &last),
        };
        let ran = ran?;
        recorded?;
        Ok(ran)
    }

    /// Does what the job is there for. `take_lease` takes the lease, once; false where another server was faster.
    fn work(
        &self,
        engine: &Engine,
        connection: &Connection,
        limit: &Limit,
        take_lease: &mut dyn FnMut() -> Result<bool>,
    ) -> Result<Ran> {
        let shared = &engine.shared;
        match &self.work {
            Work::Maintain(maintenance) => {
                let tidied =
                    maintenance.run(connection, &shared.jobs.clock, &shared.jobs.stop, take_lease)?;
                Ok(tidied.map_or(Ran::Elsewhere, |tidied| Ran::Done {
                    changed: tidied.count(),
                    detail: tidied.summary(),
                }))
            }
            Work::Promote { pipeline, target, checked } => {
                if let Some(missing) = pipeline.missing(&shared.database, target) {
                    return Err(Error::CatalogDown(missing));
                }
                let run =
                    Run { pipeline, target, engine, watermarks: &self.tables.watermarks, checked, limit };
                let moved = run.promote(take_lease)?;
                Ok(moved.map_or(Ran::Elsewhere, |moved| Ran::Done {
                    changed: moved.rows,
                    detail: moved.summary(pipeline),
                }))
            }
        }
    }
}
