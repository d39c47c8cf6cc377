//! The writer's loop: take what is waiting, commit it once, answer everyone.

use std::{
    collections::VecDeque,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use super::{
    checkpoint::{Checkpoints, Sizes},
    command::Command,
    committer::Committer,
    doubt::Doubt,
    gather::gather,
    group::DuckStorage,
    outage,
};
use crate::engine::{
    Error,
    append::Imports,
    database::Database,
    error::Class,
    ledger::{Retention, SharedLedger},
};

/// How often the ledger is pruned. Often, so that it is little each time.
const PRUNE_EVERY: Duration = Duration::from_secs(300);

/// The state of the writer's thread.
pub(super) struct Actor {
    committer: Committer<DuckStorage>,
    database: Arc<Database>,
    checkpoints: Checkpoints,
    pruned: Option<Instant>,
    /// Commands that were taken and belong to a later group.
    waiting: VecDeque<Command>,
}

impl Actor {
    pub(super) fn new(storage: DuckStorage, ledger: SharedLedger, sizes: Sizes) -> Self {
        Self {
            checkpoints: Checkpoints::new(Arc::clone(&storage.database), Arc::clone(&storage.clock), sizes),
            database: Arc::clone(&storage.database),
            committer: Committer::new(storage, ledger),
            pruned: None,
            waiting: VecDeque::new(),
        }
    }

    /// Serves commands until told to end, or until every handle is gone.
    pub(super) fn run(mut self, commands: &mpsc::Receiver<Command>) {
        while let Some(command) = self.next(commands) {
            let served = match command {
                Command::Unit(unit) => {
                    let group = gather(*unit, &mut self.committer, &mut self.waiting, commands);
                    self.committer.commit(group)
                }
                Command::Bulk(bulk) => self.committer.commit_bulk(*bulk),
                Command::MakeLedger(done) => {
                    let DuckStorage { ledger, connection, .. } = &self.committer.storage;
                    let _ = done.send(ledger.ensure(connection).map_err(Error::from));
                    Ok(())
                }
                // Nobody else writes to the server's own database.
                Command::CatchUp(done) => {
                    let _ = done.send(Ok(()));
                    Ok(())
                }
                Command::Shutdown(done) => {
                    self.checkpoints.at_stop(&self.committer.storage.connection);
                    tracing::info!(commits = self.committer.commits, "writer stopped");
                    drop(self);
                    let _ = done.send(());
                    return;
                }
            };
            if let Err(doubt) = served
                && self.recover(doubt, commands).is_none()
            {
                return;
            }
            self.prune_if_due();
            self.checkpoints.between_groups(&self.committer.storage.connection);
        }
    }

    /// The next command; while there is none, uses the time to tidy up.
    fn next(&mut self, commands: &mpsc::Receiver<Command>) -> Option<Command> {
        loop {
            if self.committer.storage.connection.is_lost() {
                self.sit_out(commands)?;
            }
            if let Some(command) = self.waiting.pop_front() {
                return Some(command);
            }
            match commands.recv_timeout(self.checkpoints.rest()) {
                // What has come while the writer rested may have come from a database that is lost.
                Ok(command) => self.waiting.push_back(command),
                Err(mpsc::RecvTimeoutError::Disconnected) => return None,
                Err(mpsc::RecvTimeoutError::Timeout) => self.idle(),
            }
        }
    }

    fn idle(&mut self) {
        self.prune_if_due();
        self.checkpoints.when_idle(&self.committer.storage.connection);
    }

    /// Has the database opened again, and reads in its ledger what became of the units in doubt; `None` when the
    /// writer is to end.
    fn recover(&mut self, doubt: Doubt, commands: &mpsc::Receiver<Command>) -> Option<()> {
        let Doubt { error, in_doubt, untried } = doubt;
        tracing::error!(%error, units = in_doubt.len(), "a commit failed, and its outcome is not known");
        self.database.invalidate(&error.to_string());
        let untried = untried.into_iter().rev().map(|unit| Command::Unit(Box::new(unit)));
        untried.for_each(|command| self.waiting.push_front(command));
        let open = self.sit_out(commands);
        let ledger = self.committer.ledger.lock();
        let known = open.map(|()| &*ledger);
        in_doubt.into_iter().for_each(|unit| unit.settle(known, &error, &Error::EngineDown));
        open
    }

    /// Waits until the database is open again, and believes what its ledger says; `None` when the writer is to
    /// end.
    fn sit_out(&mut self, commands: &mpsc::Receiver<Command>) -> Option<()> {
        loop {
            let storage = &mut self.committer.storage;
            // They hold a part of the instance, too.
            storage.imports = Imports::default();
            outage::sit_out(&self.database, &mut storage.connection, commands, &mut self.waiting)?;
            match self.committer.read_ledger() {
                Ok(()) => return Some(()),
                Err(error) => {
                    tracing::error!(%error, "the ledger cannot be read");
                    self.database.invalidate("the ledger cannot be read");
                }
            }
        }
    }

    /// Forgets old units of the ledger, first when the server has just started.
    fn prune_if_due(&mut self) {
        if self.pruned.is_some_and(|last| last.elapsed() < PRUNE_EVERY) {
            return;
        }
        self.pruned = Some(Instant::now());
        let DuckStorage { ledger, connection, clock, .. } = &self.committer.storage;
        let _writing = clock.writing();
        match ledger.prune(connection, Retention::default()) {
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
                Class::Io | Class::Unreachable | Class::Fatal | Class::Down | Class::DiskFull | Class::Other,
            message,
        } => Error::CommitUnknown(message),
        other => other,
    }
}
