//! The loop of a catalog's writer: take what is waiting, commit it once, answer everyone.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use super::storage::AttachedStorage;
use crate::engine::{
    Error,
    ledger::SharedLedger,
    writer::{Command, Committer, Doubt, Queue, Size, Unit, gather, refuse_all, sit_out},
};

/// The writer tidies up when it has had nothing to do for so long.
const IDLE: Duration = Duration::from_secs(1);
/// A group is waited for at most the time that the last commit took, divided by this,
const LINGER: f64 = 4.0;
/// and never for longer than this.
const LINGER_AT_MOST: Duration = Duration::from_millis(50);
/// How often the ledger is pruned. In a lake that is a commit like any other, so seldom.
const PRUNE_EVERY: Duration = Duration::from_secs(6 * 3600);
/// How long until a catalog out of reach is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Serves commands until told to end, or until every handle is gone.
pub(super) fn run(storage: AttachedStorage, ledger: SharedLedger, commands: &mpsc::Receiver<Command>) {
    let committer = Committer::new(storage, ledger);
    let actor = Actor {
        committer,
        queue: Queue::default(),
        pruned: Instant::now(),
        last_units: 0,
        last_took: Duration::ZERO,
    };
    actor.run(commands);
}

struct Actor {
    committer: Committer<AttachedStorage>,
    /// Commands that have come and belong to a later group.
    queue: Queue,
    pruned: Instant,
    /// The size of the last group, and how long its commit took.
    last_units: usize,
    last_took: Duration,
}

impl Actor {
    fn run(mut self, commands: &mpsc::Receiver<Command>) {
        while let Some(command) = self.next(commands) {
            let served = match command {
                Command::Unit(unit) => self.commit(*unit, commands),
                Command::Bulk(bulk) => self.committer.commit_bulk(*bulk),
                Command::MakeLedger(done) => {
                    let storage = &self.committer.storage;
                    let made = storage.home.ensure_ledger(&storage.connection);
                    let _ = done.send(made.map_err(|failure| failure.error));
                    Ok(())
                }
                // No second thread commits to a catalog.
                Command::Settle => Ok(()),
                Command::CatchUp(done) => {
                    let _ = done.send(self.committer.catch_up());
                    Ok(())
                }
                Command::Shutdown(done) => {
                    self.tidy_up();
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
        }
    }

    /// Commits a unit with what waits behind it.
    ///
    /// A commit to a lake costs about the same for one unit as for many. Those who have just been answered are about to
    /// send again, so that a group which is smaller than the one before is waited for a little.
    fn commit(&mut self, first: Unit, commands: &mpsc::Receiver<Command>) -> Result<(), Doubt> {
        let began = Instant::now();
        let is_alone = self.committer.runs_alone(&first);
        let mut group = vec![first];
        gather(&mut group, &self.committer, &mut self.queue);
        while group.len() < self.last_units
            && !Size::of(&group).is_complete()
            && self.queue.line_is_empty()
            && !is_alone
            && let Some(left) =
                self.last_took.div_f64(LINGER).min(LINGER_AT_MOST).checked_sub(began.elapsed())
            && let Ok(command) = commands.recv_timeout(left)
        {
            self.queue.push(command);
            self.queue.receive(commands);
            gather(&mut group, &self.committer, &mut self.queue);
        }
        let (units, began) = (group.len(), Instant::now());
        let committed = self.committer.commit_all(vec![group]);
        // What one alone takes says nothing of those who go together.
        if !is_alone {
            (self.last_units, self.last_took) = (units, began.elapsed());
        }
        committed
    }

    /// The next command; while there is none, uses the time to tidy up.
    fn next(&mut self, commands: &mpsc::Receiver<Command>) -> Option<Command> {
        loop {
            // What has come may have come from a database that is lost.
            self.queue.receive(commands);
            if self.committer.storage.connection.is_lost() {
                self.read_ledger(commands)?;
            }
            if let Some(command) = self.queue.next(|unit| self.committer.stands_apart(unit)) {
                return Some(command);
            }
            match commands.recv_timeout(IDLE) {
                Ok(command) => self.queue.push(command),
                Err(mpsc::RecvTimeoutError::Disconnected) => return None,
                Err(mpsc::RecvTimeoutError::Timeout) => self.tidy_up(),
            }
        }
    }

    fn tidy_up(&mut self) {
        let storage = &mut self.committer.storage;
        if !storage.dirty {
            return;
        }
        storage.dirty = storage.home.checkpoint(&storage.connection).is_err();
        if self.pruned.elapsed() >= PRUNE_EVERY {
            self.pruned = Instant::now();
            storage.home.prune(&storage.connection);
        }
    }

    /// Reads in the catalog's ledger what became of the units in doubt; `None` when the writer is to end.
    fn recover(&mut self, doubt: Doubt, commands: &mpsc::Receiver<Command>) -> Option<()> {
        let Doubt { error, in_doubt, untried, kept } = doubt;
        // The main database may have to be opened again before the ledger can be read.
        drop(kept);
        let catalog = self.committer.storage.home.name().to_owned();
        tracing::error!(catalog, %error, units = in_doubt.len(), "a commit failed, and its outcome is not known");
        self.queue.put_back_all(untried);
        let read = self.read_ledger(commands);
        let ledger = self.committer.ledger.lock();
        let known = read.map(|()| &*ledger);
        let undone = Error::CatalogDown(catalog);
        in_doubt.into_iter().for_each(|unit| unit.settle(known, &error, &undone));
        read
    }

    /// Reads the ledger, as soon as the main database is open and the catalog can be reached; `None` when the writer is to
    /// end. What comes meanwhile is refused.
    fn read_ledger(&mut self, commands: &mpsc::Receiver<Command>) -> Option<()> {
        loop {
            let storage = &mut self.committer.storage;
            if storage.connection.is_lost() {
                storage.let_go();
                sit_out(&storage.database, &mut storage.connection, commands, &mut self.queue)?;
            }
            match self.committer.read_ledger() {
                Ok(()) => return Some(()),
                Err(error) => self.wait_a_little(&error, commands)?,
            }
        }
    }

    fn wait_a_little(&mut self, error: &Error, commands: &mpsc::Receiver<Command>) -> Option<()> {
        let catalog = self.committer.storage.home.name().to_owned();
        tracing::warn!(catalog, %error, "the ledger of a catalog cannot be read");
        refuse_all(&mut self.queue, &Error::CatalogDown(catalog))?;
        match commands.recv_timeout(LOOK_AGAIN) {
            Ok(command) => self.queue.push(command),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return None,
        }
        Some(())
    }
}
