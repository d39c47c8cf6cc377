//! Group commit and ledger against a model of a database that fails: whatever happens, what is acknowledged is
//! stored once.
//!
//! `MERGANSER_SEED=N cargo test -p merganser-server model` runs the sequence of operations of one seed again.

mod apart;
mod conflicts;
mod model;
mod second;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, LazyLock,
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
    BulkCommit, Enter, Part, Unit,
    command::{Command, Held},
    committer::Committer,
    doubt::Doubt,
    gather::gather,
    pipeline::Pipeline,
    queue::Queue,
    storage::Storage,
    syncer::SyncThread,
};
use crate::engine::{
    Class, Error, IngestKey, Options, Result,
    catalog::FullName,
    database::Database,
    ingest::Ack,
    insert::Target,
    ledger::{Keyed, SharedLedger},
    panics::text_of,
};
use model::{Fault, Model, OpenTransaction, SharedModel};
use second::{Second, SlowSyncer};

const LOADERS: u64 = 4;
const SEEDS: u64 = 5_000;
/// With a thread of its own each.
const THREADED_SEEDS: u64 = 5_000;
/// Whoever waits for so long waits for ever.
const LONG: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Copy)]
enum Step {
    /// A loader sends its present unit, keyed or not, once more.
    Send { loader: u64, keyed: bool, way: Way },
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

/// How a unit comes.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// In a group.
    Small,
    /// In a group, of which it makes the table.
    Creating,
    /// Appended in a transaction of its own.
    Appended,
    /// Staged, to be brought in by a transaction of the writer.
    Staged,
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
    coming: VecDeque<Command>,
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
        let model = Model::failing_with(faults);
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
            Step::Send { loader, keyed, way } => self.send(loader, keyed, way),
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

    fn send(&mut self, index: u64, keyed: bool, way: Way) {
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
        let keyed = keyed.then_some(Keyed { key, hash, hash_before: hash });
        self.sent.push(Sent {
            number,
            key: keyed.as_ref().map(|keyed| (index, keyed.key.clone())),
            hash,
            rows,
            answer: answered,
        });
        let unit = unit(number, rows, index, keyed, answer);
        self.coming.push_back(match way {
            Way::Small => Command::Unit(Box::new(unit)),
            Way::Creating => Command::Unit(Box::new(Unit { create: Some(String::new()), ..unit })),
            Way::Appended => Command::Bulk(Box::new(bulk(unit, false))),
            Way::Staged => Command::Bulk(Box::new(bulk(unit, true))),
        });
    }

    /// False where there was nothing to take.
    fn take(&mut self, units: usize) -> bool {
        let coming = self.coming.drain(..units.min(self.coming.len()));
        coming.for_each(|command| self.queue.push(command));
        let committer = &self.pipeline.committer;
        let served = match self.queue.next(|unit| committer.stands_apart(unit)) {
            Some(Command::Unit(first)) => {
                let mut group = vec![*first];
                gather(&mut group, committer, &mut self.queue);
                // Not every group meets another one; numbers stand in for chance.
                let queued = self.numbers.is_multiple_of(2);
                self.pipeline.take(group, queued)
            }
            Some(Command::Bulk(bulk)) => self.take_bulk(bulk),
            Some(_) => unreachable!("nothing else is sent"),
            None => return false,
        };
        self.recover(served);
        true
    }

    /// As the actor does it: it comes between two groups.
    fn take_bulk(&mut self, bulk: Box<BulkCommit>) -> Result<(), Doubt> {
        if let Err(doubt) = self.pipeline.drain() {
            self.queue.put_back(Command::Bulk(bulk));
            return Err(doubt);
        }
        self.pipeline.committer.commit_bulk(*bulk)
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
        // In this database one unit alone always has memory enough: a group that has not is halved until it has.
        let lacks_memory = outcome.as_ref().err().and_then(Error::class) == Some(Class::OutOfMemory);
        prop_assert!(!lacks_memory, "unit {} is refused for want of memory", sent.number);
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

/// The same as an upload of its own.
fn bulk(unit: Unit, staged: bool) -> BulkCommit {
    /// Its connections are what a bulk upload comes with; nothing is done on them.
    static DATABASE: LazyLock<Arc<Database>> =
        LazyLock::new(|| Arc::new(Database::open(&Options::default()).expect("a database in memory")));
    let Unit { target, rows, bytes, loader, keyed, received, answer, span, held, .. } = unit;
    BulkCommit {
        connection: DATABASE.connection().expect("a connection"),
        enter: staged.then(|| Enter { run: Box::new(|_| Ok(())), merges: false }),
        creates: false,
        table: target.table.table,
        parts: vec![Part { rows, bytes, loader: Some(loader), keyed, received, answer }],
        span,
        held,
    }
}

fn way() -> impl Strategy<Value = Way> {
    prop_oneof![
        8 => Just(Way::Small),
        1 => Just(Way::Creating),
        1 => Just(Way::Appended),
        1 => Just(Way::Staged),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let loader = 0..LOADERS;
    let step = prop_oneof![
        8 => (loader.clone(), prop::bool::weighted(0.85), way())
            .prop_map(|(loader, keyed, way)| Step::Send { loader, keyed, way }),
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
        judge(seed, &steps, &faults, || run::<Y>(steps.clone(), faults.clone()));
    }
}

/// Tells the seed of a case that fails, by an assertion or by a panic anywhere in the code.
fn judge(seed: u64, steps: &[Step], faults: &[Fault], case: impl FnOnce() -> Result<(), TestCaseError>) {
    let outcome = panic::catch_unwind(AssertUnwindSafe(case));
    let what = match outcome {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(panic) => format!("the code has panicked: {}", text_of(panic.as_ref())),
    };
    panic!("MERGANSER_SEED={seed}: {what}\nfaults: {faults:?}\nsteps: {steps:#?}");
}

#[test]
fn a_case_that_fails_or_panics_tells_its_seed() {
    let told = |case: fn() -> Result<(), TestCaseError>| {
        let judged = panic::catch_unwind(|| judge(17, &[Step::Land], &[Fault::Conflict], case));
        judged.err().map(|panic| text_of(panic.as_ref()).to_owned())
    };
    let sequence = "\nfaults: [Conflict]\nsteps: [\n    Land,\n]";
    let failed = told(|| Err(TestCaseError::fail("lost")));
    assert_eq!(failed, Some(format!("MERGANSER_SEED=17: Case failed: lost{sequence}")));
    let panicked = told(|| panic!("index out of bounds"));
    let expected = format!("MERGANSER_SEED=17: the code has panicked: index out of bounds{sequence}");
    assert_eq!(panicked, Some(expected));
    assert_eq!(told(|| Ok(())), None);
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
