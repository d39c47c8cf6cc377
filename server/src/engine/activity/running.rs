//! One statement: who sent it, what it is at, and its stop.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::{Instant, SystemTime},
};

use tokio_util::sync::CancellationToken;

use super::State;
use crate::engine::{Error, batch_stream::Cancel, execution::Attempt};

tokio::task_local! {
    /// What the task works for.
    static CURRENT: Arc<RunningStatement>;
}

/// The statement that this task works for, if for one.
pub(crate) fn current() -> Option<Arc<RunningStatement>> {
    CURRENT.try_with(Arc::clone).ok()
}

/// From here on the statement that this task works for may do something, and whoever ends it stops `cancel`.
pub(crate) fn begins(cancel: &Cancel) {
    let _ = CURRENT.try_with(|statement| statement.attempt.begins(cancel));
}

/// In place of a text that nobody may see.
pub(crate) const NOT_SHOWN: &str = "(not shown: it may hold a password)";

/// Who has sent a statement.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    /// The number of the session; `None` where it ends with the request.
    pub(crate) session: Option<u64>,
    /// The name of the user, where there are users.
    pub(crate) user: Option<Arc<str>>,
    /// What the client speaks.
    pub(crate) protocol: &'static str,
    /// Where it was heard from last.
    pub(crate) peer: Option<SocketAddr>,
    /// Where unqualified names live.
    pub(crate) catalog: String,
}

/// A statement that runs or waits.
pub(crate) struct RunningStatement {
    pub(super) id: u64,
    pub(super) caller: Caller,
    pub(super) kind: &'static str,
    /// Its beginning; `None` where nobody may see it.
    pub(super) text: Option<Box<str>>,
    pub(super) started: Instant,
    pub(super) started_at: SystemTime,
    rows: AtomicU64,
    state: AtomicU8,
    stop: CancellationToken,
    attempt: Attempt,
}

impl RunningStatement {
    pub(super) fn new(
        id: u64,
        caller: Caller,
        kind: &'static str,
        text: Option<Box<str>>,
        state: State,
    ) -> Self {
        Self {
            id,
            caller,
            kind,
            text,
            started: Instant::now(),
            started_at: SystemTime::now(),
            rows: AtomicU64::new(0),
            state: AtomicU8::new(state as u8),
            stop: CancellationToken::new(),
            attempt: Attempt::default(),
        }
    }

    /// By which it is known, in the log as well.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Who has sent it.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Its kind, as the log has it.
    pub(crate) fn kind(&self) -> &'static str {
        self.kind
    }

    /// The beginning of its text; `None` where nobody may see it.
    pub(crate) fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// When it began.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// The rows that it has sent, changed or received so far.
    pub(crate) fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// So many more.
    pub(crate) fn add_rows(&self, rows: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }

    /// So many are all.
    pub(crate) fn set_rows(&self, rows: u64) {
        self.rows.store(rows, Ordering::Relaxed);
    }

    pub(super) fn state(&self) -> State {
        State::of_number(self.state.load(Ordering::Relaxed))
    }

    /// It is at something else from now on; tells what it was at before.
    pub(crate) fn set_state(&self, state: State) -> State {
        State::of_number(self.state.swap(state as u8, Ordering::Relaxed))
    }

    /// What `work` gives, which works for this statement; or the news that an operator has ended that. What has begun to
    /// write is stopped and then waited for, because it may have committed just before; what still waits is given up.
    ///
    /// # Errors
    /// Those of `work`; [`Error::EndedByOperator`].
    pub(crate) async fn run<T, E: From<Error>>(
        self: &Arc<Self>,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let work = CURRENT.scope(Arc::clone(self), work);
        let stopped = |cancel: &Cancel| cancel.stop_because(Error::EndedByOperator);
        let ended = self.attempt.unless_given_up(&self.stop, stopped, work).await;
        ended.unwrap_or_else(|| Err(Error::EndedByOperator.into()))
    }

    /// Ends it. False for an upload that is complete, which is committed or refused by itself.
    pub(super) fn end(&self) -> bool {
        if self.state() == State::Committing {
            return false;
        }
        self.stop.cancel();
        // Where nobody waits for it in `run` any more, its rows are on their way.
        if let Some(attempt) = self.attempt.get() {
            attempt.stop_because(Error::EndedByOperator);
        }
        true
    }
}
