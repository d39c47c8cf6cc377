//! What must not stay where nobody hears of it: a transaction that a request has opened, or what it has done in one.
//!
//! A client that cancels, or whose time is over, believes that nothing has happened. Left open, its transaction would
//! take in whatever comes next in the session, and keep it from everybody.

use tokio::runtime::Handle;

use super::{ConnectionGuard, TransactionId};

/// The connection on which a request has done something, until the request has the answer: nobody gets in between. Dropped
/// before, it undoes what was done.
pub(crate) struct Untold {
    guard: Option<ConnectionGuard>,
    /// The transaction that was open before.
    before: Option<TransactionId>,
}

impl Untold {
    /// `before` is the transaction that was open when the request came.
    pub(super) fn new(guard: ConnectionGuard, before: Option<TransactionId>) -> Self {
        Self { guard: Some(guard), before }
    }

    /// The request has the answer: what it did stays, and the next statement may run.
    pub(crate) fn told(mut self) {
        self.guard = None;
    }
}

impl Drop for Untold {
    fn drop(&mut self) {
        let Some(mut guard) = self.guard.take() else { return };
        let before = self.before;
        let mut undo = move || guard.pinned().undo_since(before);
        match Handle::try_current() {
            // A ROLLBACK may wait for the disk, and a request is dropped where nothing may wait.
            Ok(runtime) => drop(runtime.spawn_blocking(undo)),
            Err(_) => undo(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use futures::FutureExt;

    use super::*;
    use crate::engine::{Engine, Options, Place, Statement, Workspace};

    /// How long a test waits for what must come.
    const LONG: Duration = Duration::from_secs(60);

    async fn own() -> (Engine, Arc<Workspace>) {
        let engine = Engine::open(Options::default()).unwrap();
        let workspace = engine.workspace(engine.session_names()).await.unwrap();
        (engine, workspace)
    }

    /// Sends something off, and goes away before its answer comes, or gives that where it is there at once.
    fn abandon<T>(request: impl Future<Output = T>) -> Option<T> {
        Box::pin(request).now_or_never()
    }

    /// The transaction that is open once whatever was sent has ended.
    async fn open(workspace: &Arc<Workspace>) -> Option<TransactionId> {
        workspace.take(LONG).await.unwrap().pinned().current()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_transaction_whose_client_is_gone_before_the_answer_is_rolled_back() {
        let (engine, workspace) = own().await;
        let own = Place::Own(Arc::clone(&workspace), None);
        let mut abandoned = 0;
        for round in 0..50 {
            drop(abandon(engine.begin(&workspace)));
            assert!(open(&workspace).await.is_none(), "by handle, {round}");
            for sql in ["BEGIN", "BEGIN; SELECT 1", "BEGIN; SELECT error('x')", "BEGIN; COMMIT; BEGIN"] {
                if abandon(engine.run(&own, Statement::new(sql))).is_some() {
                    engine.end(&workspace, false).await.unwrap();
                    continue;
                }
                assert!(open(&workspace).await.is_none(), "{sql}, {round}");
                assert!(!workspace.in_transaction(), "{sql}, {round}");
                abandoned += 1;
            }
        }
        assert!(abandoned > 0, "every answer was faster");
        engine.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_transaction_that_was_open_before_stays_for_its_rollback() {
        let (engine, workspace) = own().await;
        let (id, begun) = engine.begin(&workspace).await.unwrap();
        assert!(workspace.transaction().is_none(), "nobody sees it before it is told");
        begun.told();
        assert_eq!(workspace.transaction(), Some(id));
        // Of what was done in it nobody is told.
        drop(Untold::new(workspace.take(LONG).await.unwrap(), Some(id)));
        assert_eq!(open(&workspace).await, Some(id));
        let ended = engine.end(&workspace, true).await;
        assert!(matches!(ended, Err(crate::engine::Error::TransactionLost(_))), "{ended:?}");
        engine.shutdown().await;
    }
}
