//! A database that fails.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;

use crate::engine::{
    Error, IngestKey, Result,
    error::Class,
    ledger::{Committed, Entry, Keyed, Ledger, SharedLedger},
    writer::{
        BulkCommit, Unit,
        storage::{Failure, Overlapping, Storage, Transaction},
    },
};

/// What happens to one transaction, as it commits or, with some of them, as it is appended to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    None,
    Conflict,
    OutOfMemory,
    DiskFull,
    /// Another server, to which the first keyed unit was sent as well, commits it first. It can only be so where groups
    /// are committed in turn.
    Overtaken,
    /// COMMIT fails, and the rows are there all the same, or not.
    Unknown {
        durable: bool,
    },
}

/// The database. A unit is told from others by its number of bytes.
#[derive(Default)]
pub(super) struct Model {
    pub(super) stored: Vec<usize>,
    pub(super) entries: Vec<Entry>,
    pub(super) poison: HashSet<usize>,
    faults: VecDeque<Fault>,
    /// Transactions that are neither committed nor rolled back.
    pub(super) open: usize,
    /// Entries that this server's ledger has, or will have once it is told.
    known: usize,
}

impl Model {
    /// An empty one in which these happen to transactions, one after the other.
    pub(super) fn failing_with(faults: Vec<Fault>) -> SharedModel {
        Arc::new(Mutex::new(Self { faults: faults.into(), ..Self::default() }))
    }

    /// How many of the faults have not happened.
    pub(super) fn faults_left(&self) -> usize {
        self.faults.len()
    }

    fn ledger(&self) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.record_all(self.entries.clone());
        ledger
    }

    fn store(&mut self, units: &[usize], entries: &[Entry]) {
        self.stored.extend(units);
        self.entries.extend_from_slice(entries);
        self.known = self.entries.len();
    }

    /// What another server does, of which this one does not know.
    fn store_elsewhere(&mut self, units: &[(usize, Option<&Keyed>)], entries: &[Entry]) {
        let Some(entry) = entries.first() else { return };
        let first = units.iter().find(|(_, keyed)| keyed.is_some_and(|keyed| keyed.key == entry.key));
        self.stored.extend(first.map(|(unit, _)| unit));
        self.entries.push(entry.clone());
    }

    /// Refuses what the table refuses. Some constraints are seen with their row, others only at the end.
    fn check(&self, units: &[usize], at_the_end: bool) -> Result<(), Failure> {
        match units.iter().position(|unit| self.poison.contains(unit)) {
            Some(culprit) if at_the_end || culprit % 2 == 0 => {
                let unit = (!at_the_end).then_some(culprit);
                Err(Failure { unit, ..duck(Class::Constraint) })
            }
            _ => Ok(()),
        }
    }

    fn commit(&mut self, units: &[usize], entries: &[Entry]) -> Result<(), Failure> {
        self.check(units, true)?;
        match self.faults.pop_front().unwrap_or(Fault::None) {
            Fault::Conflict => return Err(duck(Class::Conflict)),
            Fault::OutOfMemory if units.len() > 1 => return Err(duck(Class::OutOfMemory)),
            Fault::DiskFull => return Err(Failure::whole(Error::DiskFull)),
            Fault::Unknown { durable } => {
                if durable {
                    self.store(units, entries);
                }
                return Err(Failure::whole(Error::CommitUnknown(String::new())));
            }
            Fault::None | Fault::OutOfMemory | Fault::Overtaken => self.store(units, entries),
        }
        Ok(())
    }

    /// An append fails as a COMMIT does, but never without it being known.
    fn append(&mut self, units: &[usize]) -> Result<(), Failure> {
        self.check(units, false)?;
        match self.faults.front() {
            Some(Fault::Conflict) => {
                self.faults.pop_front();
                Err(duck(Class::Conflict))
            }
            Some(Fault::DiskFull) => {
                self.faults.pop_front();
                Err(Failure::whole(Error::DiskFull))
            }
            _ => Ok(()),
        }
    }
}

fn duck(class: Class) -> Failure {
    Failure::whole(Error::Duck { class, message: String::new() })
}

fn numbers(units: &[Unit]) -> Vec<usize> {
    units.iter().map(|unit| unit.bytes).collect()
}

/// Commits units while no other transaction is open.
fn commit_in_turn(
    model: &mut Model,
    units: &[(usize, Option<&Keyed>)],
    entries: &[Entry],
) -> Result<(), Failure> {
    assert_eq!(model.open, 0, "committed in turn beside an open transaction");
    let numbers: Vec<_> = units.iter().map(|(unit, _)| *unit).collect();
    model.check(&numbers, false)?;
    if matches!(model.faults.front(), Some(Fault::Overtaken)) {
        // What the table refuses, another server cannot have committed.
        model.check(&numbers, true)?;
        model.faults.pop_front();
        model.store_elsewhere(units, entries);
        return Err(Failure::whole(Error::Overtaken(String::new())));
    }
    model.commit(&numbers, entries)
}

pub(super) type SharedModel = Arc<Mutex<Model>>;

impl Storage for SharedModel {
    fn commit(&mut self, units: &[Unit], entries: &[Entry]) -> Result<(), Failure> {
        let units: Vec<_> = units.iter().map(|unit| (unit.bytes, unit.keyed.as_ref())).collect();
        commit_in_turn(&mut self.lock(), &units, entries)
    }

    fn commit_bulk(&mut self, bulk: &BulkCommit, entries: &[Entry]) -> Result<(), Failure> {
        let parts: Vec<_> = bulk.parts.iter().map(|part| (part.bytes, part.keyed.as_ref())).collect();
        commit_in_turn(&mut self.lock(), &parts, entries)
    }

    fn look_up(&mut self, key: &IngestKey) -> Result<Option<Committed>> {
        let model = self.lock();
        let found = model.entries.iter().find(|entry| entry.key == *key);
        Ok(found.map(|entry| entry.committed))
    }

    fn load(&mut self) -> Result<Ledger> {
        let mut model = self.lock();
        model.known = model.entries.len();
        Ok(model.ledger())
    }

    fn catch_up(&mut self, ledger: &SharedLedger) -> Result<u64> {
        let mut model = self.lock();
        let mut ledger = ledger.lock();
        ledger.record_all(model.entries[model.known..].to_vec());
        model.known = model.entries.len();
        Ok(ledger.highest_commit())
    }
}

impl Overlapping for SharedModel {
    type Transaction = OpenTransaction;

    fn begin(&mut self) -> Option<OpenTransaction> {
        let mut model = self.lock();
        assert!(model.open < 2, "more than two transactions");
        model.open += 1;
        Some(OpenTransaction { model: Arc::clone(self), units: Vec::new(), entries: Vec::new() })
    }

    fn append(
        &mut self,
        transaction: &mut OpenTransaction,
        units: &[Unit],
        entries: &[Entry],
    ) -> Result<(), Failure> {
        self.lock().append(&numbers(units))?;
        transaction.units.extend(numbers(units));
        transaction.entries.extend_from_slice(entries);
        Ok(())
    }
}

pub(super) struct OpenTransaction {
    model: SharedModel,
    units: Vec<usize>,
    entries: Vec<Entry>,
}

impl Transaction for OpenTransaction {
    fn commit(self) -> Result<(), Failure> {
        self.model.lock().commit(&self.units, &self.entries)
    }
}

impl Drop for OpenTransaction {
    fn drop(&mut self) {
        self.model.lock().open -= 1;
    }
}
