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

/// All statements that are overdue.
pub(super) struct Overdue {
    /// How many reads may run at once.
    places: usize,
    /// For how long they may hold all places.
    grace: Duration,
    all: AtomicUsize,
    reads: Mutex<Reads>,
    /// What is done when the grace is over.
    give_up: Box<dyn Fn(&str) + Send + Sync>,
}

#[derive(Default)]
struct Reads {
    overdue: usize,
    /// Since when they have all places.
    full_since: Option<Instant>,
}

/// One statement that is overdue, until it ends.
pub(super) struct Late {
    overdue: Arc<Overdue>,
    holds_place: bool,
}

impl Overdue {
    pub(super) fn new(
        places: usize,
        grace: Duration,
        give_up: impl Fn(&str) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let (all, reads) = (AtomicUsize::default(), Mutex::default());
        Arc::new(Self { places, grace, all, reads, give_up: Box::new(give_up) })
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }

    /// One has become overdue; `holds_place` says that it is a read.
    pub(super) fn add(self: &Arc<Self>, holds_place: bool) -> Late {
        self.all.fetch_add(1, Ordering::Relaxed);
        if holds_place {
            let mut reads = self.reads.lock();
            reads.overdue += 1;
            if reads.overdue >= self.places {
                reads.full_since.get_or_insert_with(Instant::now);
            }
        }
        tracing::warn!(
            overdue = self.count(),
            "a statement goes on although it was stopped: DuckDB does not hear it"
        );
        Late { overdue: Arc::clone(self), holds_place }
    }
}

impl Late {
    /// Gives the instance up where reads like this one have held all places for too long.
    pub(super) fn look(&self) {
        let full_since = self.overdue.reads.lock().full_since;
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
        if self.holds_place {
            let mut reads = self.overdue.reads.lock();
            reads.overdue -= 1;
            reads.full_since = None;
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
    fn the_instance_is_given_up_when_reads_hold_all_places_and_not_before() {
        let (overdue, given_up) = overdue(2, Duration::ZERO);
        let (first, write) = (overdue.add(true), overdue.add(false));
        first.look();
        write.look();
        assert_eq!((overdue.count(), given_up.load(Ordering::Relaxed)), (2, 0));
        let second = overdue.add(true);
        first.look();
        assert_eq!((overdue.count(), given_up.load(Ordering::Relaxed)), (3, 1));
        drop(second);
        first.look();
        assert_eq!(given_up.load(Ordering::Relaxed), 1);
        drop((first, write));
        assert_eq!(overdue.count(), 0);
    }

    #[test]
    fn they_may_hold_all_places_for_the_grace() {
        let (overdue, given_up) = overdue(1, Duration::from_secs(3600));
        let only = overdue.add(true);
        only.look();
        assert_eq!(given_up.load(Ordering::Relaxed), 0);
    }
}
