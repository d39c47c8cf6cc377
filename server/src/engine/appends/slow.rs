//! Tables to which it has taken too long to append.
//!
//! To find that out costs everybody a whole limit, so such a table is slow for a while. Its units commit alone, and have
//! a part of the limit each; those that are in time are committed as ever. Once a few have not been in time, its units are
//! refused without a try until the while is over.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// A table is slow for so long.
const SLOW_FOR: Duration = Duration::from_secs(60);
/// So many tries may be over time meanwhile. Each of them has the limit divided by this: what goes in alone is an eighth
/// of a row group or a quarter of a group's bytes, so that a table whose groups only just take too long takes it in time.
pub(super) const TRIES: u32 = 4;

/// What the next append to a table may take.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    /// The whole limit.
    Whole,
    /// The limit divided by [`TRIES`].
    Part,
    /// Nothing, for so long.
    Nothing(Duration),
}

/// A table, and whether rows are matched by key: that may take long where to add rows does not.
pub(super) type How = (String, bool);

/// Those that are slow just now.
#[derive(Default)]
pub(super) struct SlowTables(HashMap<How, Slow>);

struct Slow {
    until: Instant,
    tries: u32,
}

impl SlowTables {
    /// Whether a table is slow.
    pub(super) fn has(&self, table: &How, now: Instant) -> bool {
        self.get(table, now).is_some()
    }

    /// Forgets those that are slow no longer; tells whether there are none.
    pub(super) fn is_empty(&mut self, now: Instant) -> bool {
        self.0.retain(|_, slow| slow.until > now);
        self.0.is_empty()
    }

    /// What the next append to a table may take.
    pub(super) fn allowed(&self, table: &How, now: Instant) -> Allowed {
        match self.get(table, now) {
            None => Allowed::Whole,
            Some(slow) if slow.tries > 0 => Allowed::Part,
            Some(slow) => Allowed::Nothing(slow.until - now),
        }
    }

    /// An append to a table has taken too long.
    pub(super) fn add(&mut self, table: &How, now: Instant) {
        match self.0.get_mut(table).filter(|slow| slow.until > now) {
            Some(slow) => slow.tries = slow.tries.saturating_sub(1),
            None => drop(self.0.insert(table.clone(), Slow { until: now + SLOW_FOR, tries: TRIES })),
        }
    }

    fn get(&self, table: &How, now: Instant) -> Option<&Slow> {
        self.0.get(table).filter(|slow| slow.until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_table_has_a_few_tries_and_is_forgotten_after_a_while() {
        let (mut slow, start) = (SlowTables::default(), Instant::now());
        let [table, other, matched] =
            [("t", false), ("u", false), ("t", true)].map(|(name, matched)| (name.to_owned(), matched));
        assert_eq!(slow.allowed(&table, start), Allowed::Whole);
        slow.add(&table, start);
        for try_number in 0..TRIES {
            let now = start + Duration::from_secs(u64::from(try_number));
            assert_eq!(slow.allowed(&table, now), Allowed::Part);
            slow.add(&table, now);
        }
        let later = start + Duration::from_secs(20);
        assert_eq!(slow.allowed(&table, later), Allowed::Nothing(SLOW_FOR - Duration::from_secs(20)));
        assert!(slow.has(&table, later) && !slow.has(&other, later));
        for one in [&other, &matched] {
            assert_eq!(slow.allowed(one, later), Allowed::Whole);
        }
        // Tries that are over time do not make it longer.
        assert_eq!(slow.allowed(&table, start + SLOW_FOR), Allowed::Whole);
        assert!(!slow.is_empty(later) && slow.is_empty(start + SLOW_FOR));
    }
}
