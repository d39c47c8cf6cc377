//! Group commit and ledger against a model of a database that fails: whatever happens, what is acknowledged is
//! stored once.
//!
//! `MERGANSER_SEED=N cargo test -p merganser-server model` runs the sequence of operations of one seed again.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Instant,
};

use parking_lot::Mutex;
use proptest::{
    collection::vec,
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner},
};
use tokio::sync::oneshot;

use super::{
    BulkCommit, Unit,
    command::Held,
    committer::Committer,
    doubt::Doubt,
    storage::{Failure, Storage},
};
use crate::engine::{
    Error, IngestKey, Result,
    append::Target,
    catalog::FullName,
    error::Class,
    gates::Excluding,
    ingest::Ack,
    ledger::{Committed, Entry, Keyed, Ledger, SharedLedger},
};

const LOADERS: u64 = 4;
const SEEDS: u64 = 3_000;

/// What happens to one call of [`Storage::commit`].
#[derive(Debug, Clone, Copy)]
enum Fault {
    None,
    Conflict,
    OutOfMemory,
    DiskFull,
    /// Another server, to which the first keyed unit was sent as well, commits it first.
    Overtaken,
    /// COMMIT fails, and the rows are there all the same, or not.
    Unknown {
        durable: bool,
    },
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// A loader sends its present unit, keyed or not, once more.
    Send { loader: u64, keyed: bool },
    /// A loader begins a new epoch.
    TakeOver { loader: u64 },
    /// A loader's present unit is one that the table refuses.
    Poison { loader: u64 },
    /// A loader skips its present unit.
    Skip { loader: u64 },
    /// The writer commits what has waited for longest.
    Commit { units: usize },
    /// The process dies and starts again.
    Crash,
}

/// The database. A unit is told from others by its number of bytes.
#[derive(Default)]
struct Model {
    stored: Vec<usize>,
    entries: Vec<Entry>,
    poison: HashSet<usize>,
    faults: VecDeque<Fault>,
    /// Entries that the ledger in memory has as well.
    known: usize,
}

impl Model {
    fn ledger(&self) -> Ledger {
        let mut ledger = Ledger::default();
        self.entries.iter().cloned().for_each(|entry| ledger.record(entry));
        ledger
    }

    fn store(&mut self, units: &[Unit], entries: &[Entry]) {
        self.stored.extend(units.iter().map(|unit| unit.bytes));
        self.entries.extend_from_slice(entries);
    }

    /// What another server does, of which this one does not know.
    fn store_elsewhere(&mut self, units: &[Unit], entries: &[Entry]) {
        let Some(entry) = entries.first() else { return };
        let keyed = |unit: &&Unit| unit.keyed.as_ref().is_some_and(|keyed| keyed.key == entry.key);
        self.stored.extend(units.iter().find(keyed).map(|unit| unit.bytes));
        self.entries.push(entry.clone());
    }
}

impl Storage for Model {
    fn commit(&mut self, units: &[Unit], entries: &[Entry]) -> Result<(), Failure> {
        let duck = |class| Failure::whole(Error::Duck { class, message: String::new() });
        if let Some(culprit) = units.iter().position(|unit| self.poison.contains(&unit.bytes)) {
            // Some constraints are seen with their row, others only at the end.
            let unit = (culprit % 2 == 0).then_some(culprit);
            return Err(Failure { unit, ..duck(Class::Constraint) });
        }
        match self.faults.pop_front().unwrap_or(Fault::None) {
            Fault::Conflict => return Err(duck(Class::Conflict)),
            Fault::OutOfMemory if units.len() > 1 => return Err(duck(Class::OutOfMemory)),
            Fault::DiskFull => return Err(Failure::whole(Error::DiskFull)),
            Fault::Overtaken => {
                self.store_elsewhere(units, entries);
                return Err(Failure::whole(Error::Overtaken(String::new())));
            }
            Fault::Unknown { durable } => {
                if durable {
                    self.store(units, entries);
                }
                return Err(Failure::whole(Error::CommitUnknown(String::new())));
            }
            Fault::None | Fault::OutOfMemory => self.store(units, entries),
        }
        self.known = self.entries.len();
        Ok(())
    }

    fn commit_bulk(&mut self, _: &BulkCommit, _: &[Entry]) -> Result<(), Failure> {
        unreachable!("the model has small units only")
    }

    fn load(&mut self) -> Result<Ledger> {
        self.known = self.entries.len();
        Ok(self.ledger())
    }

    fn catch_up(&mut self, ledger: &SharedLedger) -> Result<u64> {
        let mut ledger = ledger.lock();
        self.entries.iter().skip(self.known).cloned().for_each(|entry| ledger.record(entry));
        self.known = self.entries.len();
        Ok(ledger.highest_commit())
    }

    fn look_up(&mut self, key: &IngestKey) -> Result<Option<Committed>> {
        let found = self.entries.iter().find(|entry| entry.key == *key);
        Ok(found.map(|entry| entry.committed))
    }
}

/// A loader: it goes on to its next unit once the present one is acknowledged.
#[derive(Default)]
struct Loader {
    epoch: u64,
    sequence: u64,
    /// What the present unit holds.
    content: u64,
    poisoned: bool,
    skipping: bool,
}

/// A unit that was sent, and its answer.
struct Sent {
    number: usize,
    key: Option<(u64, IngestKey)>,
    hash: u128,
    rows: usize,
    answer: oneshot::Receiver<Result<Ack>>,
}

struct World {
    committer: Committer<Model>,
    queue: VecDeque<Unit>,
    loaders: Vec<Loader>,
    sent: Vec<Sent>,
    numbers: usize,
    /// By loader and sequence: what was acknowledged.
    acknowledged: HashMap<(u64, u64), (u128, u64)>,
    /// Units without a key: those acknowledged, and those of which it is not known.
    unkeyed: HashSet<usize>,
    in_doubt: HashSet<usize>,
    /// What may never be stored.
    refused: HashSet<usize>,
}

impl World {
    fn new(faults: Vec<Fault>) -> Self {
        let model = Model { faults: faults.into(), ..Model::default() };
        Self {
            committer: Committer::new(model, Arc::default()),
            queue: VecDeque::new(),
            loaders: (0..LOADERS).map(|_| Loader { epoch: 1, sequence: 1, ..Loader::default() }).collect(),
            sent: Vec::new(),
            numbers: 0,
            acknowledged: HashMap::new(),
            unkeyed: HashSet::new(),
            in_doubt: HashSet::new(),
            refused: HashSet::new(),
        }
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Send { loader, keyed } => self.send(loader, keyed),
            Step::TakeOver { loader } => self.loaders[loader as usize].epoch += 1,
            Step::Poison { loader } => self.loaders[loader as usize].poisoned = true,
            Step::Skip { loader } => self.loaders[loader as usize].skipping = true,
            Step::Commit { units } => self.commit(units),
            Step::Crash => self.crash(),
        }
        self.read_answers()
    }

    fn send(&mut self, index: u64, keyed: bool) {
        self.numbers += 1;
        let number = self.numbers;
        let Loader { epoch, sequence, content, poisoned, skipping } = self.loaders[index as usize];
        let key = IngestKey { loader: format!("loader {index}").into(), epoch, sequence };
        let rows = if skipping { 0 } else { 10 };
        let hash = u128::from(sequence) << 32 | u128::from(content) << 1 | u128::from(skipping);
        if poisoned && !skipping {
            self.committer.storage.poison.insert(number);
        }
        let (answer, answered) = oneshot::channel();
        let keyed = keyed.then_some(Keyed { key, hash });
        self.sent.push(Sent {
            number,
            key: keyed.as_ref().map(|keyed| (index, keyed.key.clone())),
            hash,
            rows,
            answer: answered,
        });
        self.queue.push_back(unit(number, rows, index, keyed, answer));
    }

    fn commit(&mut self, units: usize) {
        let group: Vec<_> = self.queue.drain(..units.min(self.queue.len())).collect();
        if group.is_empty() {
            return;
        }
        if let Err(Doubt { error, in_doubt, untried }) = self.committer.commit(group) {
            let ledger = self.committer.storage.load().unwrap();
            in_doubt.into_iter().for_each(|unit| unit.settle(Some(&ledger), &error, &Error::EngineDown));
            *self.committer.ledger.lock() = ledger;
            untried.into_iter().rev().for_each(|unit| self.queue.push_front(unit));
        }
    }

    fn crash(&mut self) {
        self.queue.clear();
        let mut model = std::mem::take(&mut self.committer.storage);
        let ledger = Arc::new(Mutex::new(model.load().unwrap()));
        self.committer = Committer::new(model, ledger);
    }

    fn read_answers(&mut self) -> Result<(), TestCaseError> {
        for mut sent in std::mem::take(&mut self.sent) {
            match sent.answer.try_recv() {
                Ok(outcome) => self.answered(sent, outcome)?,
                Err(oneshot::error::TryRecvError::Empty) => self.sent.push(sent),
                // The process died; so it is with every unit that was not answered.
                Err(oneshot::error::TryRecvError::Closed) if sent.key.is_none() => {
                    self.in_doubt.insert(sent.number);
                }
                Err(oneshot::error::TryRecvError::Closed) => {}
            }
        }
        Ok(())
    }

    fn answered(&mut self, sent: Sent, outcome: Result<Ack>) -> Result<(), TestCaseError> {
        match (&sent.key, outcome) {
            (Some((index, key)), Ok(ack)) => {
                prop_assert_eq!(ack.rows, sent.rows as u64);
                let told = (sent.hash, ack.commit);
                let before = self.acknowledged.insert((*index, key.sequence), told);
                prop_assert!(before.is_none_or(|before| before == told), "two answers for {}", key);
                let loader = &mut self.loaders[*index as usize];
                if loader.sequence == key.sequence {
                    *loader = Loader {
                        epoch: loader.epoch,
                        sequence: key.sequence + 1,
                        content: loader.content + 1,
                        ..Loader::default()
                    };
                }
            }
            (None, Ok(_)) => drop(self.unkeyed.insert(sent.number)),
            (None, Err(Error::CommitUnknown(_))) => drop(self.in_doubt.insert(sent.number)),
            (_, Err(_)) => drop(self.refused.insert(sent.number)),
        }
        Ok(())
    }

    /// What must hold at any time.
    fn check(&self) -> Result<(), TestCaseError> {
        let Model { stored, entries, poison, .. } = &self.committer.storage;
        let distinct: HashSet<_> = stored.iter().collect();
        prop_assert_eq!(distinct.len(), stored.len(), "a unit is stored twice");
        prop_assert!(distinct.is_disjoint(&poison.iter().collect()), "what the table refuses is stored");
        prop_assert!(distinct.is_disjoint(&self.refused.iter().collect()), "a unit is refused and stored");
        for number in &self.unkeyed {
            prop_assert!(distinct.contains(number), "an acknowledged unit is missing");
        }
        let mut next: HashMap<Arc<str>, u64> = HashMap::new();
        let mut known = HashMap::new();
        for entry in entries {
            let expected = next.entry(Arc::clone(&entry.key.loader)).or_insert(1);
            prop_assert_eq!(entry.key.sequence, *expected, "a gap or a repeat in the ledger");
            *expected += 1;
            known.insert((entry.key.loader.to_string(), entry.key.sequence), entry.committed);
        }
        for ((index, sequence), (hash, commit)) in &self.acknowledged {
            let committed = known.get(&(format!("loader {index}"), *sequence));
            let told = committed.map(|committed| (committed.hash, committed.commit));
            prop_assert_eq!(told, Some((*hash, *commit)), "acknowledged, but not what is stored");
        }
        Ok(())
    }
}

fn unit(
    number: usize,
    rows: usize,
    loader: u64,
    keyed: Option<Keyed>,
    answer: oneshot::Sender<Result<Ack>>,
) -> Unit {
    let table = FullName { catalog: "c".into(), schema: "s".into(), table: "t".into() };
    Unit {
        target: Target { table, columns: Vec::new(), casts: false },
        batches: Vec::new(),
        rows,
        bytes: number,
        create: None,
        loader,
        keyed,
        received: Instant::now(),
        answer,
        span: tracing::Span::none(),
        held: Held {
            budget: None,
            slot: None,
            appending: None,
            alone: Excluding::default(),
            place: None,
            open: None,
            turn: None,
        },
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let loader = 0..LOADERS;
    let step = prop_oneof![
        8 => (loader.clone(), prop::bool::weighted(0.85)).prop_map(|(loader, keyed)| Step::Send { loader, keyed }),
        1 => loader.clone().prop_map(|loader| Step::TakeOver { loader }),
        1 => loader.clone().prop_map(|loader| Step::Poison { loader }),
        1 => loader.prop_map(|loader| Step::Skip { loader }),
        5 => (1..12_usize).prop_map(|units| Step::Commit { units }),
        1 => Just(Step::Crash),
    ];
    vec(step, 1..80)
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let fault = prop_oneof![
        6 => Just(Fault::None),
        2 => Just(Fault::Conflict),
        1 => Just(Fault::OutOfMemory),
        1 => Just(Fault::DiskFull),
        2 => Just(Fault::Overtaken),
        2 => prop::bool::ANY.prop_map(|durable| Fault::Unknown { durable }),
    ];
    vec(fault, 0..40)
}

fn run(steps: Vec<Step>, faults: Vec<Fault>) -> Result<(), TestCaseError> {
    let mut world = World::new(faults);
    for step in steps {
        world.step(step)?;
        world.check()?;
    }
    // What waits is answered in the end.
    while !world.queue.is_empty() {
        world.step(Step::Commit { units: 256 })?;
    }
    world.check()?;
    prop_assert!(world.sent.is_empty(), "a unit was never answered");
    Ok(())
}

#[test]
fn what_is_acknowledged_is_stored_once_whatever_fails() {
    let wanted = std::env::var("MERGANSER_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let base: u64 = getrandom::u64().unwrap() >> 16;
    let seeds = wanted.map_or(base..base + SEEDS, |seed| seed..seed + 1);
    for seed in seeds {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let made = (steps(), faults()).new_tree(&mut runner).unwrap();
        let (steps, faults) = made.current();
        if let Err(error) = run(steps.clone(), faults.clone()) {
            panic!("MERGANSER_SEED={seed}: {error}\nfaults: {faults:?}\nsteps: {steps:#?}");
        }
    }
}
