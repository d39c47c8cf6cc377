//! What the server does by itself from time to time, and on demand: maintenance of lakes, and pipelines.
//!
//! Each [`job`] has a task of the [`scheduler`] that waits for its time by a [`clock`]. Several servers may have the same
//! jobs: they see in the table of [`runs`], in the job's catalog, that one of them is at it (its [`lease`]) or has just done
//! it, and in that of the [`watermarks`] how far a pipeline has come. [`status`] is what clients see of it all.

mod clock;
mod error;
mod job;
mod lease;
mod limit;
mod maintenance;
mod pipeline;
mod refresh;
mod retry;
mod run;
mod runs;
mod scheduler;
mod status;
mod table;
#[cfg(test)]
mod tests;
mod watermarks;

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use self::{
    job::{Job, Tables, Work},
    maintenance::LakeMaintenance,
    refresh::Refresher,
    table::Columns,
};
use super::{
    Error, Result,
    catalog::FullName,
    database::{Database, Pooled},
    error::Class,
    lake::AttachedCatalog,
    names::Names,
};
pub use clock::JobClock;
pub use pipeline::Pipeline;
pub(crate) use status::{JobStatuses, listing, listing_schema};

/// The tables that jobs have beside the ledger, with their columns.
pub(crate) const TABLES: [(&str, &Columns); 2] =
    [(watermarks::TABLE, watermarks::COLUMNS), (runs::TABLE, runs::COLUMNS)];

/// How long a stop waits for all jobs to end. What they have not committed then is as if it had not been done.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// A run is stopped after so long, unless the configuration says otherwise.
pub(crate) const LIMIT: Duration = Duration::from_secs(6 * 3600);

/// All jobs of a server.
pub(crate) struct Jobs {
    jobs: Vec<Arc<Job>>,
    refreshers: Vec<Refresher>,
    statuses: JobStatuses,
    clock: JobClock,
    stop: CancellationToken,
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
            works.extend(
                lakes.map(|lake| (Work::Maintain(Box::new(LakeMaintenance::of(lake.clone()))), None)),
            );
            for pipeline in &options.pipelines {
                let target = pipeline.target(&names);
                let checked = check(database, pipeline, &target).map_err(|error| Error::Setup {
                    what: format!("pipeline {}", pipeline.name),
                    reason: error.to_string(),
                })?;
                let row = if checked { row(database, pipeline, &target) } else { None };
                let (pipeline, checked) = (Box::new(pipeline.clone()), AtomicBool::new(checked));
                works.push((Work::Promote { pipeline, target, checked }, row));
            }
        }
        let stop = CancellationToken::new();
        let mut tables: HashMap<String, Tables> = HashMap::new();
        let mut jobs = Vec::new();
        for (index, (work, row)) in works.into_iter().enumerate() {
            let catalog = work.catalog();
            let tables_of =
                || Tables::of(catalog, is_shared(&database.catalog, &options.lake.catalogs, catalog));
            let tables = tables.entry(catalog.to_lowercase()).or_insert_with(tables_of);
            jobs.push(Arc::new(Job::new(tables.clone(), work, row, &stop, index)));
        }
        let refreshers = tables.into_values().map(|tables| Refresher::of(tables.runs)).collect();
        let statuses = Arc::clone(&database.job_statuses);
        *statuses.lock() = jobs.iter().map(|job| job.status()).collect();
        Ok(Self { jobs, refreshers, statuses, clock: options.job_clock.clone(), stop })
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

/// The row of a pipeline, by which servers that read the same rows take turns. Where it is not known yet, those that do not take
/// turns as well, each time that it runs.
fn row(database: &Arc<Database>, pipeline: &Pipeline, target: &FullName) -> Option<String> {
    let row =
        connect(database, &target.catalog).and_then(|connection| pipeline.row(&connection, database, target));
    row.inspect_err(|error| {
        tracing::warn!(pipeline = pipeline.name, %error, "it is not known yet whose rows a pipeline reads");
    })
    .ok()
}

/// Whether other servers may have a catalog while this one has it, of the catalogs that are declared. A file of DuckDB is locked
/// by the process that has it open for writing: the server's own, one that is attached, or one with the metadata of a lake.
fn is_shared(own: &str, declared: &[AttachedCatalog], catalog: &str) -> bool {
    let is_locked =
        |it: &AttachedCatalog| it.name.eq_ignore_ascii_case(catalog) && it.duckdb_file().is_some();
    !catalog.eq_ignore_ascii_case(own) && !declared.iter().any(is_locked)
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
