//! When jobs run by themselves.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{job::Job, lease::SKEW, refresh::ASKED_WITHIN};
use crate::engine::Engine;

/// A job of which no run is known, by its schedule, runs so soon after the start.
const FIRST_WITHIN: Duration = Duration::from_secs(10 * 60);

impl Engine {
    /// Lets the jobs that have a schedule begin to run. Call it within a runtime.
    pub fn start_jobs(&self) {
        for job in self.shared.jobs.jobs.iter().filter(|job| job.every.is_some()) {
            tokio::spawn(run_by_schedule(self.clone(), Arc::clone(job)));
        }
    }
}

/// Runs a job whenever its time has come.
async fn run_by_schedule(engine: Engine, job: Arc<Job>) {
    let jobs = &engine.shared.jobs;
    let Some(every) = job.every else { return };
    let mut next = first_due(&engine, &job, every).await;
    loop {
        if let Some(status) = jobs.statuses.lock().get_mut(job.index) {
            status.next = Some(next);
        }
        tokio::select! {
            biased;
            () = jobs.stop.cancelled() => return,
            () = jobs.clock.reach(next) => {}
        }
        // Its end is among the statuses and in the log.
        let _ = engine.run_job(&job, Some(every)).await;
        next = jobs.clock.now() + every;
    }
}

/// When a job is to run first after the start: the schedule goes on from the last run, be it before the start or another
/// server's, or else a server that is started again more often than that would never run it.
async fn first_due(engine: &Engine, job: &Arc<Job>, every: Duration) -> SystemTime {
    let (asked, with) = (Arc::clone(job), engine.clone());
    let look = move || asked.tables.runs.look(&*asked.connect(&with)?, &asked.row);
    let last = engine.blocking(look);
    let last = tokio::time::timeout(ASKED_WITHIN, last).await;
    let now = engine.shared.jobs.clock.now();
    let last = match last {
        Ok(Ok(record)) => record.last_begun(now + SKEW),
        Ok(Err(error)) => {
            tracing::debug!(job = job.name, %error, "when a job was run last is not known");
            None
        }
        Err(_) => None,
    };
    last.map_or_else(|| now + every.min(FIRST_WITHIN), |begun| (begun + every).max(now))
}
