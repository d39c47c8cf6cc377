//! What has come and waits for the writer, and what is taken next.
//!
//! A unit that is apart, because of its loader or its table, commits alone, so that in the line it would cut the group it stands in, and many
//! of them would hold up all others. So they wait aside, and one of them is taken for each group of the others. What
//! comes of their loader meanwhile waits behind them, whatever it is: so its order is kept. Once they are no longer
//! apart, they go back to the line.

use std::{collections::VecDeque, sync::mpsc};

use super::{Unit, aside::Aside, command::Command};

/// The writer's end of the queue.
#[derive(Default)]
pub(crate) struct Queue {
    /// In the order in which they came.
    line: VecDeque<Command>,
    aside: Aside,
    /// Something of the line was taken after the last one from aside.
    owes_aside: bool,
}

impl Queue {
    /// Adds what has come last.
    pub(crate) fn push(&mut self, command: Command) {
        self.line.push_back(command);
    }

    /// Adds all that has come.
    pub(crate) fn receive(&mut self, commands: &mpsc::Receiver<Command>) {
        self.line.extend(commands.try_iter());
    }

    /// Puts something back that was taken last.
    pub(crate) fn put_back(&mut self, command: Command) {
        self.line.push_front(command);
    }

    /// Puts units back that were taken before all that waits. What is aside goes back behind them, and before what is
    /// in the line, where it comes from.
    pub(crate) fn put_back_all(&mut self, units: Vec<Unit>) {
        let units = units.into_iter().map(|unit| Command::Unit(Box::new(unit)));
        let before: Vec<_> = units.chain(self.aside.take_all()).collect();
        before.into_iter().rev().for_each(|command| self.line.push_front(command));
    }

    /// The next command. A stop waits until nothing is aside.
    pub(crate) fn next(&mut self, is_apart: impl Fn(&Unit) -> bool) -> Option<Command> {
        let is_apart = |command: &Command| stands_aside(command, &is_apart);
        while let Some(lane) = self.aside.take_lane_if(|first| !is_apart(first)) {
            lane.into_iter().rev().for_each(|command| self.line.push_front(command));
        }
        self.set_aside(is_apart);
        let is_last = matches!(self.line.front(), None | Some(Command::Shutdown(_)));
        if (self.owes_aside || is_last)
            && let Some(command) = self.aside.take()
        {
            self.owes_aside = false;
            return Some(command);
        }
        self.owes_aside = true;
        self.line.pop_front()
    }

    /// The next command of the line, where it is a unit that may be committed together with others.
    pub(crate) fn next_to_join(&mut self, is_apart: impl Fn(&Unit) -> bool) -> Option<Unit> {
        self.set_aside(|command| stands_aside(command, &is_apart));
        match self.line.pop_front()? {
            Command::Unit(unit) if unit.create.is_none() => Some(*unit),
            other => {
                self.line.push_front(other);
                None
            }
        }
    }

    /// Whether nothing waits but what is aside.
    pub(crate) fn line_is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// All that waits.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = Command> {
        self.aside.take_all().chain(self.line.drain(..))
    }

    /// Moves aside what is first in the line and belongs there.
    fn set_aside(&mut self, is_apart: impl Fn(&Command) -> bool) {
        let belongs = |next: &Command, aside: &Aside| is_apart(next) || aside.is_before(next);
        while self.line.front().is_some_and(|next| belongs(next, &self.aside))
            && let Some(command) = self.line.pop_front()
        {
            self.aside.add(command);
        }
    }
}

/// Whether a command is to wait aside: a unit that makes its table keeps its place, because it has the turn.
fn stands_aside(command: &Command, is_apart: impl Fn(&Unit) -> bool) -> bool {
    matches!(command, Command::Unit(unit) if unit.create.is_none() && is_apart(unit))
}
