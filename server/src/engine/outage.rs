//! Whether the database is open, and waiting until it is again.

use std::{sync::Arc, time::Duration};

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Error, Result,
    database::{Database, Instance},
    ffi::Pulse,
};

/// Where the database stands, for those who tell others: health, readiness, sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// It works.
    Open,
    /// It has failed and is being opened again; new work gets [`Error::EngineDown`].
    Down,
    /// It could not be opened again, for this reason. Only a new process can.
    Lost(String),
}

/// The present instance, or its absence.
pub(super) struct Standing {
    held: Mutex<Held>,
    /// Whenever what is held has changed.
    changed: Condvar,
    condition: watch::Sender<Condition>,
    /// Cancelled when nobody is to open it again.
    stopping: CancellationToken,
}

struct Held {
    instance: Option<Arc<Instance>>,
    /// Kept when the instance is gone, to see whether it really is.
    pulse: Arc<Pulse>,
    generation: u64,
}

impl Held {
    fn check(&self, stopping: &CancellationToken) -> Result<()> {
        match &self.instance {
            Some(_) if !self.pulse.has_failed() => Ok(()),
            _ if stopping.is_cancelled() => Err(Error::Stopping),
            _ => Err(Error::EngineDown),
        }
    }
}

impl Standing {
    pub(super) fn new(instance: Instance) -> Self {
        let pulse = Arc::clone(instance.pulse());
        Self {
            held: Mutex::new(Held { instance: Some(Arc::new(instance)), pulse, generation: 1 }),
            changed: Condvar::new(),
            condition: watch::Sender::new(Condition::Open),
            stopping: CancellationToken::new(),
        }
    }

    /// The open instance. From the moment of its failure there is none.
    pub(super) fn instance(&self) -> Result<Arc<Instance>> {
        let held = self.held.lock();
        match &held.instance {
            Some(instance) if !held.pulse.has_failed() => Ok(Arc::clone(instance)),
            _ => Err(Error::EngineDown),
        }
    }

    /// The pulse of the last instance.
    pub(super) fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.held.lock().pulse)
    }

    pub(super) fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Gives up the failed instance, with its idle connections.
    pub(super) fn put_down(&self) {
        let instance = self.held.lock().instance.take();
        self.condition.send_replace(Condition::Down);
        drop(instance);
    }

    /// Puts a new instance in place.
    pub(super) fn take_up(&self, instance: Instance) {
        let mut held = self.held.lock();
        held.pulse = Arc::clone(instance.pulse());
        held.instance = Some(Arc::new(instance));
        held.generation += 1;
        self.condition.send_replace(Condition::Open);
        self.changed.notify_all();
    }

    /// Says that it will not be opened again.
    pub(super) fn give_up(&self, reason: String) {
        self.condition.send_replace(Condition::Lost(reason));
        self.stop();
    }

    fn stop(&self) {
        self.stopping.cancel();
        // Under the lock, so that nobody misses it between looking and waiting.
        let _held = self.held.lock();
        self.changed.notify_all();
    }

    /// Waits for so long, or until nobody is to open the database again; tells whether that is so.
    pub(super) fn rest(&self, time: Duration) -> bool {
        let mut held = self.held.lock();
        if !self.stopping.is_cancelled() {
            self.changed.wait_for(&mut held, time);
        }
        self.stopping.is_cancelled()
    }
}

impl Database {
    /// Fails while there is no instance that works.
    ///
    /// # Errors
    /// [`Error::EngineDown`]; [`Error::Stopping`] when nobody will open it any more.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.standing.held.lock().check(&self.standing.stopping)
    }

    /// True while there is an instance that works.
    pub(crate) fn is_open(&self) -> bool {
        self.standing.instance().is_ok()
    }

    /// Counts how often the database was opened, from 1.
    pub(crate) fn generation(&self) -> u64 {
        self.standing.held.lock().generation
    }

    /// Condemns the present instance: it is closed and opened again. For a COMMIT of which nobody knows what
    /// became of it; call it while holding the connection that was to commit.
    pub(crate) fn invalidate(&self, reason: &str) {
        self.standing.pulse().fail(reason);
    }

    /// Says that the process cannot go on with this database, whatever its state: only a new one can.
    pub(crate) fn lose(&self, reason: &str) {
        self.standing.give_up(reason.to_owned());
    }

    /// Waits, blocking, until the database is open. Whoever waits must hold nothing of the failed instance.
    ///
    /// # Errors
    /// [`Error::Stopping`] when nobody will open it any more.
    #[cfg(test)]
    pub(crate) fn wait_until_open(&self) -> Result<()> {
        let mut held = self.standing.held.lock();
        loop {
            match held.check(&self.standing.stopping) {
                Err(Error::EngineDown) => self.standing.changed.wait(&mut held),
                known => return known,
            }
        }
    }

    /// What `work` gives, unless the instance fails meanwhile: then it is dropped, with all it holds.
    pub(crate) async fn while_open<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let pulse = self.standing.pulse();
        tokio::select! {
            biased;
            () = pulse.failed().cancelled() => Err(Error::EngineDown),
            done = work => done,
        }
    }

    /// Cancelled when the present instance fails.
    pub(crate) fn failure(&self) -> CancellationToken {
        self.standing.pulse().failed().clone()
    }

    /// Follows where the database stands.
    pub(crate) fn condition(&self) -> watch::Receiver<Condition> {
        self.standing.condition.subscribe()
    }

    /// Cancelled when nobody is to open it again.
    pub(crate) fn stopping(&self) -> &CancellationToken {
        self.standing.stopping()
    }

    /// From now on nobody opens the database again.
    pub(crate) fn stop(&self) {
        self.standing.stop();
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.stop();
    }
}
