//! Log-ins that failed: too many in a short while, and the next is not even looked at.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::keyed::Digest;

/// Failures that one user name from one address may have in a [`WINDOW`].
const ALLOWED: u32 = 10;
/// How long failures count, from the first one on. Tries that are refused do not prolong it.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// Pairs of user and address that are remembered.
const CAPACITY: usize = 10_000;

/// Failures by a hash of user name and address.
#[derive(Default)]
pub(super) struct Attempts {
    failures: Mutex<HashMap<Digest, Failures>>,
}

struct Failures {
    since: Instant,
    count: u32,
}

impl Attempts {
    /// Whether another try is looked at.
    pub(super) fn allowed(&self, who: &Digest) -> bool {
        let failures = self.failures.lock();
        failures.get(who).is_none_or(|failures| failures.count < ALLOWED || failures.over())
    }

    /// Counts a try that failed.
    pub(super) fn failed(&self, who: Digest) {
        let mut failures = self.failures.lock();
        if failures.len() >= CAPACITY {
            failures.retain(|_, failures| !failures.over());
        }
        if failures.len() >= CAPACITY && !failures.contains_key(&who) {
            let oldest = failures.iter().min_by_key(|(_, failures)| failures.since).map(|(who, _)| *who);
            oldest.and_then(|who| failures.remove(&who));
        }
        let theirs = failures.entry(who).or_insert_with(Failures::none);
        if theirs.over() {
            *theirs = Failures::none();
        }
        theirs.count += 1;
    }

    /// Forgets the failures of somebody who got it right.
    pub(super) fn succeeded(&self, who: &Digest) {
        self.failures.lock().remove(who);
    }
}

impl Failures {
    fn none() -> Self {
        Self { since: Instant::now(), count: 0 }
    }

    fn over(&self) -> bool {
        self.since.elapsed() >= WINDOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_failures_are_enough_and_a_success_forgets_them() {
        let attempts = Attempts::default();
        let (ana, eva) = ([1; 32], [2; 32]);
        for _ in 0..ALLOWED {
            assert!(attempts.allowed(&ana));
            attempts.failed(ana);
        }
        assert!(!attempts.allowed(&ana));
        assert!(attempts.allowed(&eva));
        attempts.succeeded(&ana);
        assert!(attempts.allowed(&ana));
    }
}
