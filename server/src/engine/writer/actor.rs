//! The writer's loop: take what is waiting, commit it once, answer everyone.

use std::{
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    checkpoint::{Checkpoints, Sizes},
    command::Command,
    committer::Committer,
    doubt::Doubt,
    duck::DuckStorage,
    gather::gather,
    lane::Pending,
    outage,
    pipeline::Pipeline,
    queue::Queue,
    syncer::SyncThread,
};
use crate::engine::{
    Error, Result,
    database::Database,
    error::Class,
    ffi::tells_of_faster,
    ledger::{Retention, SharedLedger},
};

/// How often the ledger is pruned. Often, so that it is little each time.
const PRUNE_EVERY: Duration = Duration::from_secs(300);

/// The state of the writer's thread.
pub(super) struct Actor {
    pipeline: Pipeline<DuckStorage, SyncThread<Pending>>,
    database: Arc<Database>,
    checkpoints: Checkpoints,
    pruned: Option<Instant>,
    /// Whether the last command that came was waiting for the writer, and not the writer for it.
    queued: bool,
    /// Commands that have come and belong to a later group.
    queue: Queue,
}

impl Actor {
    /// One whose second thread calls `settle` when a commit has failed, to have a [`Command::Settle`] sent.
    pub(super) fn new(
        storage: DuckStorage,
        ledger: SharedLedger,
        sizes: Sizes,
        settle: impl Fn() + Send + 'static,
    ) -> Result<Self> {
        let syncer = SyncThread::start(Arc::clone(&ledger), settle)?;
        Ok(Self {
            checkpoints: Checkpoints::new(Arc::clone(&storage.database), Arc::clone(&storage.clock), sizes),
            database: Arc::clone(&storage.database),
            pipeline: Pipeline::new(Committer::new(storage, ledger), syncer),
            pruned: None,
            queued: false,
            queue: Queue::default(),
        })
    }

    /// Serves commands until told to end, or until every handle is gone.
    pub(super) fn run(mut self, commands: &mpsc::Receiver<Command>) {
        while let Some(command) = self.next(commands) {
            // All but units come between two groups.
            let drained = match command {
                Command::Unit(_) => Ok(()),
                _ => self.pipeline.drain(),
            };
            let served = match (drained, command) {
                (Err(doubt), command) => {
                    self.queue.put_back(command);
                    Err(doubt)
                }
                (Ok(()), Command::Unit(unit)) => {
                    let mut group = vec![*unit];
                    gather(&mut group, &self.pipeline.committer, &mut self.queue);
                    self.pipeline.take(group, self.queued)
                }
                (Ok(()), Command::Bulk(bulk)) => self.pipeline.committer.commit_bulk(*bulk),
                (Ok(()), Command::MakeLedger(done)) => {
                    self.make_ledger(done);
                    Ok(())
                }
                (Ok(()), Command::Settle) => Ok(()),
                // Nobody else writes to the server's own database.
                (Ok(()), Command::CatchUp(done)) => {
                    let _ = done.send(Ok(()));
                    Ok(())
                }
                (Ok(()), Command::Shutdown(done)) => return self.end(done),
            };
            if let Err(doubt) = served.and_then(|()| self.tidy(false))
                && self.recover(doubt, commands).is_none()
            {
                return;
            }
        }
    }

    fn make_ledger(&self, done: oneshot::Sender<Result<()>>) {
        let DuckStorage { ledger, own, .. } = self.storage();
        let _ = done.send(ledger.ensure(&own.connection).map_err(Error::from));
    }

    fn end(mut self, done: oneshot::Sender<()>) {
        self.checkpoints.at_stop(&self.pipeline.committer.storage.own.connection);
        tracing::info!(commits = self.pipeline.committer.commits, "writer stopped");
        drop(self);
        let _ = done.send(());
    }

    fn storage(&self) -> &DuckStorage {
        &self.pipeline.committer.storage
    }

    /// The next command; while there is none, uses the time to tidy up.
    fn next(&mut self, commands: &mpsc::Receiver<Command>) -> Option<Command> {
        self.queued = true;
        loop {
            // What has come may have come from a database that is lost.
            self.queue.receive(commands);
            if self.storage().own.connection.is_lost() {
                match self.pipeline.drain() {
                    Ok(()) => self.sit_out(commands)?,
                    Err(doubt) => self.recover(doubt, commands)?,
                }
            }
            if let Some(command) = self.queue.next(|unit| self.pipeline.committer.stands_apart(unit)) {
                return Some(command);
            }
            self.queued = false;
            match commands.recv_timeout(self.checkpoints.rest()) {
                Ok(command) => self.queue.push(command),
                Err(mpsc::RecvTimeoutError::Disconnected) => return None,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    if let Err(doubt) = self.tidy(true) {
                        self.recover(doubt, commands)?;
                    }
                }
            }
        }
    }

    /// Has the database opened again, and reads in its ledger what became of the units in doubt; `None` when the
    /// writer is to end.
    fn recover(&mut self, doubt: Doubt, commands: &mpsc::Receiver<Command>) -> Option<()> {
        let Doubt { error, in_doubt, untried, kept } = doubt;
        tracing::error!(%error, units = in_doubt.len(), "a commit failed, and its outcome is not known");
        self.database.invalidate(&error.to_string());
        drop(kept);
        self.queue.put_back_all(untried);
        let open = self.sit_out(commands);
        let ledger = self.pipeline.committer.ledger.lock();
        let known = open.map(|()| &*ledger);
        in_doubt.into_iter().for_each(|unit| unit.settle(known, &error, &Error::EngineDown));
        open
    }

    /// Waits until the database is open again, and believes what its ledger says; `None` when the writer is to
    /// end.
    fn sit_out(&mut self, commands: &mpsc::Receiver<Command>) -> Option<()> {
        loop {
            let storage = &mut self.pipeline.committer.storage;
            storage.let_go();
            outage::sit_out(&self.database, &mut storage.own.connection, commands, &mut self.queue)?;
            match self.pipeline.committer.read_ledger() {
                Ok(()) => return Some(()),
                Err(error) => {
                    tracing::error!(%error, "the ledger cannot be read");
                    self.database.invalidate("the ledger cannot be read");
                }
            }
        }
    }

    /// Prunes the ledger and moves the log into the file, where that is due; nothing is under way meanwhile.
    fn tidy(&mut self, idle: bool) -> Result<(), Doubt> {
        let connection = &self.pipeline.committer.storage.own.connection;
        let checkpoint = self.checkpoints.due(connection, idle);
        let prune = self.pruned.is_none_or(|last| last.elapsed() >= PRUNE_EVERY);
        if checkpoint.is_none() && !prune {
            return Ok(());
        }
        self.pipeline.drain()?;
        if prune {
            self.prune();
        }
        if let Some(why) = checkpoint {
            self.checkpoints.attempt(&self.pipeline.committer.storage.own.connection, why);
        }
        Ok(())
    }

    /// Forgets old units of the ledger, first when the server has just started.
    fn prune(&mut self) {
        self.pruned = Some(Instant::now());
        let DuckStorage { ledger, own, clock, .. } = self.storage();
        let _writing = clock.writing();
        match ledger.prune(&own.connection, Retention::default()) {
            Ok(units) => tracing::debug!(units, "pruned the ledger"),
            Err(error) => tracing::warn!(%error, "the ledger could not be pruned"),
        }
    }
}

/// How DuckDB says that a commit found no room for its log.
const NOT_COMMITTED: &str = "Failed to commit: Could not write file";

fn tells_of_conflict(message: &str) -> bool {
    !message.contains("Failed to commit")
        || ["conflict", "Conflict", "altered"].iter().any(|word| message.contains(word))
        || tells_of_faster(message)
}

/// What a failed COMMIT means: DuckDB rolled back, or nobody knows.
pub(crate) fn commit_error(error: Error) -> Error {
    match error {
        // It is undone, and nothing is the worse for it.
        Error::Duck { class: Class::DiskFull, message } if message.contains(NOT_COMMITTED) => Error::DiskFull,
        // DuckDB calls whatever fails in a COMMIT a matter of transactions.
        Error::Duck { class: Class::Conflict, message } if !tells_of_conflict(&message) => {
            Error::CommitUnknown(message)
        }
        Error::Duck {
            class:
                Class::Io
                | Class::Unreachable
                | Class::Storage
                | Class::Fatal
                | Class::Down
                | Class::DiskFull
                | Class::Internal
                | Class::Other,
            message,
        } => Error::CommitUnknown(message),
        other => other,
    }
}

/// What the failure of a statement means that is a transaction of its own: its COMMIT may have failed, or what is
/// before that, after which nothing is written.
pub(super) fn statement_error(error: Error) -> Error {
    match error {
        Error::Duck { class: Class::Other, ref message }
            if !message.is_empty() && !message.contains("Failed to commit") =>
        {
            error
        }
        // A fault of DuckDB's own may come from any place, also from within a COMMIT.
        error => commit_error(error),
    }
}
