//! Commits groups and answers for them: finds out who is to blame for a failure, and keeps the ledger.

use std::{
    collections::HashSet,
    time::{Instant, SystemTime},
};

use super::{
    Unit,
    apart::Apart,
    doubt::Doubt,
    group::Group,
    storage::{Failure, Storage, may_be_of_one},
};
use crate::engine::{
    Error, Result,
    clock::micros,
    ingest::{Ack, Whose},
    ledger::{Ahead, Committed, Draft, Entry, Keyed, Placed, SharedLedger, compare, compare_older},
};

/// A group that met a conflict is tried this many times before its members are tried alone.
pub(super) const CONFLICT_TRIES: usize = 3;
/// A group that others were faster than is judged anew this many times.
pub(super) const OVERTAKEN_TRIES: usize = 50;

/// Commits to one storage. The units of one loader are committed in the order in which they come.
pub(crate) struct Committer<S> {
    pub(crate) storage: S,
    pub(crate) ledger: SharedLedger,
    /// The number of the last commit, or of the last that is under way.
    pub(crate) commits: u64,
    pub(super) apart: Apart,
}

/// Which units of a group go into its commit.
#[derive(Default)]
pub(super) struct Sorted {
    pub(super) here: Vec<Unit>,
    pub(super) entries: Vec<Entry>,
    /// Can be judged only once those before them are committed, or not.
    pub(super) later: Vec<Unit>,
    /// Need no commit: they are committed already, or never will be.
    settled: Vec<(Unit, Result<Committed>)>,
    /// Are older than what the ledger remembers.
    older: Vec<Unit>,
}

impl<S: Storage> Committer<S> {
    pub(crate) fn new(storage: S, ledger: SharedLedger) -> Self {
        let commits = ledger.lock().highest_commit();
        Self { storage, ledger, commits, apart: Apart::default() }
    }

    /// A unit that creates its table, or that is apart, shares its transaction with nobody.
    pub(crate) fn runs_alone(&self, unit: &Unit) -> bool {
        unit.create.is_some() || self.stands_apart(unit)
    }

    /// Whether a unit's loader has just failed, or its table just was slow.
    pub(crate) fn stands_apart(&self, unit: &Unit) -> bool {
        self.is_apart(unit.loader) || self.storage.is_slow(unit)
    }

    /// Whether a loader has just failed.
    pub(crate) fn is_apart(&self, loader: u64) -> bool {
        self.apart.has(loader)
    }

    /// Commits groups, the last one in the list first; on a failure finds the members that are to blame and commits
    /// the others. Everyone is answered, unless the database has to be opened again first.
    pub(crate) fn commit_all(&mut self, mut groups: Vec<Vec<Unit>>) -> Result<(), Doubt> {
        let mut overtaken = 0;
        if groups.iter().any(|group| self.leaves_gap(group))
            && let Err(error) = self.catch_up()
        {
            groups.drain(..).flatten().for_each(|unit| self.refuse(unit, &error));
        }
        while let Some(group) = groups.pop() {
            let (group, behind) = self.without_slow(group);
            groups.extend(behind);
            let mut sorted = self.sort(group, &mut Ahead::default(), self.commits + 1);
            self.settle_sorted(&mut sorted);
            let Sorted { here, entries, later, .. } = sorted;
            if !later.is_empty() {
                groups.push(later);
            }
            if here.is_empty() {
                continue;
            }
            let started = Instant::now();
            match self.try_commit(&here, &entries) {
                Ok(()) => {
                    self.commits += 1;
                    Group { units: here, entries, commit: self.commits, started }.acknowledge(&self.ledger);
                }
                Err(failure) if failure.is_overtaken() && overtaken < OVERTAKEN_TRIES => {
                    overtaken += 1;
                    match self.catch_up() {
                        Ok(()) => groups.push(here),
                        Err(error) => here.into_iter().for_each(|unit| self.refuse(unit, &error)),
                    }
                }
                Err(failure) if failure.is_in_doubt() => return Err(Doubt::new(failure.error, here, groups)),
                Err(failure) if here.len() == 1 || !may_be_of_one(&failure.error) => {
                    here.into_iter().for_each(|unit| self.refuse(unit, &failure.error));
                }
                // Tables have been found slow just now, which tells their units from the others.
                Err(_) if here.iter().any(|unit| self.storage.is_slow(unit)) => groups.push(here),
                Err(failure) => groups.extend(divided(here, failure.unit)),
            }
        }
        Ok(())
    }

    /// Takes units of slow tables out of a group, and what must not overtake them. They come behind it one by one, the last
    /// one first.
    fn without_slow(&self, group: Vec<Unit>) -> (Vec<Unit>, Vec<Vec<Unit>>) {
        if group.len() < 2 || !group.iter().any(|unit| self.storage.is_slow(unit)) {
            return (group, Vec::new());
        }
        let mut whose_wait = HashSet::new();
        let (behind, others): (Vec<_>, Vec<_>) = group.into_iter().partition(|unit| {
            let whose = || Whose::of(unit.loader, unit.keyed.as_ref().map(|keyed| &keyed.key.loader));
            let waits = self.storage.is_slow(unit) || whose().any(|whose| whose_wait.contains(&whose));
            if waits {
                whose_wait.extend(whose());
            }
            waits
        });
        (others, behind.into_iter().rev().map(|unit| vec![unit]).collect())
    }

    /// Tells apart what is to be written with the commit of this number and what the ledger has an answer for.
    pub(super) fn sort(&self, group: Vec<Unit>, ahead: &mut Ahead, commit: u64) -> Sorted {
        let mut sorted = Sorted::default();
        if group.iter().all(|unit| unit.keyed.is_none()) {
            return Sorted { here: group, ..sorted };
        }
        let ledger = self.ledger.lock();
        let mut draft = Draft::new(&ledger, ahead, commit, now());
        for unit in group {
            let Some(keyed) = &unit.keyed else {
                sorted.here.push(unit);
                continue;
            };
            match draft.place(keyed, &unit.target.table.to_string(), unit.rows as u64) {
                Ok(Placed::Here) => sorted.here.push(unit),
                Ok(Placed::Later) => sorted.later.push(unit),
                Ok(Placed::Older) => sorted.older.push(unit),
                Ok(Placed::Known(committed)) => {
                    let outcome = compare(keyed, committed, ledger.expected(&keyed.key.loader));
                    sorted.settled.push((unit, outcome));
                }
                Err(error) => sorted.settled.push((unit, Err(error))),
            }
        }
        sorted.entries = draft.into_entries();
        sorted
    }

    /// Answers those that need no commit.
    pub(super) fn settle_sorted(&mut self, sorted: &mut Sorted) {
        sorted.settled.drain(..).for_each(|(unit, outcome)| self.settle(unit, outcome));
        sorted.older.drain(..).for_each(|unit| self.settle_older(unit));
    }

    /// Takes the ledger as it is on disk; for a database that was opened again, or is reached again.
    pub(crate) fn read_ledger(&mut self) -> Result<()> {
        let mut fresh = self.storage.load()?;
        let mut ledger = self.ledger.lock();
        fresh.keep_counts_of(&ledger);
        *ledger = fresh;
        // What was in doubt may have been committed, under the number that would come next.
        self.commits = self.commits.max(ledger.highest_commit());
        Ok(())
    }

    /// Whether a unit seems to come too early: those before it may have reached another server.
    fn leaves_gap(&self, group: &[Unit]) -> bool {
        if !self.storage.is_shared() {
            return false;
        }
        let ledger = self.ledger.lock();
        let mut ahead = Ahead::default();
        let mut draft = Draft::new(&ledger, &mut ahead, self.commits + 1, now());
        let mut gap = |keyed: &Keyed| matches!(draft.place(keyed, "", 0), Err(Error::SequenceGap { .. }));
        group.iter().filter_map(|unit| unit.keyed.as_ref()).any(&mut gap)
    }

    /// Takes in what others have committed.
    pub(crate) fn catch_up(&mut self) -> Result<()> {
        self.commits = self.commits.max(self.storage.catch_up(&self.ledger)?);
        Ok(())
    }

    /// One transaction, again while it meets conflicts.
    fn try_commit(&mut self, units: &[Unit], entries: &[Entry]) -> Result<(), Failure> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.storage.commit(units, entries) {
                Err(failure) if failure.is_conflict() && tries < CONFLICT_TRIES => {
                    tracing::debug!(tries, error = %failure.error, "ingest met a conflict and is tried again");
                }
                outcome => return outcome,
            }
        }
    }

    /// Takes what has just been committed into the ledger.
    pub(super) fn record(&mut self, entries: Vec<Entry>) {
        self.commits += 1;
        self.ledger.lock().record_all(entries);
    }

    /// Answers a unit that needs no commit.
    fn settle(&mut self, unit: Unit, outcome: Result<Committed>) {
        match outcome {
            Ok(committed) => {
                if let Some(keyed) = &unit.keyed {
                    self.ledger.lock().count_duplicate(&keyed.key.loader);
                }
                let _ = unit.answer.send(Ok(Ack::of_duplicate(committed, unit.bytes as u64)));
            }
            Err(error) => {
                log_refusal(&unit, &error);
                let _ = unit.answer.send(Err(error));
            }
        }
    }

    fn settle_older(&mut self, unit: Unit) {
        let Some(keyed) = unit.keyed.clone() else { return };
        let outcome = self.storage.look_up(&keyed.key).and_then(|known| self.judge_older(&keyed, known));
        self.settle(unit, outcome);
    }

    fn judge_older(&self, keyed: &Keyed, known: Option<Committed>) -> Result<Committed> {
        let expected = self.ledger.lock().expected(&keyed.key.loader);
        compare_older(keyed, known, expected)
    }

    fn refuse(&mut self, unit: Unit, error: &Error) {
        log_refusal(&unit, error);
        // What is nobody's fault in particular sets nobody apart.
        if may_be_of_one(error) {
            self.apart.set(unit.loader);
        }
        let _ = unit.answer.send(Err(error.clone()));
    }
}

fn log_refusal(unit: &Unit, error: &Error) {
    unit.span.in_scope(|| tracing::debug!(table = %unit.target.table, %error, "refused a unit"));
}

/// The parts of a group that failed, the last to be tried first in the list: around the culprit, so that its own
/// error is what it is told, or else two halves.
fn divided(mut group: Vec<Unit>, culprit: Option<usize>) -> Vec<Vec<Unit>> {
    let parts = match culprit {
        Some(index) => {
            let after = group.split_off(index + 1);
            let culprit = group.split_off(index);
            vec![after, culprit, group]
        }
        None => {
            let later = group.split_off(group.len() / 2);
            vec![later, group]
        }
    };
    parts.into_iter().filter(|part| !part.is_empty()).collect()
}

/// Microseconds since 1970.
pub(super) fn now() -> i64 {
    micros(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::engine::{
        IngestKey,
        ledger::Ledger,
        writer::{BulkCommit, model_tests::unit},
    };

    /// A storage that has its times over at units for the table `slow`, which it knows from the first of them on. A unit is
    /// known by its bytes.
    #[derive(Default)]
    struct Slow {
        is_known: bool,
        late: usize,
        committed: Vec<Vec<usize>>,
    }

    fn is_for_slow(unit: &Unit) -> bool {
        unit.target.table.table == "slow"
    }

    impl Storage for Slow {
        fn commit(&mut self, units: &[Unit], _: &[Entry]) -> Result<(), Failure> {
            if units.iter().any(is_for_slow) {
                self.is_known = true;
                self.late += 1;
                return Err(Failure::whole(Error::IngestTimeout {
                    table: "slow".into(),
                    limit: Default::default(),
                }));
            }
            self.committed.push(units.iter().map(|unit| unit.bytes).collect());
            Ok(())
        }

        fn commit_bulk(&mut self, _: &BulkCommit, _: &[Entry]) -> Result<(), Failure> {
            unreachable!("there is none")
        }

        fn is_slow(&self, unit: &Unit) -> bool {
            self.is_known && is_for_slow(unit)
        }

        fn look_up(&mut self, _: &IngestKey) -> Result<Option<Committed>> {
            Ok(None)
        }

        fn load(&mut self) -> Result<Ledger> {
            Ok(Ledger::default())
        }
    }

    #[test]
    fn others_do_not_wait_for_units_of_a_slow_table_and_what_is_of_their_loaders_does() {
        let mut committer = Committer::new(Slow::default(), SharedLedger::default());
        let send = |number: usize, loader: u64, table: &str| {
            let mut unit = unit(number, 1, loader, None, oneshot::channel().0);
            unit.target.table.table = table.to_owned();
            unit
        };
        let group = vec![
            send(1, 1, "a"),
            send(2, 2, "slow"),
            send(3, 2, "a"),
            send(4, 3, "slow"),
            send(5, 4, "b"),
            send(6, 2, "b"),
        ];
        assert!(committer.commit_all(vec![group]).is_ok());
        let Slow { late, committed, .. } = &committer.storage;
        // The whole group, and each of the two alone.
        assert_eq!((*late, committed), (3, &vec![vec![1, 5], vec![3], vec![6]]));
        assert!([2, 3].into_iter().all(|loader| committer.is_apart(loader)));
    }
}
