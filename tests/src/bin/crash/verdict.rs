//! The judgement: what was acknowledged against what is there.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::unit::{Sums, Unit};

/// Examples that are kept for a person to look at.
const EXAMPLES: usize = 10;

/// So many rounds meet whatever comes with the load.
const ROUNDS_TO_MEET: u32 = 20;

/// What a comparison found. Nothing but zeros under the first five is a pass.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    /// Units that were acknowledged and are not there.
    pub(crate) lost: u64,
    /// Units that are there more than once.
    pub(crate) doubled: u64,
    /// Units that are there in part, or with other rows.
    pub(crate) partial: u64,
    /// Answers that break a rule of keys, such as a gap where there is none.
    pub(crate) wrong_answers: u64,
    /// Loaders of which the ledger says something else than their table.
    pub(crate) ledger_differs: u64,
    /// Units that were acknowledged so far.
    pub(crate) acknowledged: u64,
    /// Of these, how many went over a long stream with others behind them.
    pub(crate) streamed: u64,
    /// Of those acknowledged, how many were matched by key.
    pub(crate) upserts: u64,
    /// Of these, how many shared a commit with one of another loader that was acknowledged just before.
    pub(crate) upserted_together: u64,
    /// Of those acknowledged, how many had been committed before a crash without their loader's knowledge.
    pub(crate) answers_lost: u64,
    /// Units that were sent again although they had been acknowledged.
    pub(crate) repeated: u64,
    /// Units that this comparison found whole.
    pub(crate) whole: u64,
    /// Some of what is wrong, in words.
    pub(crate) examples: Vec<String>,
}

impl Verdict {
    /// Whether every promise was kept.
    pub(crate) fn passes(&self) -> bool {
        self.lost + self.doubled + self.partial + self.wrong_answers + self.ledger_differs == 0
    }

    /// What a run of so many rounds has not met although it must, if anything: where no unit of a stream was
    /// acknowledged, or no upserts shared a commit, it has tested nothing of that.
    pub(crate) fn missing(&self, rounds: u32) -> Option<&'static str> {
        if self.streamed == 0 {
            return Some("no unit of a stream was acknowledged");
        }
        (rounds >= ROUNDS_TO_MEET && self.upserted_together == 0)
            .then_some("no upserts of several loaders were committed together")
    }

    /// Keeps a few words about something wrong.
    pub(crate) fn example(&mut self, text: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(text());
        }
    }

    /// Compares the units of one loader that were acknowledged, `sequences`, with what was found.
    pub(crate) fn expect(
        &mut self,
        loader: u64,
        sequences: impl Iterator<Item = u64>,
        found: &HashMap<Unit, Sums>,
    ) {
        for sequence in sequences {
            if !found.contains_key(&Unit { loader, sequence }) {
                self.lost += 1;
                self.example(|| format!("loader {loader}, unit {sequence}: acknowledged and not there"));
            }
        }
    }

    /// Looks at the unit that the rows are of that all upserts have: it was committed no earlier than any that was
    /// acknowledged before the table was read, the `latest`.
    pub(crate) fn expect_latest(&mut self, unit: Unit, commit: Option<u64>, latest: u64) {
        // A unit that was not acknowledged may have been committed at any time up to then.
        if commit.is_some_and(|commit| commit < latest) {
            self.lost += 1;
            self.example(|| format!("{unit:?} of commit {commit:?} has outlived one of commit {latest}"));
        }
    }

    /// Looks at one unit that is there.
    pub(crate) fn examine(&mut self, unit: Unit, found: Sums) {
        let whole = unit.sums();
        if found == whole {
            self.whole += 1;
            return;
        }
        let times = found.rows / whole.rows;
        let is_multiple = times > 1
            && found.rows == times * whole.rows
            && found.parts == times * whole.parts
            && found.values == times * whole.values;
        if is_multiple {
            self.doubled += 1;
        } else {
            self.partial += 1;
        }
        self.example(|| {
            let Unit { loader, sequence } = unit;
            format!("loader {loader}, unit {sequence}: {} rows of {}", found.rows, whole.rows)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: Unit = Unit { loader: 3, sequence: 5 };

    fn examined(change: impl FnOnce(&mut Sums)) -> Verdict {
        let mut sums = UNIT.sums();
        change(&mut sums);
        let mut verdict = Verdict::default();
        verdict.examine(UNIT, sums);
        assert_eq!(verdict.passes(), verdict.examples.is_empty());
        verdict
    }

    #[test]
    fn a_run_of_enough_rounds_has_to_meet_upserts_that_are_committed_together() {
        let met =
            |upserted_together| Verdict { streamed: 9, upserts: 9, upserted_together, ..Verdict::default() };
        assert_eq!(met(0).missing(ROUNDS_TO_MEET - 1), None);
        assert!(met(0).missing(ROUNDS_TO_MEET).is_some() && met(0).passes());
        assert_eq!(met(1).missing(ROUNDS_TO_MEET), None);
    }

    #[test]
    fn any_run_has_to_meet_units_of_streams() {
        let met = |streamed| Verdict { streamed, upserted_together: 1, ..Verdict::default() };
        assert!(met(0).missing(1).is_some() && met(0).passes());
        assert_eq!(met(1).missing(1), None);
    }

    #[test]
    fn a_whole_unit_passes_and_any_other_does_not() {
        assert!(examined(|_| ()).passes());
        let doubled = examined(|sums| {
            let Sums { rows, parts, values } = *sums;
            *sums = Sums { rows: 2 * rows, parts: 2 * parts, values: 2 * values };
        });
        assert_eq!((doubled.doubled, doubled.partial), (1, 0));
        assert_eq!(examined(|sums| sums.rows -= 1).partial, 1);
        assert_eq!(examined(|sums| sums.values += 1).partial, 1);
        assert_eq!(examined(|sums| sums.rows *= 2).partial, 1);
    }

    #[test]
    fn a_shared_row_that_an_earlier_commit_has_left_is_a_loss() {
        let lost = |commit, latest| {
            let mut verdict = Verdict::default();
            verdict.expect_latest(UNIT, commit, latest);
            verdict.lost
        };
        assert_eq!((lost(Some(7), 7), lost(Some(9), 7), lost(None, 7)), (0, 0, 0));
        assert_eq!(lost(Some(6), 7), 1);
    }

    #[test]
    fn an_acknowledged_unit_that_is_not_there_is_lost() {
        let mut verdict = Verdict::default();
        let found = HashMap::from([(UNIT, UNIT.sums())]);
        verdict.expect(3, 4..=6, &found);
        assert_eq!((verdict.lost, verdict.passes()), (2, false));
    }
}
