//! The writer's loop: take what is waiting, commit it once, answer everyone.

use std::{
    collections::VecDeque,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use super::{Unit, command::Command, committer::Committer, doubt::Doubt, group::DuckStorage};
use crate::{
    engine::{
        Error,
        database::Database,
        error::Class,
        ledger::{Retention, SharedLedger},
    },
    metrics,
};

/// A group is complete at this many units,
const GROUP_UNITS: usize = 256;
/// this many rows,
const GROUP_ROWS: usize = 65_536;
/// or this many bytes.
const GROUP_BYTES: usize = 32 << 20;
/// The writer counts as idle after this long without a command, and then checkpoints.
const IDLE: Duration = Duration::from_secs(1);
/// A smaller write-ahead log is left alone when idle.
const IDLE_CHECKPOINT_BYTES: u64 = 16 << 20;
/// How often the ledger is pruned, when the writer is idle.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// The state of the writer's thread.
pub(super) struct Actor {
    committer: Committer<DuckStorage>,
    database: Arc<Database>,
    checkpoint_bytes: u64,
    pruned: Instant,
    /// Commands that were taken and belong to a later group.
    waiting: VecDeque<Command>,
}

impl Actor {
    pub(super) fn new(storage: DuckStorage, ledger: SharedLedger, checkpoint_bytes: u64) -> Self {
        Self {
            database: Arc::clone(&storage.database),
            committer: Committer::new(storage, ledger),
            checkpoint_bytes,
            pruned: Instant::now(),
            waiting: VecDeque::new(),
        }
    }

    /// Serves commands until told to end, or until every handle is gone.
    pub(super) fn run(mut self, commands: &mpsc::Receiver<Command>) {
        while let Some(command) = self.next(commands) {
            let served = match command {
                Command::Unit(unit) => {
                    let group = self.gather(*unit, commands);
                    self.committer.commit(group)
                }
                Command::Bulk(bulk) => self.committer.commit_bulk(*bulk),
                Command::MakeLedger(done) => {
                    let DuckStorage { ledger, connection, .. } = &self.committer.storage;
                    let _ = done.send(ledger.ensure(connection).map_err(Error::from));
                    Ok(())
                }
                Command::Shutdown(done) => {
                    self.checkpoint();
                    tracing::info!(commits = self.committer.commits, "writer stopped");
                    drop(self);
                    let _ = done.send(());
                    return;
                }
            };
            if let Err(doubt) = served {
                self.recover(doubt);
            }
        }
    }

    /// The next command; while there is none, uses the time to tidy up.
    fn next(&mut self, commands: &mpsc::Receiver<Command>) -> Option<Command> {
        if let Some(command) = self.waiting.pop_front() {
            return Some(command);
        }
        loop {
            match commands.recv_timeout(IDLE) {
                Ok(command) => return Some(command),
                Err(mpsc::RecvTimeoutError::Disconnected) => return None,
                Err(mpsc::RecvTimeoutError::Timeout) => self.idle(),
            }
        }
    }

    fn idle(&mut self) {
        if self.pruned.elapsed() >= PRUNE_EVERY {
            self.prune();
        }
        if self.database.wal_bytes() >= IDLE_CHECKPOINT_BYTES.min(self.checkpoint_bytes) {
            self.checkpoint();
        }
    }

    /// Takes the units that are waiting behind `first`, up to the size of a group.
    fn gather(&mut self, first: Unit, commands: &mpsc::Receiver<Command>) -> Vec<Unit> {
        let (mut rows, mut bytes) = (first.rows, first.bytes);
        let alone = self.committer.runs_alone(&first);
        let mut group = vec![first];
        while !alone && group.len() < GROUP_UNITS && rows < GROUP_ROWS && bytes < GROUP_BYTES {
            match self.waiting.pop_front().map_or_else(|| commands.try_recv(), Ok) {
                Ok(Command::Unit(unit)) if !self.committer.runs_alone(&unit) => {
                    rows += unit.rows;
                    bytes += unit.bytes;
                    group.push(*unit);
                }
                Ok(other) => {
                    self.waiting.push_front(other);
                    break;
                }
                Err(_) => break,
            }
        }
        group
    }

    /// Reads the ledger again, which says what became of the units in doubt.
    fn recover(&mut self, doubt: Doubt) {
        let Doubt { error, in_doubt, untried } = doubt;
        tracing::error!(%error, units = in_doubt.len(), "a commit failed, and its outcome is not known");
        let DuckStorage { ledger: table, connection, .. } = &self.committer.storage;
        let read = table.load(connection).map(|mut fresh| {
            let mut ledger = self.committer.ledger.lock();
            fresh.keep_counts_of(&ledger);
            *ledger = fresh;
        });
        {
            let ledger = self.committer.ledger.lock();
            let known = read.is_ok().then_some(&*ledger);
            in_doubt.into_iter().for_each(|unit| unit.settle(known, &error));
        }
        for unit in untried.into_iter().rev() {
            self.waiting.push_front(Command::Unit(Box::new(unit)));
        }
    }

    /// Forgets old units of the ledger.
    fn prune(&mut self) {
        self.pruned = Instant::now();
        let DuckStorage { ledger, connection, clock, .. } = &self.committer.storage;
        let _writing = clock.writing();
        match ledger.prune(connection, Retention::default()) {
            Ok(units) => tracing::debug!(units, "pruned the ledger"),
            Err(error) => tracing::warn!(%error, "the ledger could not be pruned"),
        }
    }

    /// Moves the write-ahead log into the file. Refused while another write is open; then it is tried at
    /// the next idle moment.
    fn checkpoint(&self) {
        let DuckStorage { connection, clock, .. } = &self.committer.storage;
        let started = Instant::now();
        let _writing = clock.writing();
        match connection.execute("CHECKPOINT") {
            Ok(_) => {
                metrics::checkpointed(started.elapsed());
                tracing::debug!(milliseconds = started.elapsed().as_millis() as u64, "checkpointed");
            }
            Err(error) => {
                metrics::checkpoint_put_off();
                tracing::debug!(%error, "checkpoint put off");
            }
        }
    }
}

/// What a failed COMMIT means: DuckDB rolled back, or nobody knows.
pub(crate) fn commit_error(error: Error) -> Error {
    match error {
        Error::Duck { class: Class::Io | Class::Fatal | Class::DiskFull | Class::Other, message } => {
            Error::CommitUnknown(message)
        }
        other => other,
    }
}
