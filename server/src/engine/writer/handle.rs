//! The way to the writer.

use std::{
    sync::{Arc, mpsc},
    thread,
};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use super::{
    BulkCommit, Unit,
    actor::Actor,
    checkpoint::Sizes,
    command::{Command, Held},
    duck::DuckStorage,
};
use crate::engine::{
    Error, Options, Result,
    clock::CommitClock,
    database::Database,
    ledger::{LedgerTable, SharedLedger},
    permit,
};

/// The writer's end of the channel is open for as long as somebody has this.
type Commands = Arc<Mutex<Option<mpsc::Sender<Command>>>>;

/// Has the writer look at a commit that has failed.
pub(crate) type Settle = Box<dyn Fn() + Send>;

/// Sends commands to the writer's thread. The channel has no bound of its own: the slots have, and a slot
/// is taken before anything is sent.
pub(crate) struct WriterHandle {
    commands: Commands,
    slots: Arc<Semaphore>,
    wait: std::time::Duration,
}

impl WriterHandle {
    /// Starts the writer of the server's own database.
    pub(crate) fn spawn(
        database: Arc<Database>,
        clock: Arc<CommitClock>,
        (table, ledger): (Arc<LedgerTable>, SharedLedger),
        options: &Options,
    ) -> Result<Self> {
        let sizes = Sizes { checkpoint: options.checkpoint_bytes, limit: options.wal_limit_bytes };
        let storage = DuckStorage::open(database, table, clock)?;
        Self::start("writer".into(), options, |settle| {
            let actor = Actor::new(storage, ledger, sizes, settle)?;
            Ok(move |commands: &mpsc::Receiver<Command>| actor.run(commands))
        })
    }

    /// Starts a writer's thread. `make` gives what serves the commands that come; it gets what has a
    /// [`Command::Settle`] sent.
    pub(crate) fn start<S: FnOnce(&mpsc::Receiver<Command>) + Send + 'static>(
        name: String,
        options: &Options,
        make: impl FnOnce(Settle) -> Result<S>,
    ) -> Result<Self> {
        let (commands, received) = mpsc::channel();
        let commands = Arc::new(Mutex::new(Some(commands)));
        let serve = make(settling(&commands))?;
        thread::Builder::new()
            .name(name)
            .spawn(move || serve(&received))
            .map_err(|error| Error::Internal(format!("the writer's thread cannot start: {error}")))?;
        Ok(Self { commands, slots: Arc::new(Semaphore::new(options.queue_units)), wait: options.wait })
    }

    /// Queues a unit, behind what was queued before. Its answer comes when it is committed or refused.
    pub(crate) async fn append(&self, mut unit: Unit) -> Result<()> {
        self.take_slot(&mut unit.held).await?;
        self.send(Command::Unit(Box::new(unit)))
    }

    /// Queues the COMMIT of a bulk upload.
    pub(crate) async fn commit(&self, mut bulk: BulkCommit) -> Result<()> {
        self.take_slot(&mut bulk.held).await?;
        self.send(Command::Bulk(Box::new(bulk)))
    }

    /// Waits until the ledger is there, for a transaction that is to write to it.
    pub(crate) async fn make_ledger(&self) -> Result<()> {
        let (done, made) = oneshot::channel();
        self.send(Command::MakeLedger(done))?;
        made.await.unwrap_or(Err(Error::Stopping))
    }

    /// Waits until the ledger knows what other servers have committed.
    pub(crate) async fn catch_up(&self) -> Result<()> {
        let (done, caught_up) = oneshot::channel();
        self.send(Command::CatchUp(done))?;
        caught_up.await.unwrap_or(Err(Error::Stopping))
    }

    /// Units that may still be sent before one has to wait.
    pub(crate) fn free_slots(&self) -> usize {
        self.slots.available_permits()
    }

    async fn take_slot(&self, held: &mut Held) -> Result<()> {
        held.slot = Some(permit::take(&self.slots, 1, self.wait, || Error::QueueFull).await?);
        Ok(())
    }

    fn send(&self, command: Command) -> Result<()> {
        match &*self.commands.lock() {
            Some(commands) => commands.send(command).map_err(|_| Error::Stopping),
            None => Err(Error::Stopping),
        }
    }

    /// Lets the writer finish what it has accepted, then ends it.
    pub(crate) async fn shutdown(&self) {
        let Some(commands) = self.commands.lock().take() else {
            return;
        };
        let (done, ended) = oneshot::channel();
        if commands.send(Command::Shutdown(done)).is_ok() {
            let _ = ended.await;
        }
    }
}

/// Has the writer look at a failed commit. It keeps the channel open no longer than the handle does: who has let go of
/// that has the writer end, which looks then.
fn settling(commands: &Commands) -> Settle {
    let commands = Arc::downgrade(commands);
    Box::new(move || {
        if let Some(commands) = commands.upgrade()
            && let Some(commands) = &*commands.lock()
        {
            let _ = commands.send(Command::Settle);
        }
    })
}
