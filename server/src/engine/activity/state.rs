//! What a statement is at: it works, or it waits, and for what.

use std::sync::Arc;

use super::{RunningStatement, current};

/// What a statement is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// DuckDB plans or runs it.
    Running,
    /// Rows of an upload come in.
    Receiving,
    /// It waits for one of the places of reads, or of planning.
    WaitsForPlace,
    /// It waits for the connection of its session, on which another statement runs.
    WaitsForSession,
    /// It waits for the turn to write.
    WaitsForTurn,
    /// It waits for a table that others append to, or that another one changes.
    WaitsForTable,
    /// It waits until the write-ahead log has been checkpointed.
    WaitsForLog,
    /// It waits for its client to take rows; or all of them are computed.
    Sending,
    /// An upload is complete, and waits for its commit.
    Committing,
}

/// By their numbers.
const ALL: [State; 9] = [
    State::Running,
    State::Receiving,
    State::WaitsForPlace,
    State::WaitsForSession,
    State::WaitsForTurn,
    State::WaitsForTable,
    State::WaitsForLog,
    State::Sending,
    State::Committing,
];

impl State {
    pub(super) fn of_number(number: u8) -> Self {
        ALL.get(usize::from(number)).copied().unwrap_or(Self::Running)
    }

    /// As people read it.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Receiving => "receiving rows",
            Self::WaitsForPlace => "waiting for a place to read",
            Self::WaitsForSession => "waiting for its session",
            Self::WaitsForTurn => "waiting for the turn to write",
            Self::WaitsForTable => "waiting for a table",
            Self::WaitsForLog => "waiting for the write-ahead log",
            Self::Sending => "sending rows",
            Self::Committing => "committing",
        }
    }
}

/// The statement that this task works for is at something else, until the guard is dropped. Nothing where it works for
/// none.
pub(crate) fn enter(state: State) -> StateOf {
    StateOf::of(current(), state)
}

/// What a statement is at for a while.
pub(crate) struct StateOf(Option<(Arc<RunningStatement>, State)>);

impl StateOf {
    /// The same of a statement that is known, if any is.
    pub(crate) fn of(statement: Option<Arc<RunningStatement>>, state: State) -> Self {
        Self(statement.map(|statement| {
            let before = statement.set_state(state);
            (statement, before)
        }))
    }
}

impl Drop for StateOf {
    fn drop(&mut self) {
        if let Some((statement, before)) = &self.0 {
            statement.set_state(*before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_its_number() {
        for (number, state) in ALL.into_iter().enumerate() {
            assert_eq!((state as usize, State::of_number(state as u8)), (number, state));
        }
    }
}
