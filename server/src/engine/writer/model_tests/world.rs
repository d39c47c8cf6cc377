//! Loaders, the writer, and the database in which it stores.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use proptest::test_runner::TestCaseError;
use tokio::sync::oneshot;

use super::{
    LOADERS,
    model::{Fault, Model, SharedModel},
    second::Second,
    steps::{Step, Way},
    units::{bulk, unit},
};
use crate::engine::{
    Error, IngestKey, Result,
    ingest::Ack,
    ledger::{Keyed, SharedLedger},
    writer::{
        BulkCommit, Unit, command::Command, committer::Committer, doubt::Doubt, gather::gather,
        pipeline::Pipeline, queue::Queue, storage::Storage,
    },
};

/// A loader: it goes on to its next unit once the present one is acknowledged.
#[derive(Default)]
pub(super) struct Loader {
    pub(super) epoch: u64,
    pub(super) sequence: u64,
    /// What the present unit holds.
    pub(super) content: u64,
    pub(super) poisoned: bool,
    pub(super) skipping: bool,
}

/// A unit that was sent, and its answer.
pub(super) struct Sent {
    pub(super) number: usize,
    pub(super) key: Option<(u64, IngestKey)>,
    pub(super) hash: u128,
    pub(super) rows: usize,
    pub(super) answer: oneshot::Receiver<Result<Ack>>,
}

pub(super) struct World<Y> {
    pub(super) model: SharedModel,
    pub(super) pipeline: Pipeline<SharedModel, Y>,
    /// What is on its way to the writer,
    pub(super) coming: VecDeque<Command>,
    /// and what has come.
    pub(super) queue: Queue,
    pub(super) loaders: Vec<Loader>,
    pub(super) sent: Vec<Sent>,
    pub(super) numbers: usize,
    /// By loader and sequence: what was acknowledged.
    pub(super) acknowledged: HashMap<(u64, u64), (u128, u64)>,
    /// Units without a key: those acknowledged, and those of which it is not known.
    pub(super) unkeyed: HashSet<usize>,
    pub(super) in_doubt: HashSet<usize>,
    /// What may never be stored.
    pub(super) refused: HashSet<usize>,
    /// By number: whose units without a key are.
    pub(super) of: HashMap<usize, u64>,
}

impl<Y: Second> World<Y> {
    pub(super) fn new(faults: Vec<Fault>) -> Self {
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

    pub(super) fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
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

    pub(super) fn send(&mut self, index: u64, keyed: bool, way: Way) {
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
    pub(super) fn take(&mut self, units: usize) -> bool {
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

    pub(super) fn drain(&mut self) {
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
}

/// The writer as it starts, with what the database says of the ledger.
fn pipeline<Y: Second>(model: &SharedModel) -> Pipeline<SharedModel, Y> {
    let ledger: SharedLedger = Arc::new(Mutex::new(Arc::clone(model).load().unwrap()));
    let syncer = Y::of(&ledger);
    Pipeline::new(Committer::new(Arc::clone(model), ledger), syncer)
}
