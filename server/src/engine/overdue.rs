//! Statements that go on although they were stopped.
//!
//! DuckDB looks for an interrupt between two vectors of rows, and some functions are at one value for minutes: the text
//! of a BIGNUM of a million digits, a regular expression over gigabytes. Nothing short of its end gets a thread out of
//! such a function. Its client is answered meanwhile, and it is counted here. Once all places for reads are held that
//! way nobody can read any more, so the instance is given up: either they end after all while it goes, or the process
//! does, and a new one serves.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// A statement is overdue that has not ended so long after its stop.
pub(super) const OVERDUE_AFTER: Duration = Duration::from_secs(2);

/// What a statement keeps from others while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holds {
    /// One of the places for reads.
    Read,
    /// One of the places for planning, of which there are as many.
    Plan,
    /// Something else, such as the turn.
    Other,
}

/// All statements that are overdue.
pub(super) struct Overdue {
    /// How many reads may run at once, and how many statements may be planned.
    places: usize,
    /// For how long those that are overdue may hold all of them.
    grace: Duration,
    all: AtomicUsize,
    held: Mutex<[Held; 2]>,
    /// What is done when the grace is over.
    give_up: Box<dyn Fn(&str) + Send + Sync>,
}

/// Places of one kind.
#[derive(Default, Clone, Copy)]
struct Held {
    overdue: usize,
    /// Since when those that are overdue have all of them.
    full_since: Option<Instant>,
}

/// One statement that is overdue, until it ends.
pub(super) struct Late {
    overdue: Arc<Overdue>,
    /// Which places it holds one of.
    places: Option<usize>,
}

impl Overdue {
    pub(super) fn new(
        places: usize,
        grace: Duration,
        give_up: impl Fn(&str) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let (all, held) = (AtomicUsize::default(), Mutex::default());
        Arc::new(Self { places, grace, all, held, give_up: Box::new(give_up) })
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }

    /// One has become overdue.
    pub(super) fn add(self: &Arc<Self>, holds: Holds) -> Late {
        self.all.fetch_add(1, Ordering::Relaxed);
        let places = match holds {
            Holds::Read => Some(0),
            Holds::Plan => Some(1),
            Holds::Other => None,
        };
        if let Some(places) = places {
            let held = &mut self.held.lock()[places];
            held.overdue += 1;
            if held.overdue >= self.places {
                held.full_since.get_or_insert_with(Instant::now);
            }
        }
        tracing::warn!(
            overdue = self.count(),
            "a statement goes on although it was stopped: DuckDB does not hear it"
        );
        Late { overdue: Arc::clone(self), places }
    }
}

impl Late {
    /// Gives the instance up where statements like this one have held all places of their kind for too long.
    pub(super) fn look(&self) {
        let Some(places) = self.places else { return };
        let full_since = self.overdue.held.lock()[places].full_since;
        if full_since.is_some_and(|since| since.elapsed() >= self.overdue.grace) {
            (self.overdue.give_up)(
                "every place of a read is held by a statement that goes on although it was stopped",
            );
        }
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        self.overdue.all.fetch_sub(1, Ordering::Relaxed);
        if let Some(places) = self.places {
            let held = &mut self.overdue.held.lock()[places];
            held.overdue -= 1;
            held.full_since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overdue(places: usize, grace: Duration) -> (Arc<Overdue>, Arc<AtomicUsize>) {
        let given_up = Arc::new(AtomicUsize::default());
        let counted = Arc::clone(&given_up);
        let give_up = move |_: &str| {
            counted.fetch_add(1, Ordering::Relaxed);
        };
        (Overdue::new(places, grace, give_up), given_up)
    }

    #[test]
    fn the_instance_is_given_up_when_they_hold_all_places_of_one_kind_and_not_before() {
        let (overdue, given_up) = overdue(2, Duration::ZERO);
        let others = [overdue.add(Holds::Read), overdue.add(Holds::Other)];
        let first = overdue.add(Holds::Plan);
        others.iter().for_each(Late::look);
        first.look();
        assert_eq!((overdue.count(), given_up.load(Ordering::Relaxed)), (3, 0));
        let second = overdue.add(Holds::Plan);
        first.look();
        assert_eq!((overdue.count(), given_up.load(Ordering::Relaxed)), (4, 1));
        others.iter().for_each(Late::look);
        drop(second);
        first.look();
        assert_eq!(given_up.load(Ordering::Relaxed), 1);
        drop((first, others));
        assert_eq!(overdue.count(), 0);
    }

    #[test]
    fn they_may_hold_all_places_for_the_grace() {
        let (overdue, given_up) = overdue(1, Duration::from_secs(3600));
        let only = overdue.add(Holds::Read);
        only.look();
        assert_eq!(given_up.load(Ordering::Relaxed), 0);
    }
}
