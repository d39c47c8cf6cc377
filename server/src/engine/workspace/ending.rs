//! Transactions that the server ends: because the write-ahead log is at its limit and a checkpoint has to wait
//! for them, or because their snapshot has become too old.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use super::{ConnectionGuard, Workspace};
use crate::engine::{
    Engine, Error, Result,
    open_writes::{Kind, OpenWrite, ended},
};

/// A statement that was interrupted is interrupted again after so long: DuckDB forgets one that comes just
/// before it begins.
const AGAIN: Duration = Duration::from_millis(100);

impl Workspace {
    /// Stops what runs here, for a reason that its client is told.
    fn stop_because(&self, reason: Error) {
        if let Some(cancel) = self.running() {
            cancel.stop_because(reason);
        }
    }

    /// Ends the transaction, or the statement outside one, that `open` stands for, when it has to.
    pub(super) fn end_with(self: &Arc<Self>, open: &OpenWrite) {
        let (has_to, gone, number) = (open.ended(), open.gone(), open.number());
        let workspace = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::select! {
                () = has_to.cancelled() => {}
                () = gone.cancelled() => return,
            }
            while !gone.is_cancelled() {
                let Some(workspace) = Weak::upgrade(&workspace) else { return };
                workspace.stop_because(ended());
                let Ok(mut guard) = workspace.take(AGAIN).await else { continue };
                let lose = move || {
                    if guard.pinned().writes_as() == Some(number) {
                        guard.pinned().lose(ended().to_string());
                    }
                };
                if let Err(error) = tokio::task::spawn_blocking(lose).await {
                    tracing::warn!(%error, "a transaction could not be rolled back");
                }
                return;
            }
        });
    }

    /// True when the open transaction has read, has not written, and has gone on for so long.
    fn is_too_old(&self, age: Duration) -> bool {
        let standing = *self.standing.lock();
        standing.open && !standing.writes && standing.snapshot.is_some_and(|taken| taken.elapsed() >= age)
    }
}

impl ConnectionGuard {
    /// What runs next may write as `write`: it ends when that has to, and is too old for nothing else.
    pub(super) fn lets_write(&self, write: &OpenWrite) {
        self.workspace.end_with(write);
        self.workspace.standing.lock().writes = true;
    }
}

impl Engine {
    /// Counts a transaction among the open writes from its first one on. New ones may have to wait.
    pub(in crate::engine) async fn begin_to_write(&self, guard: &mut ConnectionGuard) -> Result<()> {
        let writes = &self.shared.database.writes;
        let open = guard.pinned().transaction.as_ref();
        if open.is_none_or(|open| open.read_only || open.write.is_some()) {
            return Ok(());
        }
        writes.admitted().await?;
        let write = writes.open(Kind::Transaction);
        guard.lets_write(&write);
        if let Some(open) = &mut guard.pinned().transaction {
            open.write = Some(write);
        }
        Ok(())
    }

    /// Rolls back the transaction of a workspace that keeps a snapshot for longer than the limit, unless it has
    /// written: then other limits hold.
    pub(super) async fn roll_back_if_old(&self, workspace: &Arc<Workspace>) {
        let Some(age) = self.shared.options.read_age.filter(|age| workspace.is_too_old(*age)) else { return };
        let reason = format!(
            "the transaction has kept its snapshot for {}, longer than the server can, so it was rolled back; begin again",
            humantime::format_duration(age)
        );
        self.end_because(workspace, reason).await;
    }

    /// Rolls back the transaction of a workspace that has had the turn for longer than the limit while somebody else waits:
    /// one that is never at rest would keep all others from writing for ever.
    pub(super) async fn take_back_turn(&self, workspace: &Arc<Workspace>, limit: Duration) {
        let turn = workspace.standing.lock().turn;
        if turn.is_none_or(|since| since.elapsed() < limit) || !self.shared.turn.is_wanted() {
            return;
        }
        let reason = format!(
            "the transaction has had the turn to write for {}, and others wait for it, so it was rolled back; begin again, and \
             commit more often",
            humantime::format_duration(limit)
        );
        self.end_because(workspace, reason).await;
    }

    async fn end_because(&self, workspace: &Arc<Workspace>, reason: String) {
        let Ok(pinned) = Arc::clone(&workspace.pinned).try_lock_owned() else {
            // Rolled back as soon as the statement has stopped.
            return workspace.stop_because(Error::TransactionLost(reason));
        };
        let mut guard = ConnectionGuard { pinned, workspace: Arc::clone(workspace) };
        let rolled_back = self.blocking(move || {
            guard.pinned().lose(reason);
            Ok(())
        });
        if let Err(error) = rolled_back.await {
            tracing::warn!(%error, "a transaction could not be rolled back that has gone on for too long");
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::engine::{IdleLimits, Options, Place, Statement};

    #[tokio::test(flavor = "multi_thread")]
    async fn the_turn_is_taken_back_at_its_limit_where_somebody_waits_for_it_and_only_there() {
        let long = Duration::from_secs(3600);
        let engine = Engine::open(Options { wait: long, ..Options::default() }).unwrap();
        let (workspace, shared) =
            (engine.workspace(engine.session_names()).await.unwrap(), Place::Shared(None));
        let own = Place::Own(Arc::clone(&workspace), None);
        engine.run(&own, Statement::new("BEGIN")).await.unwrap();
        engine.run(&own, Statement::new("CREATE TABLE t (i INTEGER)")).await.unwrap();
        // The answer comes a moment before the statement lets go of the connection.
        drop(workspace.take(long).await.unwrap());
        let limits = |turn| IdleLimits { while_wanted: long, at_all: long, turn };
        engine.roll_back_if_idle(&workspace, limits(Duration::ZERO)).await;
        assert!(workspace.is_open(), "nobody waits");

        let mut waiting = Box::pin(engine.write(&shared, Statement::new("CREATE TABLE u (i INTEGER)")));
        assert!((&mut waiting).now_or_never().is_none());
        engine.roll_back_if_idle(&workspace, limits(long)).await;
        assert!(workspace.is_open(), "it may have it for longer");
        engine.roll_back_if_idle(&workspace, limits(Duration::ZERO)).await;
        assert!(!workspace.is_open());
        waiting.await.unwrap();
        let told = engine.run(&own, Statement::new("SELECT 1")).await.err().unwrap().to_string();
        assert!(told.contains("has had the turn to write for 0s, and others wait for it"), "{told}");
        engine.shutdown().await;
    }
}
