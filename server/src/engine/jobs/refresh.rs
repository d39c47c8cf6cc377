//! What the catalogs tell of the last runs of jobs: of those before this server's start, and of other servers'.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;

use super::{JobStatuses, connect, runs::Runs};
use crate::engine::{Engine, Result, database::Database};

/// How long a question about jobs waits for a catalog.
pub(super) const ASKED_WITHIN: Duration = Duration::from_secs(5);

/// Asks one catalog.
pub(super) struct Refresher {
    runs: Arc<Runs>,
    /// A catalog that does not answer is asked once at a time, so that it costs one thread.
    asking: Arc<tokio::sync::Mutex<()>>,
}

impl Refresher {
    pub(super) fn of(runs: Arc<Runs>) -> Self {
        Self { runs, asking: Arc::default() }
    }

    /// Brings the statuses up to date with what the catalog tells now.
    async fn ask(&self, engine: &Engine) -> Result<()> {
        let asking = Arc::clone(&self.asking).lock_owned().await;
        let (runs, engine_too) = (Arc::clone(&self.runs), engine.clone());
        let reading = move || {
            let _asking = asking;
            let shared = &engine_too.shared;
            record(&runs, &shared.database, &shared.jobs.statuses)
        };
        engine.blocking(reading).await
    }
}

impl Engine {
    /// Brings all statuses up to date with what the catalogs tell, where they can be asked in time.
    pub(in crate::engine) async fn ask_of_jobs(&self) {
        join_all(self.shared.jobs.refreshers.iter().map(async |refresher| {
            let reason = match tokio::time::timeout(ASKED_WITHIN, refresher.ask(self)).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(late) => late.to_string(),
            };
            tracing::warn!(catalog = refresher.runs.catalog(), reason, "a catalog does not tell of its jobs");
        }))
        .await;
    }
}

fn record(runs: &Runs, database: &Arc<Database>, statuses: &JobStatuses) -> Result<()> {
    let connection = connect(database, runs.catalog())?;
    let last_runs = runs.last_runs(&connection)?;
    let mut statuses = statuses.lock();
    for status in statuses.iter_mut().filter(|status| status.catalog == runs.catalog()) {
        let run = last_runs.iter().find(|(job, _)| *job == status.row);
        status.recorded = run.map(|(_, run)| run.clone()).or(status.recorded.take());
    }
    Ok(())
}
