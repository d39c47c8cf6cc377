//! The table of the upserts: what they send, and what must be left of it.
//!
//! A unit has half of its loader's slots, so that the next one leaves some of its rows and takes the place of others,
//! and a few rows that all loaders fight for. Then what must be there follows from the last unit of each loader.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::Arc,
};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, cast::AsArray, types::Int64Type};

use crate::{
    Failure,
    numbers::mixed,
    unit::{Kind, LOADERS, Unit},
    verdict::Verdict,
};

/// Where the units go whose rows are matched by key.
pub(crate) const TABLE: &str = "latest";
/// Its columns. Nothing but the server keeps a key from being there twice.
pub(crate) const COLUMNS: &str = "owner BIGINT, slot BIGINT, loader BIGINT, sequence BIGINT, value BIGINT";
/// What tells its rows apart.
pub(crate) const KEYS: &str = "owner,slot";
/// Rows of a unit that all loaders have, under an owner who is none of them.
const SHARED: u64 = 10;
/// That owner.
const NOBODY: u64 = LOADERS;

/// A row that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    owner: u64,
    slot: u64,
    unit: Unit,
    value: i64,
}

impl Unit {
    fn first_slot(self) -> u64 {
        mixed(self.sequence << 8 ^ self.loader) % slots(self.loader)
    }

    /// The row at a position.
    fn row(self, part: u64) -> Row {
        let own = self.kind().rows() - SHARED;
        let (owner, slot) = match part.checked_sub(own) {
            Some(slot) => (NOBODY, slot),
            None => (self.loader, (self.first_slot() + part) % slots(self.loader)),
        };
        Row { owner, slot, unit: self, value: self.value(slot) }
    }
}

/// How many rows a loader may have besides those that it shares.
fn slots(loader: u64) -> u64 {
    2 * (Kind::of(loader).rows() - SHARED)
}

/// The rows of a unit at these positions, as they are sent.
pub(crate) fn batch(unit: Unit, parts: Range<u64>) -> Result<RecordBatch, Failure> {
    let rows: Vec<Row> = parts.map(|part| unit.row(part)).collect();
    let column = |value: fn(&Row) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(rows.iter().map(value)))
    };
    let columns = [
        ("owner", column(|row| row.owner as i64), true),
        ("slot", column(|row| row.slot as i64), true),
        ("loader", column(|row| row.unit.loader as i64), true),
        ("sequence", column(|row| row.unit.sequence as i64), true),
        ("value", column(|row| row.value), true),
    ];
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}

/// The rows of a batch of the table, whose columns are in the order of [`COLUMNS`].
pub(crate) fn rows(batch: &RecordBatch) -> impl Iterator<Item = Row> {
    let column = |at| batch.column(at).as_primitive::<Int64Type>();
    (0..batch.num_rows()).map(move |row| {
        let [owner, slot, loader, sequence] = [0, 1, 2, 3].map(|at| column(at).value(row) as u64);
        Row { owner, slot, unit: Unit { loader, sequence }, value: column(4).value(row) }
    })
}

/// The table at one moment.
pub(crate) struct Latest {
    rows: HashMap<(u64, u64), Vec<Row>>,
    /// The last unit of each loader that has left a row.
    last: HashMap<u64, u64>,
}

impl Latest {
    /// Of all its rows.
    pub(crate) fn new(found: Vec<Row>) -> Self {
        let (mut rows, mut last) = (HashMap::<_, Vec<_>>::new(), HashMap::new());
        for row in found {
            rows.entry((row.owner, row.slot)).or_default().push(row);
            let last: &mut u64 = last.entry(row.unit.loader).or_default();
            *last = row.unit.sequence.max(*last);
        }
        Self { rows, last }
    }

    /// The last unit of a loader that is there; 0 when there is none.
    pub(crate) fn last(&self, loader: u64) -> u64 {
        self.last.get(&loader).copied().unwrap_or_default()
    }

    /// Looks at the rows of a loader, of whose units so many were acknowledged before the table was read.
    pub(crate) fn examine(&self, loader: u64, acknowledged: u64, verdict: &mut Verdict) {
        let last = self.last(loader);
        if last < acknowledged {
            verdict.lost += acknowledged - last;
            verdict.example(|| {
                format!("loader {loader}, unit {acknowledged}: upserted, and {last} is the last")
            });
        }
        let expected = expected(loader, last);
        let whole: HashSet<_> = expected.values().map(|row| row.unit).collect();
        let mut broken = Broken::default();
        for slot in 0..slots(loader) {
            broken.look(expected.get(&slot), self.at(loader, slot));
        }
        verdict.whole +=
            whole.difference(&broken.partial).filter(|unit| !broken.doubled.contains(unit)).count() as u64;
        broken.tell(verdict);
    }

    /// Looks at the rows that all loaders share: all are of one unit, the last of its loader, which is returned.
    pub(crate) fn examine_shared(&self, verdict: &mut Verdict) -> Option<Unit> {
        let winner = self.at(NOBODY, 0).first().map(|row| row.unit);
        // A unit that was followed by another one of its loader has lost its shared rows to that one.
        let winner = winner.map(|unit| Unit { sequence: self.last(unit.loader), ..unit });
        let mut broken = Broken::default();
        for slot in 0..SHARED {
            let expected = winner.map(|unit| Row { owner: NOBODY, slot, unit, value: unit.value(slot) });
            broken.look(expected.as_ref(), self.at(NOBODY, slot));
        }
        let nobody = self.last.values().all(|last| *last == 0);
        if winner.is_none() && !nobody {
            verdict.partial += 1;
            verdict.example(|| "the rows that all loaders share are not there".into());
        }
        broken.tell(verdict);
        winner
    }

    /// Looks for rows that nobody sends.
    pub(crate) fn examine_rest(&self, verdict: &mut Verdict) {
        let is_sent = |owner: u64, slot: u64| match owner {
            NOBODY => slot < SHARED,
            owner => owner < NOBODY && Kind::of(owner).upserts() && slot < slots(owner),
        };
        let foreign = self.rows.keys().filter(|(owner, slot)| !is_sent(*owner, *slot)).count();
        if foreign > 0 {
            verdict.partial += 1;
            verdict.example(|| format!("{foreign} keys in {TABLE} that nobody has sent"));
        }
    }

    fn at(&self, owner: u64, slot: u64) -> &[Row] {
        self.rows.get(&(owner, slot)).map_or(&[], Vec::as_slice)
    }
}

/// The rows that a loader's units leave up to this one, by slot.
fn expected(loader: u64, last: u64) -> HashMap<u64, Row> {
    let mut expected = HashMap::new();
    for sequence in (1..=last).rev() {
        let unit = Unit { loader, sequence };
        for row in (0..unit.kind().rows() - SHARED).map(|part| unit.row(part)) {
            expected.entry(row.slot).or_insert(row);
        }
        if expected.len() as u64 == slots(loader) {
            break;
        }
    }
    expected
}

/// Units whose rows are not as they must be.
#[derive(Default)]
struct Broken {
    doubled: HashSet<Unit>,
    partial: HashSet<Unit>,
    example: Option<String>,
}

impl Broken {
    fn look(&mut self, expected: Option<&Row>, found: &[Row]) {
        let units = match (expected, found) {
            (None, []) => return,
            (Some(row), [found]) if row == found => return,
            (_, [_, _, ..]) => &mut self.doubled,
            _ => &mut self.partial,
        };
        units.extend(expected.or(found.first()).map(|row| row.unit));
        self.example.get_or_insert_with(|| format!("expected {expected:?}, found {found:?}"));
    }

    fn tell(self, verdict: &mut Verdict) {
        verdict.doubled += self.doubled.len() as u64;
        verdict.partial += self.partial.len() as u64;
        if let Some(example) = self.example {
            verdict.example(|| example);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOADER: u64 = 5;

    /// What is there after so many units of one loader.
    fn table(units: u64) -> Vec<Row> {
        let mut rows = HashMap::new();
        for sequence in 1..=units {
            let unit = Unit { loader: LOADER, sequence };
            for part in (0..unit.kind().rows()).step_by(500) {
                let parts = part..(part + 500).min(unit.kind().rows());
                let sent = batch(unit, parts).unwrap();
                rows.extend(self::rows(&sent).map(|row| ((row.owner, row.slot), row)));
            }
        }
        rows.into_values().collect()
    }

    fn judged(rows: Vec<Row>, acknowledged: u64) -> (Verdict, Option<Unit>) {
        let (latest, mut verdict) = (Latest::new(rows), Verdict::default());
        latest.examine(LOADER, acknowledged, &mut verdict);
        let winner = latest.examine_shared(&mut verdict);
        latest.examine_rest(&mut verdict);
        assert_eq!(verdict.passes(), verdict.examples.is_empty());
        (verdict, winner)
    }

    #[test]
    fn what_the_units_leave_passes_whether_or_not_the_last_was_acknowledged() {
        assert!(judged(Vec::new(), 0).0.passes());
        for units in [1, 2, 7, 40] {
            for acknowledged in [units - 1, units] {
                let (verdict, winner) = judged(table(units), acknowledged);
                assert!(verdict.passes(), "{verdict:?}");
                assert_eq!(winner, Some(Unit { loader: LOADER, sequence: units }));
            }
        }
        let units: HashSet<_> = table(7).into_iter().map(|row| row.unit).collect();
        assert_eq!(judged(table(7), 7).0.whole, units.len() as u64);
        assert!(units.len() > 2, "{units:?}");
    }

    #[test]
    fn an_acknowledged_upsert_that_is_not_there_is_lost() {
        let (verdict, _) = judged(table(5), 7);
        assert_eq!((verdict.lost, verdict.doubled, verdict.partial), (2, 0, 0));
        assert_eq!(judged(Vec::new(), 1).0.lost, 1);
    }

    #[test]
    fn a_key_that_is_there_twice_is_doubled_and_any_other_difference_is_partial() {
        let changed = |change: fn(&mut Vec<Row>)| {
            let mut rows = table(7);
            rows.sort_by_key(|row| (row.owner, row.slot));
            change(&mut rows);
            let (verdict, _) = judged(rows, 7);
            (verdict.lost, verdict.doubled, verdict.partial)
        };
        assert_eq!(changed(|_| ()), (0, 0, 0));
        assert_eq!(changed(|rows| rows.push(rows[0])), (0, 1, 0));
        assert_eq!(changed(|rows| rows.push(rows[rows.len() - 1])), (0, 1, 0));
        assert_eq!(changed(|rows| rows.truncate(rows.len() - 1)), (0, 0, 1));
        assert_eq!(changed(|rows| rows[0].value += 1), (0, 0, 1));
        // An older row that came back, and a shared one of an older unit.
        assert_eq!(changed(|rows| rows[0].unit.sequence -= 1), (0, 0, 1));
        assert_eq!(
            changed(|rows| rows
                .iter_mut()
                .for_each(|row| row.unit.sequence -= u64::from(row.owner == NOBODY))),
            (0, 0, 1)
        );
        assert_eq!(changed(|rows| rows.retain(|row| row.owner != NOBODY)), (0, 0, 1));
        assert_eq!(changed(|rows| rows[0].slot = 1 << 40).2, 2);
    }
}
