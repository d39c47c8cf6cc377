//! Groups that overlap: the next one is appended while the one before it commits.
//!
//! It is judged as if the group before it were committed, in a transaction that has not seen it. That is a bet, which
//! is nearly always won: where anything goes wrong, what is under way is waited for, the transaction rolled back, and
//! the units are committed one group after the other, which finds out who is to blame.

use super::{
    Unit,
    committer::{Committer, Sorted},
    doubt::Doubt,
    group::{Group, OpenGroup},
    storage::Overlapping,
    syncer::{Failed, Syncer},
};
use crate::engine::ledger::Ahead;

/// Fewer units than these are committed by the writer's thread, where nothing is under way: to hand a small group over
/// costs more than the overlap gains (8 loaders with keys on two cores that have nothing else to do: 560 against 740
/// units/s). Tests overlap all.
const WORTH_HANDING_OVER: usize = if cfg!(test) { 1 } else { 16 };

/// Commits groups to one storage, two at a time.
pub(super) struct Pipeline<S, Y> {
    pub(super) committer: Committer<S>,
    pub(super) syncer: Y,
    /// Where loaders stand once what is under way is committed.
    ahead: Ahead,
}

impl<S: Overlapping, Y: Syncer<S::Transaction>> Pipeline<S, Y> {
    pub(super) fn new(committer: Committer<S>, syncer: Y) -> Self {
        Self { committer, syncer, ahead: Ahead::default() }
    }

    /// Takes units, to be committed behind those before them; `queued` says that they have waited for the writer. Each
    /// is answered in the end, unless the database has to be opened again first.
    pub(super) fn take(&mut self, units: Vec<Unit>, queued: bool) -> Result<(), Doubt> {
        if self.is_better_alone(&units, queued) {
            return self.in_turn(vec![units]);
        }
        let Some(mut open) = self.open() else { return self.in_turn(vec![units]) };
        let mut sorted = self.committer.sort(units, &mut self.ahead, open.group.commit);
        self.committer.settle_sorted(&mut sorted);
        let Sorted { here, entries, later, .. } = sorted;
        let appended = self.committer.storage.append(&mut open.transaction, &here, &entries);
        open.group.units.extend(here);
        open.group.entries.extend(entries);
        if let Err(failure) = appended {
            tracing::debug!(error = %failure.error, "a group is undone and committed in turn");
            let units = self.undo(open).units;
            return self.in_turn(vec![units, later]);
        }
        if open.group.units.is_empty() {
            self.undo(open);
        } else {
            self.syncer.offer(open);
        }
        if later.is_empty() { Ok(()) } else { self.in_turn(vec![later]) }
    }

    /// Waits until nothing is under way.
    pub(super) fn drain(&mut self) -> Result<(), Doubt> {
        self.in_turn(Vec::new())
    }

    /// What must not overlap, or gains nothing by it: rows without keys append and commit in one call, and a loader that
    /// nobody else competes with would only wait for another thread.
    fn is_better_alone(&mut self, units: &[Unit], queued: bool) -> bool {
        let is_plain = units.iter().all(|unit| unit.keyed.is_none());
        self.syncer.has_failed()
            || ((is_plain || !queued || units.len() < WORTH_HANDING_OVER) && self.syncer.is_idle())
            || units.first().is_some_and(|first| self.committer.runs_alone(first))
    }

    /// The group that waits, or else a new one.
    fn open(&mut self) -> Option<OpenGroup<S::Transaction>> {
        if let Some(open) = self.syncer.withdraw() {
            return Some(open);
        }
        let transaction = self.committer.storage.begin()?;
        self.committer.commits += 1;
        Some(OpenGroup { transaction, group: Group::new(self.committer.commits) })
    }

    /// Rolls back the group that was opened last, and gives its number to the next.
    fn undo(&mut self, open: OpenGroup<S::Transaction>) -> Group {
        let group = open.roll_back();
        self.committer.commits = group.commit - 1;
        group
    }

    /// Commits groups one after the other, behind what is under way.
    fn in_turn(&mut self, groups: Vec<Vec<Unit>>) -> Result<(), Doubt> {
        let mut stack: Vec<_> = groups.into_iter().rev().collect();
        let failed = self.syncer.settle();
        self.ahead = Ahead::default();
        let Some(Failed { group, failure, behind }) = failed else { return self.committer.commit_all(stack) };
        stack.extend(behind.map(|behind| self.undo(behind).units));
        self.committer.commits = group.commit - 1;
        if failure.is_in_doubt() {
            return Err(Doubt::new(failure.error, group.units, stack));
        }
        tracing::debug!(error = %failure.error, "a group was not committed and is committed in turn");
        stack.push(group.units);
        self.committer.commit_all(stack)
    }
}
