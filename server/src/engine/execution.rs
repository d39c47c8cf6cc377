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
    /// Present from the moment when it may do something.
    attempt: Mutex<Option<WeakCancel>>,
}

impl Execution {
    /// One whose progress DuckDB keeps count of, and that `stop` stops.
    pub fn watched(stop: CancellationToken) -> Self {
        Self { shared: Arc::new(Shared { stop, watched: true, attempt: Mutex::default() }) }
    }

    /// How far it is, from 0 to 1; `None` while it does not run, and where DuckDB cannot tell.
    pub fn progress(&self) -> Option<f64> {
        self.attempt()?.progress()
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.shared.watched
    }

    /// From here on it may do something, until `cancel` is gone.
    pub(crate) fn begins(&self, cancel: &Cancel) {
        *self.shared.attempt.lock() = Some(cancel.downgrade());
    }

    fn attempt(&self) -> Option<Cancel> {
        self.shared.attempt.lock().as_ref().and_then(WeakCancel::upgrade)
    }

    /// What `running` gives, or the news that it was stopped. A statement that has begun is interrupted and
    /// then waited for, because it may have committed just before; one that waits for its turn is given up.
    pub(crate) async fn or_stopped<T>(&self, running: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::pin!(running);
        tokio::select! {
            ended = &mut running => return ended,
            () = self.shared.stop.cancelled() => {}
        }
        while let Some(attempt) = self.attempt() {
            if !attempt.is_cancelled() {
                attempt.cancel();
            }
            drop(attempt);
            if let Ok(ended) = tokio::time::timeout(LOOK_AGAIN, &mut running).await {
                return ended;
            }
        }
        Err(cancelled())
    }
}
