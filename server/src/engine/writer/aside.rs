//! Commands that wait aside: units of loaders that are apart, and what has to keep its order behind them.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    iter,
};

use super::command::Command;
use crate::engine::{ingest::Whose, ledger::Keyed};

/// Those that keep their order among each other.
type Lane = VecDeque<Command>;

/// Lanes take turns, so that a loader with many units aside holds up no other that has some.
#[derive(Default)]
pub(super) struct Aside {
    lanes: VecDeque<Lane>,
    /// How many are here of each.
    counts: HashMap<Whose, usize>,
}

impl Aside {
    /// Whether a command must not overtake one that is here.
    pub(super) fn is_before(&self, command: &Command) -> bool {
        !self.counts.is_empty() && whose(command).any(|whose| self.counts.contains_key(&whose))
    }

    /// Has a command wait behind all that it must not overtake.
    pub(super) fn add(&mut self, command: Command) {
        let its: Vec<_> = whose(&command).collect();
        let is_first = !self.is_before(&command);
        its.iter().for_each(|whose| *self.counts.entry(whose.clone()).or_default() += 1);
        if is_first {
            return self.lanes.push_back(Lane::from([command]));
        }
        let is_of_its = |lane: &Lane| lane.iter().rev().any(|one| whose(one).any(|one| its.contains(&one)));
        // Usually it is one lane. Several become one, in the place of the first.
        let (mut lane, mut place, mut others) = (Lane::new(), None, VecDeque::new());
        for other in self.lanes.drain(..) {
            if is_of_its(&other) {
                place.get_or_insert(others.len());
                lane.extend(other);
            } else {
                others.push_back(other);
            }
        }
        lane.push_back(command);
        others.insert(place.unwrap_or_default(), lane);
        self.lanes = others;
    }

    /// The first of the lane whose turn it is.
    pub(super) fn take(&mut self) -> Option<Command> {
        let mut lane = self.lanes.pop_front()?;
        let command = lane.pop_front()?;
        self.forget(&command);
        if !lane.is_empty() {
            self.lanes.push_back(lane);
        }
        Some(command)
    }

    /// All of the lane whose turn it is, in order, where that is wanted by its first.
    pub(super) fn take_lane_if(&mut self, is_wanted: impl Fn(&Command) -> bool) -> Option<Lane> {
        if !self.lanes.front()?.front().is_some_and(is_wanted) {
            return None;
        }
        let lane = self.lanes.pop_front()?;
        lane.iter().for_each(|command| self.forget(command));
        Some(lane)
    }

    /// All that is here, each lane in order.
    pub(super) fn take_all(&mut self) -> impl DoubleEndedIterator<Item = Command> + use<> {
        self.counts.clear();
        std::mem::take(&mut self.lanes).into_iter().flatten()
    }

    fn forget(&mut self, command: &Command) {
        for whose in whose(command) {
            if let Entry::Occupied(mut count) = self.counts.entry(whose) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
    }
}

/// Whose a command is, where it keeps its order among theirs.
fn whose(command: &Command) -> Box<dyn Iterator<Item = Whose> + '_> {
    let of = |loader: u64, keyed: Option<&Keyed>| Whose::of(loader, keyed.map(|keyed| &keyed.key.loader));
    match command {
        Command::Unit(unit) => Box::new(of(unit.loader, unit.keyed.as_ref())),
        Command::Bulk(bulk) => {
            let parts = bulk.parts.iter().filter_map(|part| Some((part.loader?, part.keyed.as_ref())));
            Box::new(parts.flat_map(move |(loader, keyed)| of(loader, keyed)))
        }
        _ => Box::new(iter::empty()),
    }
}
