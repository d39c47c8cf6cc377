//! Group commit and ledger against a model of a database that fails: whatever happens, what is acknowledged is
//! stored once.
//!
//! `MERGANSER_SEED=N cargo test -p merganser-server model` runs the sequence of operations of one seed again.

mod apart;
mod checks;
mod conflicts;
mod model;
mod second;
mod steps;
mod units;
mod world;

use std::{
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner},
};

use super::syncer::SyncThread;
use crate::engine::panics::text_of;
use model::{Fault, OpenTransaction};
use second::{Second, SlowSyncer};
use steps::{Step, Way, faults, steps};
pub(super) use units::unit;
use world::World;

const LOADERS: u64 = 4;
const SEEDS: u64 = 5_000;
/// With a thread of its own each.
const THREADED_SEEDS: u64 = 5_000;
/// Whoever waits for so long waits for ever.
const LONG: Duration = Duration::from_secs(120);

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
