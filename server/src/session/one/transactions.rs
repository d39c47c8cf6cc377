//! The transactions of a session: those with a handle, which its client begins and ends, and all that are open, which the
//! server rolls back in its place.

use std::time::Duration;

use super::{
    Session,
    state::{Begun, State},
};
use crate::{
    engine::{Error, IdleLimits, Names},
    session::{Line, SessionError, losses::Loss, new_handle},
};

/// Transactions that one session may have open.
const MAX_TRANSACTIONS: usize = 64;

impl Session {
    /// Begins a transaction for a client on `line` and returns its handle.
    ///
    /// # Errors
    /// [`Error::TransactionLost`] where the line has gone: nobody would get the handle. [`SessionError::TooManyTransactions`].
    pub(crate) async fn begin(&self, line: Option<&Line>) -> Result<Vec<u8>, SessionError> {
        // It relies on nothing that may be gone; what is sent in it may, and is told.
        self.let_go();
        let _opening = self.opening.lock().await;
        self.set_aside_lost().await;
        let open = {
            let state = self.state.lock();
            state.transactions.len() + state.losses.handles()
        };
        if open >= MAX_TRANSACTIONS {
            return Err(SessionError::TooManyTransactions(MAX_TRANSACTIONS));
        }
        let own = self.own_locked().await?;
        let own_is_free = !own.in_transaction() && {
            let state = self.state.lock();
            !state.has_handle(&own)
        };
        let workspace = if own_is_free { own } else { self.engine.workspace(self.names.clone()).await? };
        let (id, begun) = self.engine.begin(&workspace).await?;
        let handle = new_handle()?;
        // Nothing waits from here on: a client that goes away has either the handle or no transaction.
        let mut state = self.state.lock();
        // Under the lock, under which those are looked for that a line has left open.
        if line.is_some_and(|line| !line.is_open()) {
            return Err(Error::TransactionLost(
                "the transaction was rolled back, because its connection was lost; begin again".into(),
            )
            .into());
        }
        state.transactions.insert(handle.clone(), Begun { workspace, id });
        begun.told();
        state.losses.begin_anew();
        Ok(handle)
    }

    /// Takes those out that the server has rolled back already: what names no transaction is meant for the one that is begun
    /// now. It may be that nobody has their handles, because their line broke before the answer came.
    async fn set_aside_lost(&self) {
        let lost: Vec<_> = {
            let State { transactions, losses, .. } = &mut *self.state.lock();
            let lost = transactions.extract_if(|_, begun| !begun.workspace.is_open());
            lost.map(|(handle, begun)| {
                losses.lose_handle(handle, Loss::RolledBack);
                begun.workspace
            })
            .collect()
        };
        for workspace in lost {
            if let Err(error) = self.engine.end(&workspace, false).await {
                tracing::debug!(%error, "a transaction that was rolled back already");
            }
        }
    }

    /// Ends a transaction; its handle is forgotten whatever comes of it.
    pub(crate) async fn end(&self, handle: &[u8], commit: bool) -> Result<(), SessionError> {
        let workspace = {
            let mut state = self.state.lock();
            state.let_go();
            if let Some(told) = state.losses.end(handle, commit) {
                return Ok(told?);
            }
            let Some(begun) = state.transactions.remove(handle) else {
                // Whether that of a run before was committed nobody knows; it is not open in any case.
                return match state.losses.end_forgotten() && !commit {
                    true => Ok(()),
                    false => Err(SessionError::UnknownTransaction),
                };
            };
            begun.workspace
        };
        // In a task of its own: a client that does not wait for the answer must leave nothing open that no
        // handle names any more.
        let engine = self.engine.clone();
        let ended = tokio::spawn(async move {
            match engine.end(&workspace, commit).await {
                Err(Error::SessionBusy(wait)) => {
                    workspace.interrupt();
                    engine.end(&workspace, false).await?;
                    if commit { Err(not_committed(wait)) } else { Ok(()) }
                }
                ended => ended,
            }
        });
        Ok(ended.await.unwrap_or_else(|panic| Err(Error::Internal(panic.to_string())))?)
    }

    /// What they mean in a transaction, or where a statement runs that names none.
    pub(crate) fn names_in(&self, transaction: &[u8]) -> Names {
        match self.transaction(transaction) {
            Ok(Some(begun)) => begun.workspace.names(),
            _ => self.names(),
        }
    }

    /// The transaction under a handle, or without one the only one that is open.
    pub(super) fn transaction(&self, handle: &[u8]) -> Result<Option<Begun>, SessionError> {
        let state = self.state.lock();
        if handle.is_empty() {
            return Ok(state.only_transaction());
        }
        state.transactions.get(handle).cloned().map(Some).ok_or(SessionError::UnknownTransaction)
    }

    /// True until its client has ended the handle's transaction, even where that is gone.
    pub(crate) fn has_transaction(&self, handle: &[u8]) -> bool {
        let state = self.state.lock();
        state.transactions.contains_key(handle) || state.losses.has_handle(handle)
    }

    /// True until its client has ended all that have a handle.
    pub(crate) fn is_in_transaction(&self) -> bool {
        let state = self.state.lock();
        let losses = &state.losses;
        !state.transactions.is_empty() || losses.handles() > 0 || losses.is_in_forgotten_transaction()
    }

    /// Those that are open now.
    pub(in crate::session) fn open_transactions(&self) -> Vec<Begun> {
        let workspaces = self.state.lock().workspaces().into_iter().filter(|workspace| workspace.is_open());
        workspaces.filter_map(|workspace| workspace.transaction().map(|id| Begun { workspace, id })).collect()
    }

    /// Undoes transactions whose client has vanished, and no others: it may have come back and begun some. Should it come
    /// back on another connection, it is told so before anything else: what it sends next was meant to be part of them.
    pub(in crate::session) async fn lose(&self, left_open: Vec<Begun>) {
        for Begun { workspace, id } in left_open {
            if workspace.transaction() != Some(id) {
                continue;
            }
            workspace.interrupt();
            let lost = self.engine.lose(&workspace, id, "its connection was lost");
            if let Err(error) = lost.await {
                tracing::debug!(%error, "a transaction that was left open");
            }
        }
    }

    /// Rolls back those that rest for longer than they may.
    pub(in crate::session) async fn roll_back_idle(&self, limits: IdleLimits) {
        let workspaces = self.state.lock().workspaces();
        for workspace in workspaces {
            self.engine.roll_back_if_idle(&workspace, limits).await;
        }
    }
}

/// What a COMMIT is told that has waited for so long. Its handle is gone, so that there is nothing to try again.
fn not_committed(wait: Duration) -> Error {
    Error::TransactionLost(format!(
        "the transaction was rolled back, because its session was busy with another statement for {}; begin again",
        humantime::format_duration(wait)
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        engine::{Cancel, Engine, Options, Statement},
        session::Principal,
    };

    fn session(options: Options) -> (Engine, Session) {
        let engine = Engine::open(options).unwrap();
        let session = Session::of_one_request(Principal::named("ana"), None, engine.clone());
        (engine, session)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_busy_session_cannot_commit_is_lost_and_its_rollback_succeeds() {
        let wait = Duration::from_millis(200);
        let (engine, session) = session(Options { query_timeout: Some(wait), ..Options::default() });
        for commit in [true, false] {
            let handle = session.begin(None).await.unwrap();
            let workspace = session.transaction(&handle).unwrap().unwrap().workspace;
            let guard = workspace.take(wait).await.unwrap();
            let running = Cancel::default();
            guard.running(&running);
            let let_go = async {
                running.cancelled().await;
                drop(guard);
            };
            let (ended, ()) = tokio::join!(session.end(&handle, commit), let_go);
            match (commit, ended) {
                (true, Err(SessionError::Engine(Error::TransactionLost(why)))) => {
                    assert!(why.contains("was busy with another statement for 200ms"), "{why}");
                }
                (false, Ok(())) => {}
                (_, other) => panic!("{other:?}"),
            }
            assert!(!workspace.is_open());
        }
        engine.shutdown().await;
    }

    #[tokio::test]
    async fn a_transaction_that_could_not_begin_lets_nothing_run_that_was_meant_for_a_lost_one() {
        let (engine, session) = session(Options::default());
        for number in 0..MAX_TRANSACTIONS {
            session.state.lock().losses.lose_handle(number.to_ne_bytes().to_vec(), Loss::Closed);
        }
        let tell = || session.losses().tell(b"", "");
        assert!(matches!(session.begin(None).await, Err(SessionError::TooManyTransactions(_))));
        assert_eq!(tell(), Err(Loss::Closed));
        session.end(&0_usize.to_ne_bytes(), false).await.unwrap();
        session.begin(None).await.unwrap();
        assert_eq!(tell(), Ok(()));
        engine.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_begun_after_the_connection_was_lost_goes_on() {
        let (engine, session) = session(Options::default());
        let before = session.begin(None).await.unwrap();
        let left_open = session.open_transactions();
        let Begun { workspace, id } = left_open[0].clone();
        session.end(&before, false).await.unwrap();
        let after = session.begin(None).await.unwrap();
        let begun = session.transaction(&after).unwrap().unwrap();
        assert!(Arc::ptr_eq(&begun.workspace, &workspace), "on the same connection");
        session.lose(left_open).await;
        // It may begin while the other's end waits for the connection.
        engine.lose(&workspace, id, "of a test").await.unwrap();
        session.end(&after, true).await.unwrap();

        let left = session.begin(None).await.unwrap();
        session.lose(session.open_transactions()).await;
        let ended = session.end(&left, true).await;
        assert!(matches!(ended, Err(SessionError::Engine(Error::TransactionLost(_)))), "{ended:?}");
        engine.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn whose_line_has_gone_leaves_none_open() {
        let (engine, session) = session(Options::default());
        let line = Line::open();
        line.close();
        let begun = session.begin(Some(&line)).await;
        assert!(matches!(begun, Err(SessionError::Engine(Error::TransactionLost(_)))), "{begun:?}");
        let handle = session.begin(None).await.unwrap();
        assert_eq!(session.state.lock().transactions.len(), 1);
        session.end(&handle, true).await.unwrap();
        engine.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_names_none_is_not_meant_for_one_that_was_lost_before_another_began() {
        let (engine, session) = session(Options::default());
        let lost = session.begin(None).await.unwrap();
        session.lose(session.open_transactions()).await;
        let unnamed = || session.transaction(&[]).unwrap().map(|begun| begun.id);
        let handle = session.begin(None).await.unwrap();
        assert_eq!(unnamed(), Some(session.transaction(&handle).unwrap().unwrap().id));
        let write = |handle: Vec<u8>, sql: &'static str| {
            let session = &session;
            async move { session.write(&handle, Statement::new(sql)).await }
        };
        write(handle.clone(), "CREATE TABLE t (i INTEGER)").await.unwrap();
        assert!(write(lost.clone(), "DROP TABLE t").await.is_err());
        session.end(&handle, true).await.unwrap();
        write(Vec::new(), "INSERT INTO t VALUES (1)").await.unwrap();
        let ended = session.end(&lost, true).await;
        assert!(matches!(ended, Err(SessionError::Engine(Error::TransactionLost(_)))), "{ended:?}");
        engine.shutdown().await;
    }
}
