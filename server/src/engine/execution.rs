//! One execution of a write, as somebody sees it who does not wait for it: how far it is, and its stop.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{
    Result,
    batch_stream::{Cancel, WeakCancel},
    delivery::cancelled,
};

/// How often a stopped execution is looked at: an attempt may end with the news that it has to wait for the turn.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// One execution. Clones are the same one. The default is watched by nobody, and stops with its caller only.
#[derive(Clone, Default)]
pub struct Execution {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stop: CancellationToken,
    watched: bool,
    attempt: Attempt,
}

/// What of a statement may do something just now: there is none before it has all that it needs.
#[derive(Default)]
pub(super) struct Attempt(Mutex<Option<WeakCancel>>);

impl Attempt {
    /// From here on it may do something, until `cancel` is gone.
    pub(super) fn begins(&self, cancel: &Cancel) {
        *self.0.lock() = Some(cancel.downgrade());
    }

    pub(super) fn get(&self) -> Option<Cancel> {
        self.0.lock().as_ref().and_then(WeakCancel::upgrade)
    }

    /// What `running` gives; `None` where it was given up because of `stop`. A statement that has begun is stopped and
    /// then waited for, because it may have committed just before; one that waits for something is given up.
    pub(super) async fn unless_given_up<T>(
        &self,
        stop: &CancellationToken,
        stop_it: impl Fn(&Cancel),
        running: impl Future<Output = T>,
    ) -> Option<T> {
        tokio::pin!(running);
        tokio::select! {
            ended = &mut running => return Some(ended),
            () = stop.cancelled() => {}
        }
        while let Some(attempt) = self.get() {
            if !attempt.is_cancelled() {
                stop_it(&attempt);
            }
            drop(attempt);
            if let Ok(ended) = tokio::time::timeout(LOOK_AGAIN, &mut running).await {
                return Some(ended);
            }
        }
        None
    }
}

impl Execution {
    /// One whose progress DuckDB keeps count of, and that `stop` stops.
    pub fn watched(stop: CancellationToken) -> Self {
        Self { shared: Arc::new(Shared { stop, watched: true, attempt: Attempt::default() }) }
    }

    /// How far it is, from 0 to 1; `None` while it does not run, and where DuckDB cannot tell.
    pub fn progress(&self) -> Option<f64> {
        self.shared.attempt.get()?.progress()
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.shared.watched
    }

    /// From here on it may do something, until `cancel` is gone.
    pub(crate) fn begins(&self, cancel: &Cancel) {
        self.shared.attempt.begins(cancel);
    }

    /// What `running` gives, or the news that it was stopped; see [`Attempt::unless_given_up`].
    pub(crate) async fn or_stopped<T>(&self, running: impl Future<Output = Result<T>>) -> Result<T> {
        let Shared { stop, attempt, .. } = &*self.shared;
        let ended = attempt.unless_given_up(stop, Cancel::cancel, running).await;
        ended.unwrap_or_else(|| Err(cancelled()))
    }
}
