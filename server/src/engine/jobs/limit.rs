//! How long a run may take, and what becomes of one that takes longer.
//!
//! It is interrupted. What waits for another machine that has gone without a word does not hear that; after a while such a
//! run is given up, so that nobody waits for it, and there is none of the same job beside it until its thread has ended.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;

use super::JobClock;
use crate::engine::{
    Error, Result,
    error::Class,
    ffi::{Connection, WeakInterrupt},
};

/// How long a run that is interrupted may take to end.
pub(super) const GRACE: Duration = Duration::from_secs(60);
/// DuckDB forgets an interrupt that comes between two statements.
const AGAIN: Duration = Duration::from_millis(100);

/// The limit of one run. Clones are the same one.
#[derive(Clone)]
pub(super) struct Limit {
    time: Duration,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    /// What the run works on.
    connections: Mutex<Vec<WeakInterrupt>>,
}

impl Limit {
    pub(super) fn of(time: Duration) -> Self {
        Self { time, shared: Arc::default() }
    }

    /// From here on the run works on this connection, too.
    pub(super) fn covers(&self, connection: &Connection) {
        self.shared.connections.lock().push(connection.interrupt().downgrade());
    }

    /// From here on nothing is interrupted: the work is done, and what came of it is to be written down.
    pub(super) fn lift(&self) {
        self.shared.connections.lock().clear();
    }

    /// Refuses what is not to begin any more.
    pub(super) fn check(&self) -> Result<()> {
        if self.shared.is_over.load(Ordering::SeqCst) { Err(self.error()) } else { Ok(()) }
    }

    /// What a run was told that was stopped.
    pub(super) fn explain<T>(&self, outcome: Result<T>) -> Result<T> {
        outcome.map_err(|error| match error.class() {
            Some(Class::Interrupted) if self.check().is_err() => self.error(),
            _ => error,
        })
    }

    /// What is told of a run whose time is over.
    pub(super) fn error(&self) -> Error {
        Error::JobTimeout(self.time)
    }

    /// Interrupts the run once its time is over; ends when it is to be given up.
    pub(super) async fn enforce(&self, clock: &JobClock, begun: SystemTime) {
        let end = begun + self.time;
        clock.reach(end).await;
        self.shared.is_over.store(true, Ordering::SeqCst);
        tokio::select! {
            never = self.interrupt() => match never {},
            () = clock.reach(end + GRACE) => {}
        }
    }

    async fn interrupt(&self) -> Infallible {
        loop {
            self.shared.connections.lock().iter().for_each(WeakInterrupt::interrupt);
            tokio::time::sleep(AGAIN).await;
        }
    }
}
