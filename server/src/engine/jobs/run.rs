//! A run of a job, from its beginning to what is known of its end.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{
    job::{Job, Ran},
    lease::RENEWED_AFTER,
    limit::Limit,
    status::{ELSEWHERE, FAILED, LastRun},
};
use crate::{
    engine::{Engine, Error, Outcome, Result},
    metrics, sql,
};

impl Engine {
    /// Runs a job now; tells how many rows it moved, or how many rows, files and snapshots it tidied up.
    ///
    /// # Errors
    /// [`Error::JobMissing`]; [`Error::JobBusy`] when another server is at it; whatever DuckDB says.
    pub(in crate::engine) async fn run_asked(&self, asked: sql::Job) -> Result<Outcome> {
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
    pub(super) async fn run_job(&self, job: &Arc<Job>, every: Option<Duration>) -> Result<Ran> {
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
        let mut statuses = self.shared.jobs.statuses.lock();
        if let Some(status) = statuses.get_mut(job.index) {
            status.own = Some(last);
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

impl LastRun {
    pub(super) fn of(begun: SystemTime, took: Duration, ran: &Result<Ran>) -> Self {
        let (outcome, detail, changed) = match ran {
            Ok(Ran::Done { changed, detail }) => ("done", detail.clone(), *changed),
            Ok(Ran::Elsewhere) => (ELSEWHERE, "another server is at it, or has just done it".into(), 0),
            Err(error) => (FAILED, error.to_string(), 0),
        };
        Self { begun, took, outcome: outcome.to_owned(), detail, changed }
    }
}

fn missing(asked: &sql::Job) -> String {
    match asked {
        sql::Job::Maintain(name) => {
            format!("there is no catalog {name:?} of type ducklake that takes writes")
        }
        sql::Job::Promote(name) => format!("there is no pipeline {name:?}"),
    }
}
