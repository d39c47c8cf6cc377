//! What the catalogs tell of the last runs of jobs: of those before this server's start, and of other servers'.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;

use super::{Board, connect, roster::Roster};
use crate::engine::{Engine, Result, database::Database};

/// How long a question about jobs waits for a catalog.
pub(super) const ASKED_WITHIN: Duration = Duration::from_secs(5);

/// Asks one catalog.
pub(super) struct Teller {
    roster: Arc<Roster>,
    /// A catalog that does not answer is asked once at a time, so that it costs one thread.
    asking: Arc<tokio::sync::Mutex<()>>,
}

impl Teller {
    pub(super) fn of(roster: Arc<Roster>) -> Self {
        Self { roster, asking: Arc::default() }
    }

    /// Writes on the board what the catalog tells now.
    async fn ask(&self, engine: &Engine) -> Result<()> {
        let asking = Arc::clone(&self.asking).lock_owned().await;
        let (roster, engine_too) = (Arc::clone(&self.roster), engine.clone());
        let told = move || {
            let _asking = asking;
            let shared = &engine_too.shared;
            tell(&roster, &shared.database, &shared.jobs.board)
        };
        engine.blocking(told).await
    }
}

impl Engine {
    /// Brings the board up to date with what the catalogs tell, where they can be asked in time.
    pub(in crate::engine) async fn ask_of_jobs(&self) {
        join_all(self.shared.jobs.tellers.iter().map(async |teller| {
            let reason = match tokio::time::timeout(ASKED_WITHIN, teller.ask(self)).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(late) => late.to_string(),
            };
            tracing::warn!(catalog = teller.roster.catalog(), reason, "a catalog does not tell of its jobs");
        }))
        .await;
    }
}

fn tell(roster: &Roster, database: &Arc<Database>, board: &Board) -> Result<()> {
    let connection = connect(database, roster.catalog())?;
    let runs = roster.last_runs(&connection)?;
    let mut board = board.lock();
    for notice in board.iter_mut().filter(|notice| notice.catalog == roster.catalog()) {
        let run = runs.iter().find(|(job, _)| *job == notice.job);
        notice.told = run.map(|(_, run)| run.clone()).or(notice.told.take());
    }
    Ok(())
}
