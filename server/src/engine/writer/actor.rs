//! The writer's loop: take what is waiting, commit it once, answer everyone.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use super::{
    BulkCommit, Unit,
    command::Command,
    group::{self, Failure},
    outage,
};
use crate::engine::{
    Error, Result,
    append::Imports,
    clock::CommitClock,
    database::{Database, Pooled},
    error::Class,
    ingest::Ack,
};

/// A group is complete at this many units,
const GROUP_UNITS: usize = 256;
/// this many rows,
const GROUP_ROWS: usize = 65_536;
/// or this many bytes.
const GROUP_BYTES: usize = 32 << 20;
/// A group that met a conflict is tried this many times before its members are tried alone.
const CONFLICT_RETRIES: usize = 3;
/// A loader whose unit failed commits alone for this long, so that a broken one costs the others nothing.
const APART: Duration = Duration::from_secs(10);
/// The writer counts as idle after this long without a command, and then checkpoints.
const IDLE: Duration = Duration::from_secs(1);
/// A smaller write-ahead log is left alone when idle.
const IDLE_CHECKPOINT_BYTES: u64 = 16 << 20;

/// The state of the writer's thread.
pub(super) struct Actor {
    database: Arc<Database>,
    connection: Pooled,
    clock: Arc<CommitClock>,
    imports: Imports,
    commits: u64,
    checkpoint_bytes: u64,
    apart: HashMap<u64, Instant>,
    /// Commands that were taken and belong to a later group.
    waiting: VecDeque<Command>,
}

impl Actor {
    pub(super) fn new(
        database: Arc<Database>,
        connection: Pooled,
        clock: Arc<CommitClock>,
        checkpoint_bytes: u64,
    ) -> Self {
        Self {
            database,
            connection,
            clock,
            imports: Imports::default(),
            commits: 0,
            checkpoint_bytes,
            apart: HashMap::new(),
            waiting: VecDeque::new(),
        }
    }

    /// Serves commands until told to end, or until every handle is gone.
    pub(super) fn run(mut self, commands: &mpsc::Receiver<Command>) {
        loop {
            match self.next(commands) {
                Some(Command::Unit(unit)) => {
                    let group = self.gather(*unit, commands);
                    self.commit(group);
                }
                Some(Command::Bulk(bulk)) => self.commit_bulk(*bulk),
                Some(Command::Shutdown(done)) => {
                    self.checkpoint();
                    tracing::info!(commits = self.commits, "writer stopped");
                    drop(self);
                    let _ = done.send(());
                    return;
                }
                None => return,
            }
        }
    }

    /// The next command; while there is none, uses the time to checkpoint.
    fn next(&mut self, commands: &mpsc::Receiver<Command>) -> Option<Command> {
        loop {
            if self.connection.is_lost() {
                // They hold a part of the instance, too.
                self.imports = Imports::default();
                outage::sit_out(&self.database, &mut self.connection, commands, &mut self.waiting)?;
            }
            if let Some(command) = self.waiting.pop_front() {
                return Some(command);
            }
            match commands.recv_timeout(IDLE) {
                Ok(command) => self.waiting.push_back(command),
                Err(mpsc::RecvTimeoutError::Disconnected) => return None,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    if self.database.wal_bytes() >= IDLE_CHECKPOINT_BYTES.min(self.checkpoint_bytes) {
                        self.checkpoint();
                    }
                }
            }
        }
    }

    /// Takes the units that are waiting behind `first`, up to the size of a group.
    fn gather(&mut self, first: Unit, commands: &mpsc::Receiver<Command>) -> Vec<Unit> {
        let (mut rows, mut bytes) = (first.rows, first.bytes);
        let alone = self.runs_alone(&first);
        let mut group = vec![first];
        while !alone && group.len() < GROUP_UNITS && rows < GROUP_ROWS && bytes < GROUP_BYTES {
            match commands.try_recv() {
                Ok(Command::Unit(unit)) if !self.runs_alone(&unit) => {
                    rows += unit.rows;
                    bytes += unit.bytes;
                    group.push(*unit);
                }
                Ok(other) => {
                    self.waiting.push_back(other);
                    break;
                }
                Err(_) => break,
            }
        }
        group
    }

    /// A unit that creates its table, or whose loader just failed, shares its transaction with nobody.
    fn runs_alone(&mut self, unit: &Unit) -> bool {
        if unit.create.is_some() {
            return true;
        }
        match self.apart.get(&unit.loader) {
            Some(until) if *until > Instant::now() => true,
            Some(_) => {
                self.apart.remove(&unit.loader);
                false
            }
            None => false,
        }
    }

    /// Commits a group; on a failure finds the members that are to blame and commits the others.
    fn commit(&mut self, group: Vec<Unit>) {
        let mut groups = vec![group];
        while let Some(mut group) = groups.pop() {
            let started = Instant::now();
            match self.try_commit(&group) {
                Ok(()) => self.acknowledge(group, started),
                Err(failure) if group.len() == 1 => {
                    for unit in group {
                        self.refuse(unit, &failure.error);
                    }
                }
                Err(Failure { error: error @ Error::CommitUnknown(_), .. }) => {
                    // The rows may be there: trying again could store them twice.
                    for unit in group {
                        self.refuse(unit, &error);
                    }
                }
                Err(Failure { unit: Some(index), .. }) => {
                    // The culprit is known: it goes alone, so that its own error is what it is told.
                    let culprit = group.remove(index);
                    groups.push(group);
                    groups.push(vec![culprit]);
                }
                Err(Failure { unit: None, .. }) => {
                    let later = group.split_off(group.len() / 2);
                    groups.push(later);
                    groups.push(group);
                }
            }
        }
    }

    /// One transaction, again while it meets conflicts.
    fn try_commit(&mut self, group: &[Unit]) -> Result<(), Failure> {
        let mut tries = 0;
        loop {
            tries += 1;
            let _writing = self.clock.writing();
            match group::commit(&self.connection, &self.database.scans, &mut self.imports, group) {
                Ok(()) => {
                    if group.iter().any(|unit| unit.create.is_some()) {
                        self.clock.schema_changed();
                    }
                    return Ok(());
                }
                Err(failure) if failure.is(Class::Conflict) && tries < CONFLICT_RETRIES => {
                    tracing::debug!(tries, error = %failure.error, "ingest met a conflict and is tried again");
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    fn acknowledge(&mut self, group: Vec<Unit>, started: Instant) {
        self.commits += 1;
        let units = group.len();
        let rows: usize = group.iter().map(|unit| unit.rows).sum();
        tracing::debug!(
            commit = self.commits,
            units,
            rows,
            micros = started.elapsed().as_micros() as u64,
            "committed a group"
        );
        for unit in group {
            let ack = Ack {
                rows: unit.rows as u64,
                bytes: unit.bytes as u64,
                commit: self.commits,
                committed: true,
                duplicate: false,
            };
            // A loader that has gone learns of its rows when it asks; they are there.
            let _ = unit.answer.send(Ok(ack));
        }
    }

    fn refuse(&mut self, unit: Unit, error: &Error) {
        unit.span.in_scope(|| tracing::debug!(table = %unit.target.table, %error, "refused a unit"));
        let now = Instant::now();
        self.apart.retain(|_, until| *until > now);
        self.apart.insert(unit.loader, now + APART);
        let _ = unit.answer.send(Err(error.clone()));
    }

    fn commit_bulk(&mut self, bulk: BulkCommit) {
        let BulkCommit { connection, rows, bytes, creates, answer, span, held } = bulk;
        let outcome = span.in_scope(|| {
            let _writing = self.clock.writing();
            let committed = connection.execute("COMMIT");
            if creates {
                self.clock.schema_changed();
            }
            committed
        });
        let outcome = match outcome {
            Ok(_) => {
                self.commits += 1;
                Ok(Ack {
                    rows: rows as u64,
                    bytes: bytes as u64,
                    commit: self.commits,
                    committed: true,
                    duplicate: false,
                })
            }
            Err(error) => Err(commit_error(error.into())),
        };
        drop(connection);
        drop(held);
        let _ = answer.send(outcome);
    }

    /// Moves the write-ahead log into the file. Refused while another write is open; then it is tried at
    /// the next idle moment.
    fn checkpoint(&self) {
        let started = Instant::now();
        let _writing = self.clock.writing();
        match self.connection.execute("CHECKPOINT") {
            Ok(_) => tracing::debug!(milliseconds = started.elapsed().as_millis() as u64, "checkpointed"),
            Err(error) => tracing::debug!(%error, "checkpoint put off"),
        }
    }
}

/// What a failed COMMIT means: DuckDB rolled back, or nobody knows.
pub(crate) fn commit_error(error: Error) -> Error {
    match error {
        Error::Duck {
            class: Class::Io | Class::Fatal | Class::Down | Class::DiskFull | Class::Other,
            message,
        } => Error::CommitUnknown(message),
        other => other,
    }
}
