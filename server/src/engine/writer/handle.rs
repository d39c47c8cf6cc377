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
    group::DuckStorage,
};
use crate::engine::{
    Error, Options, Result,
    append::Imports,
    clock::CommitClock,
    database::Database,
    ledger::{LedgerTable, SharedLedger},
    permit,
};

/// Sends commands to the writer's thread. The channel has no bound of its own: the slots have, and a slot
/// is taken before anything is sent.
pub(crate) struct WriterHandle {
    commands: Mutex<Option<mpsc::Sender<Command>>>,
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
        let connection = database.private_connection()?;
        Self::start("writer".into(), options, move |commands| {
            let imports = Imports::default();
            let storage = DuckStorage { connection, database, ledger: table, clock, imports };
            Actor::new(storage, ledger, sizes).run(commands);
        })
    }

    /// Starts a writer's thread, which serves the commands that come.
    pub(crate) fn start(
        name: String,
        options: &Options,
        serve: impl FnOnce(&mpsc::Receiver<Command>) + Send + 'static,
    ) -> Result<Self> {
        let (commands, received) = mpsc::channel();
        thread::Builder::new()
            .name(name)
            .spawn(move || serve(&received))
            .map_err(|error| Error::Internal(format!("the writer's thread cannot start: {error}")))?;
        Ok(Self {
            commands: Mutex::new(Some(commands)),
            slots: Arc::new(Semaphore::new(options.queue_units)),
            wait: options.wait,
        })
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
