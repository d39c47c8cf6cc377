//! The way to the writer.

use std::{
    sync::{Arc, mpsc},
    thread,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

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
    ingest::{Budget, Sharer},
    ledger::{LedgerTable, SharedLedger},
    panics,
};

/// For whom COMMITs of bulk uploads take their slots: there are few at once, and they have no loader's share.
const BULKS: u64 = u64::MAX;

/// The writer's end of the channel is open for as long as somebody has this.
type Commands = Arc<Mutex<Option<mpsc::Sender<Command>>>>;

/// Has the writer look at a commit that has failed.
pub(crate) type Settle = Box<dyn Fn() + Send>;

/// Sends commands to the writer's thread. The channel has no bound of its own: the slots have, and a slot
/// is taken before anything is sent. Loaders share the slots as they share the memory: one may have as many as it leaves
/// for the others.
pub(crate) struct WriterHandle {
    commands: Commands,
    slots: Budget,
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
        let storage = DuckStorage::open(Arc::clone(&database), table, clock)?;
        Self::start("writer".into(), database, options, |settle| {
            let actor = Actor::new(storage, ledger, sizes, settle)?;
            Ok(move |commands: &mpsc::Receiver<Command>| actor.run(commands))
        })
    }

    /// Starts a writer's thread. `make` gives what serves the commands that come; it gets what has a
    /// [`Command::Settle`] sent. Should that panic, nobody would commit any more, so `database` is given up, and with it the
    /// process.
    pub(crate) fn start<S: FnOnce(&mpsc::Receiver<Command>) + Send + 'static>(
        name: String,
        database: Arc<Database>,
        options: &Options,
        make: impl FnOnce(Settle) -> Result<S>,
    ) -> Result<Self> {
        let (commands, received) = mpsc::channel();
        let commands = Arc::new(Mutex::new(Some(commands)));
        let serve = make(settling(&commands))?;
        thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                // Before those who wait for an answer learn that there will be none.
                if let Some(reason) = panics::caught(&name, || serve(&received)) {
                    database.lose(&format!("the thread that writes has ended: {reason}"));
                }
            })
            .map_err(|error| Error::Internal(format!("the writer's thread cannot start: {error}")))?;
        Ok(Self { commands, slots: Budget::new(options.queue_units, options.wait) })
    }

    /// Queues a unit, behind what was queued before. Its answer comes when it is committed or refused.
    pub(crate) async fn append(&self, mut unit: Unit) -> Result<()> {
        self.take_slot(unit.loader, &mut unit.held).await?;
        self.send(Command::Unit(Box::new(unit)))
    }

    /// Queues the COMMIT of a bulk upload.
    pub(crate) async fn commit(&self, mut bulk: BulkCommit) -> Result<()> {
        self.take_slot(BULKS, &mut bulk.held).await?;
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

    /// Units that wait, or that are being committed.
    pub(crate) fn queued(&self) -> usize {
        self.slots.taken()
    }

    async fn take_slot(&self, loader: u64, held: &mut Held) -> Result<()> {
        held.slot = Some(self.slots.take(Sharer::new(loader), 1).await?);
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::{
        Condition, IngestKey,
        ledger::{Committed, Entry, Ledger},
        writer::{Committer, Failure, Storage, model_tests::unit},
    };

    const UNITS: usize = 8;

    /// A writer that takes nothing until it is told to.
    fn resting(go: mpsc::Receiver<()>) -> WriterHandle {
        let options = Options { queue_units: UNITS, wait: Duration::ZERO, ..Options::default() };
        let database = Arc::new(Database::open(&options).unwrap());
        WriterHandle::start("resting".into(), database, &options, |_| {
            Ok(move |commands: &mpsc::Receiver<Command>| {
                let _ = go.recv();
                commands.iter().for_each(drop);
            })
        })
        .unwrap()
    }

    async fn append(writer: &WriterHandle, loader: u64) -> Result<()> {
        writer.append(unit(1, 1, loader, None, oneshot::channel().0)).await
    }

    #[tokio::test]
    async fn one_loader_leaves_places_in_the_queue_for_the_others() {
        let (go, going) = mpsc::channel();
        let writer = resting(going);
        let mut greedy = 0;
        while append(&writer, 1).await.is_ok() {
            greedy += 1;
        }
        assert_eq!(greedy, UNITS / 2);
        assert!(matches!(append(&writer, 1).await, Err(Error::QueueFull)));
        for loader in 2..4 {
            append(&writer, loader).await.unwrap();
        }
        assert_eq!(writer.queued(), greedy + 2);
        drop(go);
    }

    /// A storage whose commits panic.
    struct Panics;

    impl Storage for Panics {
        fn commit(&mut self, _: &[Unit], _: &[Entry]) -> Result<(), Failure> {
            panic!("a test's own")
        }

        fn commit_bulk(&mut self, _: &BulkCommit, _: &[Entry]) -> Result<(), Failure> {
            panic!("a test's own")
        }

        fn look_up(&mut self, _: &IngestKey) -> Result<Option<Committed>> {
            Ok(None)
        }

        fn load(&mut self) -> Result<Ledger> {
            Ok(Ledger::default())
        }
    }

    #[tokio::test]
    async fn a_writer_that_panics_takes_the_process_with_it() {
        let options = Options::default();
        let database = Arc::new(Database::open(&options).unwrap());
        let mut condition = database.condition();
        let writer = WriterHandle::start("panics".into(), Arc::clone(&database), &options, |_| {
            let mut committer = Committer::new(Panics, SharedLedger::default());
            Ok(move |commands: &mpsc::Receiver<Command>| {
                while let Ok(Command::Unit(unit)) = commands.recv() {
                    let _ = committer.commit_all(vec![vec![*unit]]);
                }
            })
        })
        .unwrap();
        let (answer, answered) = oneshot::channel();
        writer.append(unit(1, 1, 1, None, answer)).await.unwrap();
        assert!(answered.await.is_err());
        let lost = condition.wait_for(|now| matches!(now, Condition::Lost(_))).await.unwrap().clone();
        assert!(matches!(lost, Condition::Lost(reason) if reason.contains("a test's own")));
        // The thread is about to let go of what was sent to it.
        writer.shutdown().await;
        assert!(matches!(append(&writer, 1).await, Err(Error::Stopping)));
    }
}
