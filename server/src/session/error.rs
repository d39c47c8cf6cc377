//! What can go wrong with a session.

use std::time::Duration;

use crate::{counted::counted, engine};

/// An error of a session, or of a statement in it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error(transparent)]
    Engine(#[from] engine::Error),
    #[error(
        "the session was not used for {}; its temporary tables, settings and open transactions are gone, begin again",
        humantime::format_duration(*.0)
    )]
    Unused(Duration),
    #[error(
        "the session is not known any more, because the server was started again or nobody has used it for long; its temporary tables, settings and open transactions are gone, begin again"
    )]
    Forgotten,
    #[error("the transaction is unknown: it has ended, or belongs to another session; begin a new one")]
    UnknownTransaction,
    #[error("the transaction was begun by the driver; commit it or roll it back there, not by SQL")]
    BegunByDriver,
    #[error("several transactions are open in this session; name the one that the statement belongs to")]
    WhichTransaction,
    #[error(
        "this request has no session: what SET, USE, BEGIN, PREPARE or CREATE TEMPORARY leaves behind would be gone with its answer; use Flight SQL for that"
    )]
    LeavesState,
    #[error("{0} transactions are open in this session; end some of them")]
    TooManyTransactions(usize),
    #[error(
        "{0} statements that were started by polling run in this session; wait for some to end, or cancel them"
    )]
    TooManyPolls(usize),
    #[error(
        "prepared statements and their parameters have {0} bytes already; close some, or try again in a moment"
    )]
    ParametersFull(usize),
    #[error(
        "rows that writes have returned (RETURNING), and that nobody has fetched, take all the room there is for them, so the statement has not run; fetch those, or try again in a moment"
    )]
    ResultsFull,
    #[error("no more than {} may be open; close some, or try again later", counted(*.0, "session"))]
    TooManySessions(usize),
}

impl From<getrandom::Error> for SessionError {
    fn from(error: getrandom::Error) -> Self {
        Self::Engine(engine::Error::Internal(error.to_string()))
    }
}
