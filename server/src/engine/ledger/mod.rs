//! Which keyed units are committed: what makes it harmless to send a unit again.
//!
//! A row of the ledger commits together with the rows of its unit ([`table`]). What the writer needs to decide is
//! kept in memory as well: of each loader the epoch, the last sequence, and the latest units. The writer is the
//! only one that adds to it, in the order of commits, so nothing else has to keep keys unique.

mod content;
mod draft;
mod fence;
mod key;
mod layout;
mod refused;
mod report;
mod spelling;
mod table;
mod upgrade;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;

use super::{Error, Result};
use crate::metrics;
pub(crate) use content::{Content, Destination};
pub(crate) use draft::{Ahead, Draft, Placed};
pub(crate) use fence::inline_sql;
pub use key::IngestKey;
use key::MAX_EPOCH;
use refused::Refused;
pub(crate) use report::{report, report_schema};
pub(crate) use table::{LedgerTable, Retention, TABLE, TABLE_OF_FENCE};

/// Units of one loader that are known without asking the database. Who sends again sends what was in doubt, which
/// is the latest.
const REMEMBERED: usize = 1024;

/// The ledger, as it is shared between the writer, who changes it, and those who look.
pub(crate) type SharedLedger = Arc<Mutex<Ledger>>;

/// The ledgers of all catalogs, by the catalog's name.
pub(crate) type Ledgers = Arc<Mutex<BTreeMap<String, SharedLedger>>>;

/// What is committed, in memory.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Boxed, because a map that grows copies what is in it.
    loaders: HashMap<Arc<str>, Box<Loader>>,
    refused: Refused,
    /// The highest number of a commit that it holds.
    commit: u64,
}

/// One loader.
#[derive(Debug)]
struct Loader {
    epoch: u64,
    /// The sequence of the first unit in `latest`.
    first: u64,
    /// Never empty: a loader is known by its last unit.
    latest: VecDeque<Committed>,
    last: Last,
    counts: Counts,
}

/// What is told of a loader's last unit.
#[derive(Debug, Clone)]
struct Last {
    table: Arc<str>,
    /// Microseconds since 1970.
    at: i64,
    /// All its rows and units so far.
    total: Total,
}

/// Rows and units of one loader since ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Total {
    pub(crate) rows: u64,
    pub(crate) units: u64,
}

/// What is counted since the start of the server.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    duplicates: u64,
    failures: u64,
    lag: Duration,
}

/// A unit that is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) hash: u128,
    pub(crate) commit: u64,
    pub(crate) rows: u64,
}

/// What makes a unit known again: its name, and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keyed {
    pub(crate) key: IngestKey,
    pub(crate) hash: u128,
    /// The hash by which it was kept before; see [`spelling`].
    pub(crate) hash_before: u128,
}

/// One row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: IngestKey,
    pub(crate) table: Arc<str>,
    pub(crate) committed: Committed,
    /// Microseconds since 1970.
    pub(crate) at: i64,
    /// Of the loader, this unit included.
    pub(crate) total: Total,
}

/// What the ledger says of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the loader's next.
    Next,
    /// It is committed.
    Known(Committed),
    /// It lies before what is remembered; the table may know it.
    Older,
}

impl Ledger {
    /// Judges a key by what is committed.
    ///
    /// # Errors
    /// [`Error::Fenced`]; [`Error::SequenceGap`].
    pub(crate) fn judge(&self, key: &IngestKey) -> Result<Verdict> {
        let Some(loader) = self.loaders.get(&key.loader) else {
            return match key.sequence {
                0 | 1 => Ok(Verdict::Next),
                _ => Err(Error::SequenceGap { key: key.to_string(), expected: 1 }),
            };
        };
        if key.epoch < loader.epoch {
            return Err(Error::Fenced { key: key.to_string(), epoch: loader.epoch });
        }
        let next = loader.next();
        match key.sequence {
            sequence if sequence < loader.first => Ok(Verdict::Older),
            sequence if sequence < next => {
                Ok(Verdict::Known(loader.latest[(sequence - loader.first) as usize]))
            }
            sequence if sequence == next => Ok(Verdict::Next),
            _ => Err(Error::SequenceGap { key: key.to_string(), expected: next }),
        }
    }

    /// Whether a key leaves room for epochs after it. One that is the loader's next always does.
    ///
    /// # Errors
    /// [`Error::BadKey`].
    pub(crate) fn check_epoch(&self, key: &IngestKey) -> Result<()> {
        let next = self.loaders.get(&key.loader).map_or(0, |loader| loader.epoch.saturating_add(1));
        let most = next.max(MAX_EPOCH);
        match key.epoch <= most {
            true => Ok(()),
            false => Err(Error::BadKey(format!("the epoch is too large; at most {most}"))),
        }
    }

    /// The sequence that a loader's next unit must have; of a new loader 1, though 0 will do as well.
    pub(crate) fn expected(&self, loader: &str) -> u64 {
        self.loaders.get(loader).map_or(1, |loader| loader.next())
    }

    /// The highest number of a commit that it holds.
    pub(crate) fn highest_commit(&self) -> u64 {
        self.commit
    }

    /// Takes a unit that is committed, the next of its loader.
    pub(crate) fn record(&mut self, entry: Entry) {
        let Entry { key, table, committed, at, total } = entry;
        let last = Last { table, at, total };
        self.commit = self.commit.max(committed.commit);
        match self.loaders.get_mut(&key.loader) {
            Some(loader) => {
                loader.epoch = key.epoch;
                loader.push(key.sequence, committed);
                loader.last = last;
            }
            None => {
                let latest = VecDeque::from([committed]);
                let counts = Counts { failures: self.refused.take(&key.loader), ..Counts::default() };
                let loader = Loader { epoch: key.epoch, first: key.sequence, latest, last, counts };
                self.loaders.insert(key.loader, Box::new(loader));
            }
        }
    }

    /// Takes all units of a commit.
    pub(crate) fn record_all(&mut self, entries: Vec<Entry>) {
        entries.into_iter().for_each(|entry| self.record(entry));
    }

    /// Counts a unit that was there already.
    pub(crate) fn count_duplicate(&mut self, loader: &str) {
        metrics::unit_duplicate();
        self.count(loader, |counts| counts.duplicates += 1);
    }

    /// Counts a unit that was refused, for whatever reason.
    pub(crate) fn count_failure(&mut self, loader: &Arc<str>) {
        match self.loaders.get_mut(loader) {
            Some(loader) => loader.counts.failures += 1,
            None => self.refused.add(loader),
        }
    }

    /// Notes how long a unit waited from its last byte to its commit.
    pub(crate) fn note_lag(&mut self, loader: &str, lag: Duration) {
        self.count(loader, |counts| counts.lag = lag);
    }

    fn count(&mut self, loader: &str, change: impl FnOnce(&mut Counts)) {
        if let Some(loader) = self.loaders.get_mut(loader) {
            change(&mut loader.counts);
        }
    }

    /// Takes over what another has counted since the start of the server; for a ledger that was read again.
    pub(crate) fn keep_counts_of(&mut self, before: &Self) {
        self.refused = before.refused.clone();
        for (name, loader) in &mut self.loaders {
            match before.loaders.get(name) {
                Some(before) => loader.counts = before.counts,
                None => loader.counts.failures = self.refused.take(name),
            }
        }
    }
}

impl Loader {
    fn next(&self) -> u64 {
        self.first + self.latest.len() as u64
    }

    fn push(&mut self, sequence: u64, committed: Committed) {
        if sequence != self.next() {
            // What was forgotten on disk is forgotten here.
            self.latest.clear();
            self.first = sequence;
        }
        self.latest.push_back(committed);
        if self.latest.len() > REMEMBERED {
            self.latest.pop_front();
            self.first += 1;
        }
    }
}

/// What a unit is told that is committed already.
///
/// # Errors
/// [`Error::KeyReused`] where it was another one.
pub(crate) fn compare(keyed: &Keyed, committed: Committed, expected: u64) -> Result<Committed> {
    if [keyed.hash, keyed.hash_before].contains(&committed.hash) {
        Ok(committed)
    } else {
        Err(Error::KeyReused { key: keyed.key.to_string(), expected })
    }
}

/// The same for a unit that only the table could know.
///
/// # Errors
/// [`Error::KeyExpired`] where that has forgotten it; as [`compare`].
pub(crate) fn compare_older(keyed: &Keyed, known: Option<Committed>, expected: u64) -> Result<Committed> {
    let known = known.ok_or_else(|| Error::KeyExpired { key: keyed.key.to_string(), expected })?;
    compare(keyed, known, expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(epoch: u64, sequence: u64) -> IngestKey {
        IngestKey { loader: "a".into(), epoch, sequence }
    }

    fn entry(epoch: u64, sequence: u64) -> Entry {
        Entry {
            key: key(epoch, sequence),
            table: "t".into(),
            committed: Committed { hash: u128::from(sequence), commit: sequence + 100, rows: 1 },
            at: 0,
            total: Total::default(),
        }
    }

    fn ledger(sequences: std::ops::RangeInclusive<u64>) -> Ledger {
        let mut ledger = Ledger::default();
        sequences.for_each(|sequence| ledger.record(entry(1, sequence)));
        ledger
    }

    #[test]
    fn a_new_loader_begins_at_0_or_1() {
        let ledger = Ledger::default();
        for sequence in [0, 1] {
            assert_eq!(ledger.judge(&key(7, sequence)).unwrap(), Verdict::Next);
        }
        assert!(matches!(ledger.judge(&key(7, 2)), Err(Error::SequenceGap { expected: 1, .. })));
    }

    #[test]
    fn sequences_go_on_over_epochs() {
        let ledger = ledger(1..=3);
        assert_eq!(ledger.judge(&key(2, 4)).unwrap(), Verdict::Next);
        let third = Committed { hash: 3, commit: 103, rows: 1 };
        assert_eq!(ledger.judge(&key(2, 3)).unwrap(), Verdict::Known(third));
        assert!(matches!(ledger.judge(&key(1, 5)), Err(Error::SequenceGap { expected: 4, .. })));
    }

    #[test]
    fn an_older_epoch_is_fenced_whatever_it_sends() {
        let mut ledger = ledger(1..=3);
        ledger.record(entry(5, 4));
        for sequence in 1..=6 {
            assert!(matches!(ledger.judge(&key(4, sequence)), Err(Error::Fenced { epoch: 5, .. })));
        }
    }

    #[test]
    fn an_epoch_leaves_room_for_others_and_the_next_is_always_taken() {
        let mut ledger = Ledger::default();
        for (committed, epoch, is_good) in [
            (None, MAX_EPOCH, true),
            (None, MAX_EPOCH + 1, false),
            (Some(MAX_EPOCH), MAX_EPOCH + 1, true),
            (Some(MAX_EPOCH), MAX_EPOCH + 2, false),
            // Of a ledger from before there was a bound.
            (Some(u64::MAX - 2), u64::MAX - 1, true),
            (Some(u64::MAX - 1), u64::MAX - 1, true),
        ] {
            committed.into_iter().for_each(|epoch| ledger.record(entry(epoch, 1)));
            match ledger.check_epoch(&key(epoch, 2)) {
                Ok(()) => assert!(is_good, "{epoch}"),
                Err(error) => assert!(!is_good && error.to_string().contains("too large"), "{error}"),
            }
        }
    }

    #[test]
    fn refusals_count_from_a_loaders_first_unit_on() {
        let mut ledger = Ledger::default();
        (0..2).for_each(|_| ledger.count_failure(&"a".into()));
        assert_eq!(ledger.refused.iter().collect::<Vec<_>>(), [(&"a".into(), 2)]);
        let mut fresh = Ledger::default();
        fresh.keep_counts_of(&ledger);
        assert_eq!(fresh.refused.iter().count(), 1);
        fresh.record(entry(1, 1));
        fresh.count_failure(&"a".into());
        assert_eq!((fresh.loaders["a"].counts.failures, fresh.refused.iter().count()), (3, 0));
        // The ledger is read again after a commit in doubt.
        let mut again = self::ledger(1..=1);
        again.keep_counts_of(&ledger);
        assert_eq!((again.loaders["a"].counts.failures, again.refused.iter().count()), (2, 0));
    }

    #[test]
    fn memory_of_a_loader_is_bounded() {
        let many = REMEMBERED as u64 + 10;
        let ledger = ledger(1..=many);
        assert_eq!(ledger.judge(&key(1, 10)).unwrap(), Verdict::Older);
        assert!(matches!(ledger.judge(&key(1, 11)).unwrap(), Verdict::Known(_)));
        assert_eq!(ledger.judge(&key(1, many + 1)).unwrap(), Verdict::Next);
        assert_eq!(ledger.highest_commit(), many + 100);
    }

    #[test]
    fn the_same_key_with_other_content_is_refused() {
        let there = Committed { hash: 1, commit: 9, rows: 5 };
        let again = |hash, hash_before| compare(&Keyed { key: key(1, 1), hash, hash_before }, there, 2);
        assert_eq!(again(1, 7).unwrap(), there);
        // Of a row that was written before.
        assert_eq!(again(7, 1).unwrap(), there);
        assert!(matches!(again(2, 2), Err(Error::KeyReused { expected: 2, .. })));
    }
}
