//! Group commit and ledger against a model of a database that fails: whatever happens, what is acknowledged is
//! stored once.
//!
//! `MERGANSER_SEED=N cargo test -p merganser-server model` runs the sequence of operations of one seed again.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
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
    command::{Command, Held},
    committer::Committer,
    doubt::Doubt,
    gather::gather,
    group::{OpenGroup, Size},
    pipeline::Pipeline,
    queue::Queue,
    storage::{Failure, Overlapping, Storage, Transaction},
    syncer::{Failed, SyncThread, Syncer},
};
use crate::engine::{
    Error, IngestKey, Result,
    catalog::FullName,
    error::Class,
    ingest::Ack,
    insert::Target,
    ledger::{Committed, Entry, Keyed, Ledger, SharedLedger},
};

const LOADERS: u64 = 4;
const SEEDS: u64 = 5_000;
/// With a thread of its own each.
const THREADED_SEEDS: u64 = 5_000;
/// Whoever waits for so long waits for ever.
const LONG: Duration = Duration::from_secs(120);

/// What happens to one transaction, as it commits or, with some of them, as it is appended to.
#[derive(Debug, Clone, Copy)]
enum Fault {
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

#[derive(Debug, Clone, Copy)]
enum Step {
    /// A loader sends its present unit, keyed or not, once more. It may make its table.
    Send { loader: u64, keyed: bool, creates: bool },
    /// A loader begins a new epoch.
    TakeOver { loader: u64 },
    /// A loader's present unit is one that the table refuses.
    Poison { loader: u64 },
    /// A loader skips its present unit.
    Skip { loader: u64 },
    /// So many units come to the writer, which takes a group.
    Take { units: usize },
    /// No loader is apart any more.
    EndApart,
    /// The second thread is done with a COMMIT, and begins the next.
    Land,
    /// The writer waits until nothing is under way.
    Drain,
    /// The process dies and starts again; of a COMMIT that runs then nobody is told.
    Crash { durable: bool },
}

/// The database. A unit is told from others by its number of bytes.
#[derive(Default)]
struct Model {
    stored: Vec<usize>,
    entries: Vec<Entry>,
    poison: HashSet<usize>,
    faults: VecDeque<Fault>,
    /// Transactions that are neither committed nor rolled back.
    open: usize,
    /// Entries that this server's ledger has, or will have once it is told.
    known: usize,
}

impl Model {
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
    fn store_elsewhere(&mut self, units: &[Unit], entries: &[Entry]) {
        let Some(entry) = entries.first() else { return };
        let keyed = |unit: &&Unit| unit.keyed.as_ref().is_some_and(|keyed| keyed.key == entry.key);
        self.stored.extend(units.iter().find(keyed).map(|unit| unit.bytes));
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

type SharedModel = Arc<Mutex<Model>>;

impl Storage for SharedModel {
    fn commit(&mut self, units: &[Unit], entries: &[Entry]) -> Result<(), Failure> {
        let mut model = self.lock();
        assert_eq!(model.open, 0, "committed in turn beside an open transaction");
        model.check(&numbers(units), false)?;
        if matches!(model.faults.front(), Some(Fault::Overtaken)) {
            // What the table refuses, another server cannot have committed.
            model.check(&numbers(units), true)?;
            model.faults.pop_front();
            model.store_elsewhere(units, entries);
            return Err(Failure::whole(Error::Overtaken(String::new())));
        }
        model.commit(&numbers(units), entries)
    }

    fn commit_bulk(&mut self, _: &BulkCommit, _: &[Entry]) -> Result<(), Failure> {
        unreachable!("the model has small units only")
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

struct OpenTransaction {
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

/// The second thread, whose COMMIT lasts until the test says so, or the writer waits for it.
struct SlowSyncer {
    ledger: SharedLedger,
    committing: Option<OpenGroup<OpenTransaction>>,
    waiting: Option<OpenGroup<OpenTransaction>>,
    failed: Option<Failed<OpenTransaction>>,
}

/// The second thread as a test has it.
trait Second: Syncer<OpenTransaction> {
    fn of(ledger: &SharedLedger) -> Self;

    /// Ends the COMMIT that runs, unless it ends by itself.
    fn land(&mut self);

    /// The process dies; a COMMIT that runs may still be done.
    fn die(self, durable: bool);
}

impl Second for SyncThread<OpenTransaction> {
    fn of(ledger: &SharedLedger) -> Self {
        // After a failure it lets the writer go first, so that it comes to look for more at any moment after that.
        let linger = || (0..fastrand::u32(..20)).for_each(|_| thread::yield_now());
        Self::start(Arc::clone(ledger), linger).unwrap()
    }

    fn land(&mut self) {
        thread::yield_now();
    }

    fn die(self, _: bool) {}
}

impl Second for SlowSyncer {
    fn of(ledger: &SharedLedger) -> Self {
        Self { ledger: Arc::clone(ledger), committing: None, waiting: None, failed: None }
    }

    fn die(mut self, durable: bool) {
        if durable && let Some(open) = self.committing.take() {
            let _ = open.transaction.commit();
        }
    }

    fn land(&mut self) {
        let Some(OpenGroup { transaction, group }) = self.committing.take() else { return };
        match transaction.commit() {
            Ok(()) => {
                group.acknowledge(&self.ledger);
                self.committing = self.waiting.take();
            }
            Err(failure) => self.failed = Some(Failed { group, failure, behind: None }),
        }
    }
}

impl Syncer<OpenTransaction> for SlowSyncer {
    fn offer(&mut self, open: OpenGroup<OpenTransaction>) {
        assert!(self.waiting.is_none(), "two groups wait");
        if self.committing.is_none() && self.failed.is_none() {
            self.committing = Some(open);
        } else {
            self.waiting = Some(open);
        }
    }

    fn withdraw(&mut self) -> Option<OpenGroup<OpenTransaction>> {
        while self.failed.is_none()
            && self.waiting.as_ref().is_some_and(|open| Size::of(&open.group.units).is_complete())
        {
            self.land();
        }
        self.waiting.take()
    }

    fn settle(&mut self) -> Option<Failed<OpenTransaction>> {
        while self.committing.is_some() {
            self.land();
        }
        let failed = self.failed.take()?;
        Some(Failed { behind: self.waiting.take(), ..failed })
    }

    fn is_idle(&self) -> bool {
        self.committing.is_none() && self.failed.is_none()
    }

    fn has_failed(&self) -> bool {
        self.failed.is_some()
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

struct World<Y> {
    model: SharedModel,
    pipeline: Pipeline<SharedModel, Y>,
    /// What is on its way to the writer,
    coming: VecDeque<Unit>,
    /// and what has come.
    queue: Queue,
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
    /// By number: whose units without a key are.
    of: HashMap<usize, u64>,
}

impl<Y: Second> World<Y> {
    fn new(faults: Vec<Fault>) -> Self {
        let model = Arc::new(Mutex::new(Model { faults: faults.into(), ..Model::default() }));
        Self {
            pipeline: pipeline(&model),
            model,
            coming: VecDeque::new(),
            queue: Queue::default(),
            loaders: (0..LOADERS).map(|_| Loader { epoch: 1, sequence: 1, ..Loader::default() }).collect(),
            sent: Vec::new(),
            numbers: 0,
            acknowledged: HashMap::new(),
            unkeyed: HashSet::new(),
            in_doubt: HashSet::new(),
            refused: HashSet::new(),
            of: HashMap::new(),
        }
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Send { loader, keyed, creates } => self.send(loader, keyed, creates),
            Step::TakeOver { loader } => self.loaders[loader as usize].epoch += 1,
            Step::Poison { loader } => self.loaders[loader as usize].poisoned = true,
            Step::Skip { loader } => self.loaders[loader as usize].skipping = true,
            Step::Take { units } => drop(self.take(units)),
            Step::EndApart => self.pipeline.committer.apart.end(),
            Step::Land => self.land(),
            Step::Drain => self.drain(),
            Step::Crash { durable } => self.crash(durable),
        }
        self.read_answers()
    }

    fn send(&mut self, index: u64, keyed: bool, creates: bool) {
        self.numbers += 1;
        let number = self.numbers;
        let Loader { epoch, sequence, content, poisoned, skipping } = self.loaders[index as usize];
        let key = IngestKey { loader: format!("loader {index}").into(), epoch, sequence };
        let rows = match () {
            () if skipping => 0,
            // As many as make a group complete, which nothing is added to.
            () if (sequence + index).is_multiple_of(3) => 70_000,
            () => 10,
        };
        let hash = u128::from(sequence) << 32 | u128::from(content) << 1 | u128::from(skipping);
        if poisoned && !skipping {
            self.model.lock().poison.insert(number);
        }
        if !keyed {
            self.of.insert(number, index);
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
        let create = creates.then(String::new);
        self.coming.push_back(Unit { create, ..unit(number, rows, index, keyed, answer) });
    }

    /// False where there was nothing to take.
    fn take(&mut self, units: usize) -> bool {
        let coming = self.coming.drain(..units.min(self.coming.len()));
        coming.for_each(|unit| self.queue.push(Command::Unit(Box::new(unit))));
        let committer = &self.pipeline.committer;
        let first = match self.queue.next(|loader| committer.is_apart(loader)) {
            Some(Command::Unit(first)) => first,
            Some(_) => unreachable!("the model has small units only"),
            None => return false,
        };
        let mut group = vec![*first];
        gather(&mut group, committer, &mut self.queue);
        // Not every group meets another one; numbers stand in for chance.
        let queued = self.numbers.is_multiple_of(2);
        let taken = self.pipeline.take(group, queued);
        self.recover(taken);
        true
    }

    fn land(&mut self) {
        self.pipeline.syncer.land();
        // The thread tells the writer of a failure, which looks at once or after other commands.
        if self.pipeline.syncer.has_failed() && self.numbers.is_multiple_of(3) {
            self.drain();
        }
    }

    fn drain(&mut self) {
        let drained = self.pipeline.drain();
        self.recover(drained);
        assert_eq!(self.model.lock().open, 0, "a transaction is still open");
    }

    fn recover(&mut self, served: Result<(), Doubt>) {
        if let Err(Doubt { error, in_doubt, untried, .. }) = served {
            assert_eq!(self.model.lock().open, 0, "a transaction outlives the instance");
            let ledger = self.model.load().unwrap();
            in_doubt.into_iter().for_each(|unit| unit.settle(Some(&ledger), &error, &Error::EngineDown));
            let committer = &mut self.pipeline.committer;
            committer.commits = committer.commits.max(ledger.highest_commit());
            *committer.ledger.lock() = ledger;
            self.queue.put_back_all(untried);
        }
    }

    fn crash(&mut self, durable: bool) {
        self.coming.clear();
        self.queue = Queue::default();
        // Nobody else has the database open when it starts again.
        let before = std::mem::replace(&mut self.pipeline, pipeline(&self.model));
        before.syncer.die(durable);
        self.pipeline = pipeline(&self.model);
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
        let model = self.model.lock();
        let Model { stored, entries, poison, .. } = &*model;
        let distinct: HashSet<_> = stored.iter().collect();
        prop_assert_eq!(distinct.len(), stored.len(), "a unit is stored twice");
        prop_assert!(distinct.is_disjoint(&poison.iter().collect()), "what the table refuses is stored");
        prop_assert!(distinct.is_disjoint(&self.refused.iter().collect()), "a unit is refused and stored");
        for number in &self.unkeyed {
            prop_assert!(distinct.contains(number), "an acknowledged unit is missing");
        }
        let mut last = HashMap::new();
        for (number, loader) in stored.iter().filter_map(|number| Some((number, self.of.get(number)?))) {
            prop_assert!(
                last.insert(loader, number) < Some(number),
                "a unit has overtaken one of its loader"
            );
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

/// The writer as it starts, with what the database says of the ledger.
fn pipeline<Y: Second>(model: &SharedModel) -> Pipeline<SharedModel, Y> {
    let ledger: SharedLedger = Arc::new(Mutex::new(Arc::clone(model).load().unwrap()));
    let syncer = Y::of(&ledger);
    Pipeline::new(Committer::new(Arc::clone(model), ledger), syncer)
}

pub(super) fn unit(
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
        held: Held::nothing(),
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let loader = 0..LOADERS;
    let step = prop_oneof![
        8 => (loader.clone(), prop::bool::weighted(0.85), prop::bool::weighted(0.1))
            .prop_map(|(loader, keyed, creates)| Step::Send { loader, keyed, creates }),
        1 => loader.clone().prop_map(|loader| Step::TakeOver { loader }),
        1 => loader.clone().prop_map(|loader| Step::Poison { loader }),
        1 => loader.prop_map(|loader| Step::Skip { loader }),
        5 => (1..12_usize).prop_map(|units| Step::Take { units }),
        3 => Just(Step::Land),
        1 => Just(Step::Drain),
        1 => Just(Step::EndApart),
        1 => prop::bool::ANY.prop_map(|durable| Step::Crash { durable }),
    ];
    vec(step, 1..100)
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
    vec(fault, 0..50)
}

fn run<Y: Second>(steps: Vec<Step>, faults: Vec<Fault>) -> Result<(), TestCaseError> {
    let mut world = World::<Y>::new(faults);
    for step in steps {
        world.step(step)?;
        world.check()?;
    }
    // What waits is answered in the end.
    world.step(Step::Drain)?;
    while world.take(256) {
        world.step(Step::Drain)?;
    }
    world.check()?;
    prop_assert!(world.sent.is_empty(), "a unit was never answered");
    Ok(())
}

/// Runs many sequences of operations, or that of the seed that is wanted.
fn run_seeds<Y: Second>(count: u64, current: &AtomicU64) {
    let wanted = std::env::var("MERGANSER_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let base: u64 = getrandom::u64().unwrap() >> 16;
    let seeds = wanted.map_or(base..base + count, |seed| seed..seed + 1);
    for seed in seeds {
        current.store(seed, Ordering::Relaxed);
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let made = (steps(), faults()).new_tree(&mut runner).unwrap();
        let (steps, faults) = made.current();
        if let Err(error) = run::<Y>(steps.clone(), faults.clone()) {
            panic!("MERGANSER_SEED={seed}: {error}\nfaults: {faults:?}\nsteps: {steps:#?}");
        }
    }
}

#[test]
fn what_is_acknowledged_is_stored_once_whatever_fails() {
    run_seeds::<SlowSyncer>(SEEDS, &AtomicU64::default());
}

/// The same with the thread itself, which does things when it likes; no seed brings back its part in them.
#[test]
fn so_it_is_with_the_second_thread_and_nobody_waits_for_ever() {
    let current = Arc::<AtomicU64>::default();
    let (ended, end) = mpsc::channel::<()>();
    let now = Arc::clone(&current);
    let running = thread::spawn(move || {
        let _ended = ended;
        run_seeds::<SyncThread<OpenTransaction>>(THREADED_SEEDS, &now);
    });
    if end.recv_timeout(LONG) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("MERGANSER_SEED={}: the writer waits for ever", current.load(Ordering::Relaxed));
    }
    running.join().unwrap();
}

type Slow = World<SlowSyncer>;

/// Nothing fails, and no unit makes a group complete.
fn quiet() -> Slow {
    let mut world = Slow::new(Vec::new());
    world.loaders.iter_mut().zip([1, 1, 2, 1]).for_each(|(loader, sequence)| loader.sequence = sequence);
    world
}

/// A loader sends a unit without a key; gives its number.
fn send(world: &mut Slow, loader: u64) -> usize {
    world.send(loader, false, false);
    world.numbers
}

/// A loader that has sent a bad row, and then many units that wait for the writer, as do those of others behind them.
fn behind_a_loader_that_is_apart(units: usize) -> (Slow, Vec<usize>, Vec<usize>) {
    let mut world = quiet();
    world.loaders[0].poisoned = true;
    send(&mut world, 0);
    assert!(world.take(1));
    world.loaders[0].poisoned = false;
    assert!(world.pipeline.committer.is_apart(0));
    let its = (0..units).map(|_| send(&mut world, 0)).collect();
    let others = (0..units).map(|number| send(&mut world, 1 + number as u64 % (LOADERS - 1))).collect();
    world.coming.drain(..).for_each(|unit| world.queue.push(Command::Unit(Box::new(unit))));
    (world, its, others)
}

#[test]
fn others_wait_for_one_unit_of_a_loader_that_is_apart_and_not_for_all() {
    let (mut world, its, others) = behind_a_loader_that_is_apart(100);
    let stored = |world: &Slow| world.model.lock().stored.clone();
    // One group of the others and one of its units, whichever is the first.
    assert!(world.take(0) && world.take(0));
    let now = stored(&world);
    assert!(others.iter().all(|unit| now.contains(unit)), "others wait for more than one unit: {now:?}");
    assert_eq!(now.len(), others.len() + 1);
    // Whatever comes goes with one unit of it.
    for round in 2..10 {
        let more: Vec<_> = (1..LOADERS).map(|loader| send(&mut world, loader)).collect();
        assert!(world.take(100) && world.take(0));
        let now = stored(&world);
        assert!(more.iter().all(|unit| now.contains(unit)));
        assert_eq!(its.iter().filter(|unit| now.contains(unit)).count(), round);
    }
    while world.take(0) {}
    let now = stored(&world);
    assert_eq!(
        now.iter().filter(|unit| its.contains(unit)).copied().collect::<Vec<_>>(),
        its,
        "out of order"
    );
}

#[test]
fn a_loader_that_is_no_longer_apart_commits_with_the_others_again_and_overtakes_none_of_its_own() {
    let (mut world, its, others) = behind_a_loader_that_is_apart(100);
    assert!(world.take(0));
    world.pipeline.committer.apart.end();
    let later = send(&mut world, 0);
    let groups = std::iter::from_fn(|| world.take(1).then_some(())).count();
    assert!(groups <= 3, "{groups} groups for {} units", its.len() + others.len());
    world.drain();
    let stored = world.model.lock().stored.clone();
    let its: Vec<_> = its.into_iter().chain([later]).collect();
    assert_eq!(stored.iter().filter(|unit| its.contains(unit)).copied().collect::<Vec<_>>(), its);
}

#[test]
fn what_makes_a_table_keeps_its_place_unless_units_of_its_loader_wait_aside() {
    let (mut world, its, others) = behind_a_loader_that_is_apart(3);
    world.send(0, true, true);
    world.send(1, false, true);
    let last = [world.numbers - 1, world.numbers];
    while world.take(2) {}
    world.drain();
    let stored = world.model.lock().stored.clone();
    let place = |unit: &usize| stored.iter().position(|stored| stored == unit).unwrap();
    assert!(its.iter().all(|unit| place(unit) < place(&last[0])), "{stored:?}");
    assert!(others.iter().all(|unit| place(unit) < place(&last[1])), "{stored:?}");
    assert!(place(&last[1]) < place(&its[2]), "it waits for another loader's: {stored:?}");
}

#[test]
fn loaders_that_are_apart_take_turns() {
    let mut world = quiet();
    for loader in 0..2 {
        world.loaders[loader].poisoned = true;
        send(&mut world, loader as u64);
        assert!(world.take(1));
        world.loaders[loader].poisoned = false;
    }
    let first: Vec<_> = (0..10).map(|_| send(&mut world, 0)).collect();
    let second = send(&mut world, 1);
    assert!(world.take(100) && world.take(0));
    assert_eq!(world.model.lock().stored, [first[0], second]);
}
