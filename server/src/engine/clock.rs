//! The commit clock: tells whether anything may have committed between two moments.
//!
//! A prepared plan carries the statistics of the data it was made over and gives wrong answers over newer
//! data. A plan may therefore be reused only when no commit began since it was made. The clock counts
//! beginnings and ends apart, because a commit is visible to readers before its caller knows.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

/// A moment in microseconds since 1970.
pub(crate) fn micros(moment: SystemTime) -> i64 {
    moment.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

/// Counts the commits of everything that writes.
pub(crate) struct CommitClock {
    /// Nobody else writes to what this server reads. Where somebody does, no moment is known to be quiet.
    alone: bool,
    begun: AtomicU64,
    ended: AtomicU64,
    /// Changes of schemas, of which cached table descriptions must not be older.
    schemas: AtomicU64,
}

/// A moment at which no commit was under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp(u64);

impl CommitClock {
    /// One that counts from now. `alone` says that nobody but this server writes to what it reads.
    pub(crate) fn new(alone: bool) -> Self {
        let zero = AtomicU64::default;
        Self { alone, begun: zero(), ended: zero(), schemas: zero() }
    }

    /// The present moment, or `None` while something commits.
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        let begun = self.begun.load(Ordering::SeqCst);
        (self.alone && self.ended.load(Ordering::SeqCst) == begun).then_some(Stamp(begun))
    }

    /// Says that something may become visible until the guard is dropped.
    pub(crate) fn writing(&self) -> Writing<'_> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        Writing { clock: self }
    }

    /// The number of schema changes so far.
    pub(crate) fn schemas(&self) -> u64 {
        self.schemas.load(Ordering::SeqCst)
    }

    /// Says that a schema has changed or may have.
    pub(crate) fn schema_changed(&self) {
        self.schemas.fetch_add(1, Ordering::SeqCst);
    }
}

/// A write under way.
pub(crate) struct Writing<'a> {
    clock: &'a CommitClock,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.clock.ended.fetch_add(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_stamp_beside_others() {
        assert!(CommitClock::new(false).stamp().is_none());
    }

    #[test]
    fn no_stamp_while_something_commits() {
        let clock = CommitClock::new(true);
        let before = clock.stamp().unwrap();
        let first = clock.writing();
        let second = clock.writing();
        assert_eq!(clock.stamp(), None);
        drop(first);
        assert_eq!(clock.stamp(), None);
        drop(second);
        assert_ne!(clock.stamp().unwrap(), before);
    }
}
