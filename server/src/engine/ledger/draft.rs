//! The keyed units of a group that is about to be committed, as if those before them were committed already.

use std::{collections::HashMap, sync::Arc};

use super::{Committed, Entry, Keyed, Ledger, Result, Total, Verdict};

/// Where loaders stand once those of their units are committed that have found a place.
#[derive(Default)]
pub(crate) struct Ahead(HashMap<Arc<str>, Place>);

struct Place {
    epoch: u64,
    next: u64,
    total: Total,
    /// The number of the commit.
    commit: u64,
}

/// Entries to commit, in order.
pub(crate) struct Draft<'a> {
    ledger: &'a Ledger,
    ahead: &'a mut Ahead,
    entries: Vec<Entry>,
    /// The number and the time of the commit.
    commit: u64,
    at: i64,
}

/// What becomes of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    /// It is written with the draft.
    Here,
    /// It is committed already; whether with the same content is for the caller to see.
    Known(Committed),
    /// It lies before what the ledger remembers.
    Older,
    /// It can be judged only once those before it are committed, or not.
    Later,
}

impl<'a> Draft<'a> {
    /// An empty one for the commit of this number, at a time in microseconds since 1970; behind what is under way.
    pub(crate) fn new(ledger: &'a Ledger, ahead: &'a mut Ahead, commit: u64, at: i64) -> Self {
        ahead.0.retain(|_, place| place.commit > ledger.highest_commit());
        Self { ledger, ahead, entries: Vec::new(), commit, at }
    }

    /// Finds the place of a unit.
    ///
    /// # Errors
    /// Those of [`Ledger::judge`].
    pub(crate) fn place(&mut self, keyed: &Keyed, table: &str, rows: u64) -> Result<Placed> {
        let key = &keyed.key;
        let mut total = match self.ahead.0.get(&key.loader) {
            Some(place) if key.sequence == place.next && key.epoch >= place.epoch => place.total,
            Some(_) => return Ok(Placed::Later),
            None => match self.ledger.judge(key)? {
                Verdict::Next => {
                    self.ledger.loaders.get(&key.loader).map_or(Total::default(), |it| it.last.total)
                }
                Verdict::Known(committed) => return Ok(Placed::Known(committed)),
                Verdict::Older => return Ok(Placed::Older),
            },
        };
        total.rows += rows;
        total.units += 1;
        let place = Place { epoch: key.epoch, next: key.sequence + 1, total, commit: self.commit };
        self.ahead.0.insert(Arc::clone(&key.loader), place);
        self.entries.push(Entry {
            key: key.clone(),
            table: table.into(),
            committed: Committed { hash: keyed.hash, commit: self.commit, rows },
            at: self.at,
            total,
        });
        Ok(Placed::Here)
    }

    /// What is to be committed with the rows.
    pub(crate) fn into_entries(self) -> Vec<Entry> {
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Error, IngestKey};

    fn keyed(loader: &str, epoch: u64, sequence: u64) -> Keyed {
        let hash = u128::from(sequence);
        Keyed { key: IngestKey { loader: loader.into(), epoch, sequence }, hash, hash_before: hash }
    }

    #[test]
    fn units_of_one_loader_follow_each_other() {
        let (ledger, mut ahead) = (Ledger::default(), Ahead::default());
        let mut draft = Draft::new(&ledger, &mut ahead, 1, 0);
        for sequence in 1..=3 {
            assert_eq!(draft.place(&keyed("a", 1, sequence), "t", 10).unwrap(), Placed::Here);
        }
        assert_eq!(draft.place(&keyed("b", 1, 0), "t", 5).unwrap(), Placed::Here);
        let entries = draft.into_entries();
        let totals: Vec<_> = entries.iter().map(|entry| (entry.total.rows, entry.total.units)).collect();
        assert_eq!(totals, [(10, 1), (20, 2), (30, 3), (5, 1)]);
    }

    #[test]
    fn what_depends_on_the_draft_waits_for_it() {
        let (ledger, mut ahead) = (Ledger::default(), Ahead::default());
        let mut draft = Draft::new(&ledger, &mut ahead, 1, 0);
        assert_eq!(draft.place(&keyed("a", 2, 1), "t", 1).unwrap(), Placed::Here);
        for later in [keyed("a", 2, 1), keyed("a", 2, 3), keyed("a", 1, 2)] {
            assert_eq!(draft.place(&later, "t", 1).unwrap(), Placed::Later);
        }
        assert_eq!(draft.into_entries().len(), 1);
    }

    #[test]
    fn what_is_committed_or_out_of_order_has_no_place() {
        let (mut ledger, mut ahead) = (Ledger::default(), Ahead::default());
        let mut draft = Draft::new(&ledger, &mut ahead, 7, 0);
        draft.place(&keyed("a", 1, 1), "t", 1).unwrap();
        let entries = draft.into_entries();
        entries.into_iter().for_each(|entry| ledger.record(entry));
        let mut draft = Draft::new(&ledger, &mut ahead, 8, 0);
        assert!(matches!(draft.place(&keyed("a", 1, 1), "t", 1).unwrap(), Placed::Known(c) if c.commit == 7));
        assert!(matches!(draft.place(&keyed("a", 1, 3), "t", 1), Err(Error::SequenceGap { .. })));
        assert!(matches!(draft.place(&keyed("a", 0, 2), "t", 1), Err(Error::Fenced { .. })));
        assert_eq!(draft.place(&keyed("a", 1, 2), "t", 1).unwrap(), Placed::Here);
    }

    #[test]
    fn a_draft_follows_what_is_under_way_until_that_is_committed() {
        let (mut ledger, mut ahead) = (Ledger::default(), Ahead::default());
        let mut first = Draft::new(&ledger, &mut ahead, 1, 0);
        first.place(&keyed("a", 1, 1), "t", 10).unwrap();
        let first = first.into_entries();
        let mut second = Draft::new(&ledger, &mut ahead, 2, 0);
        assert_eq!(second.place(&keyed("a", 1, 1), "t", 10).unwrap(), Placed::Later);
        assert_eq!(second.place(&keyed("a", 1, 2), "t", 10).unwrap(), Placed::Here);
        let second = second.into_entries();
        assert_eq!(second[0].total, Total { rows: 20, units: 2 });
        ledger.record_all(first);
        let mut third = Draft::new(&ledger, &mut ahead, 3, 0);
        assert_eq!(third.place(&keyed("a", 1, 2), "t", 10).unwrap(), Placed::Later);
        ledger.record_all(second);
        let mut third = Draft::new(&ledger, &mut ahead, 3, 0);
        assert!(
            matches!(third.place(&keyed("a", 1, 2), "t", 10).unwrap(), Placed::Known(c) if c.commit == 2)
        );
        assert_eq!(third.place(&keyed("a", 1, 3), "t", 10).unwrap(), Placed::Here);
    }
}
