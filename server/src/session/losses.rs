//! What a session has lost, until its client knows: what that sends next may rely on it.
//!
//! Of temporary tables and settings it is told once. A transaction is more: whatever is sent until its client has ended
//! it was meant to be undone together with what is gone, so that nothing of it may run by itself.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use super::SessionError;
use crate::{
    engine::Error,
    sql::{Control, controls},
};

/// So many sessions that are not known any more one may have been taken for.
const MAX_FORGOTTEN: usize = 256;

/// Why something of a session is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// The instance of the database has failed.
    Failure,
    /// An operator has closed the session.
    Closed,
    /// Nobody has used it for so long.
    Unused(Duration),
    /// The server has rolled its transaction back, and another was begun since.
    RolledBack,
    /// Nobody knows it any more: the server was started again, or has forgotten it.
    Forgotten,
}

impl From<Loss> for SessionError {
    fn from(loss: Loss) -> Self {
        match loss {
            Loss::Failure => Error::SessionLost.into(),
            Loss::Closed => Error::SessionClosed.into(),
            Loss::Unused(limit) => Self::Unused(limit),
            Loss::RolledBack => Error::TransactionLost(
                "the server has rolled the transaction back, because it rested for too long or its connection was lost; begin again"
                    .into(),
            )
            .into(),
            Loss::Forgotten => Self::Forgotten,
        }
    }
}

/// What is gone, as far as the client may still believe in it.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// Temporary tables and settings, of which it has not been told;
    state: Option<Loss>,
    /// the transaction that it has begun by SQL, and not ended;
    by_sql: Option<Loss>,
    /// and those by handle.
    by_handle: HashMap<Vec<u8>, Loss>,
    /// Nothing was begun since the last of those was lost: what names no transaction may be meant for one of them.
    holds_unnamed: bool,
    /// The sessions that its clients have taken this one for, and that were of a run before.
    forgotten: HashSet<Vec<u8>>,
    /// One of those had a transaction, and nothing was begun or ended since.
    holds_for_forgotten: bool,
}

impl Losses {
    /// Temporary tables and settings are gone.
    pub(super) fn lose_state(&mut self, loss: Loss) {
        self.state = Some(loss);
    }

    /// The transaction is gone that SQL has begun.
    pub(super) fn lose_transaction(&mut self, loss: Loss) {
        self.by_sql = Some(loss);
    }

    /// A transaction with a handle is gone.
    pub(super) fn lose_handle(&mut self, handle: Vec<u8>, loss: Loss) {
        self.by_handle.insert(handle, loss);
        self.holds_unnamed = true;
    }

    /// Its client believes to be in another session, which is not known any more. Of each it is told once, and for as long
    /// as it is in a transaction of that.
    pub(super) fn lose_session(&mut self, id: Vec<u8>, in_transaction: bool) {
        // Each comes with many requests. A client that makes them up is told more than once.
        if self.forgotten.len() == MAX_FORGOTTEN {
            self.forgotten.clear();
        }
        if self.forgotten.insert(id) {
            self.state = Some(Loss::Forgotten);
            self.holds_for_forgotten |= in_transaction;
        }
    }

    /// True while its client is in a transaction of a session that is not known any more.
    pub(super) fn is_in_forgotten_transaction(&self) -> bool {
        self.holds_for_forgotten
    }

    /// True when there is nothing that the client has to learn.
    pub(super) fn is_empty(&self) -> bool {
        self.state.is_none()
            && self.by_sql.is_none()
            && self.by_handle.is_empty()
            && !self.holds_for_forgotten
    }

    /// Handles of transactions that are gone and that their client has not ended.
    pub(super) fn handles(&self) -> usize {
        self.by_handle.len()
    }

    /// True for one of those.
    pub(super) fn has_handle(&self, handle: &[u8]) -> bool {
        self.by_handle.contains_key(handle)
    }

    /// Fails where a request relies on what is gone: a plan, or an upload. `handle` names the transaction that it
    /// belongs to, and may be empty.
    pub(super) fn tell(&mut self, handle: &[u8], sql: &str) -> Result<(), Loss> {
        if self.is_empty() {
            return Ok(());
        }
        self.tell_of(handle, controls(sql).first().copied().flatten())
    }

    /// The same for a statement that runs. True for one that has ended a transaction which is gone: there is nothing
    /// left to run of it.
    pub(super) fn tell_statement(&mut self, handle: &[u8], sql: &str) -> Result<bool, Loss> {
        if self.is_empty() {
            return Ok(false);
        }
        let controls = controls(sql);
        let first = controls.first().copied().flatten();
        self.tell_of(handle, first)?;
        match first.filter(|_| handle.is_empty()) {
            Some(Control::Begin { .. }) => self.begin_anew(),
            Some(Control::Commit) => {
                if let Some(loss) = self.by_sql.take() {
                    self.state = None;
                    return Err(loss);
                }
            }
            // Of a script the rest would run as well: DuckDB's word that no transaction is open ends it.
            Some(Control::Rollback) => return Ok(self.by_sql.take().is_some() && controls.len() == 1),
            None => {}
        }
        Ok(false)
    }

    /// A transaction is open, that what names none is meant for from now on.
    pub(super) fn begin_anew(&mut self) {
        self.by_sql = None;
        (self.holds_unnamed, self.holds_for_forgotten) = (false, false);
    }

    /// The answer to EndTransaction where the handle's transaction is gone. A rollback has what it wants.
    pub(super) fn end(&mut self, handle: &[u8], commit: bool) -> Option<Result<(), Loss>> {
        let loss = self.by_handle.remove(handle)?;
        self.holds_unnamed &= !self.by_handle.is_empty();
        if !commit {
            return Some(Ok(()));
        }
        // With this answer the client knows.
        self.state = None;
        Some(Err(loss))
    }

    /// The same where nobody knows the handle: whether that was of a session which is not known either.
    pub(super) fn end_forgotten(&mut self) -> bool {
        std::mem::take(&mut self.holds_for_forgotten)
    }

    fn tell_of(&mut self, handle: &[u8], first: Option<Control>) -> Result<(), Loss> {
        let ends = matches!(first, Some(Control::Commit | Control::Rollback));
        if ends && handle.is_empty() && self.by_sql.is_some() {
            return Ok(());
        }
        if let Some(loss) = self.state.take() {
            return Err(loss);
        }
        let begins = matches!(first, Some(Control::Begin { .. }));
        let relied_on = match handle {
            [] if begins => None,
            [] => self.by_sql.or_else(|| self.held()),
            handle => self.by_handle.get(handle).copied(),
        };
        relied_on.map_or(Ok(()), Err)
    }

    fn held(&self) -> Option<Loss> {
        let lost = self.by_handle.values().next().copied().filter(|_| self.holds_unnamed);
        lost.or(self.holds_for_forgotten.then_some(Loss::Forgotten))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSERT: &str = "INSERT INTO t VALUES (1)";
    const CLOSED: Loss = Loss::Closed;

    #[test]
    fn of_temporary_things_a_client_is_told_once() {
        let mut losses = Losses::default();
        assert_eq!(losses.tell_statement(b"", INSERT), Ok(false));
        losses.lose_state(CLOSED);
        assert_eq!(losses.tell_statement(b"", INSERT), Err(CLOSED));
        assert_eq!(losses.tell_statement(b"", INSERT), Ok(false));
        assert!(losses.is_empty());
    }

    #[test]
    fn nothing_runs_in_a_transaction_of_sql_until_it_is_ended() {
        let lost = || {
            let mut losses = Losses::default();
            losses.lose_transaction(CLOSED);
            losses
        };
        let mut losses = lost();
        for _ in 0..3 {
            assert_eq!(losses.tell_statement(b"", INSERT), Err(CLOSED));
            assert_eq!(losses.tell(b"", ""), Err(CLOSED), "an upload");
            assert_eq!(losses.tell(b"", "ROLLBACK"), Ok(()), "a plan of its end ends nothing");
        }
        assert_eq!(losses.tell_statement(b"", "rollback;"), Ok(true));
        assert_eq!(losses.tell_statement(b"", "ROLLBACK"), Ok(false), "there is none any more");
        assert_eq!(losses.tell_statement(b"", INSERT), Ok(false));

        let mut losses = lost();
        assert_eq!(losses.tell_statement(b"", "COMMIT; SELECT 1"), Err(CLOSED));
        assert_eq!(losses.tell_statement(b"", INSERT), Ok(false));
        assert_eq!(lost().tell_statement(b"", "ROLLBACK; SELECT 1"), Ok(false), "DuckDB refuses it");
        let mut losses = lost();
        assert_eq!(losses.tell_statement(b"", "BEGIN; INSERT INTO t VALUES (1)"), Ok(false));
        assert!(losses.is_empty());
    }

    #[test]
    fn a_rollback_says_nothing_of_temporary_tables_and_a_commit_that_fails_does() {
        for (end, after) in [("ROLLBACK", Err(CLOSED)), ("COMMIT", Ok(false))] {
            let mut losses = Losses::default();
            losses.lose_state(CLOSED);
            losses.lose_transaction(CLOSED);
            let _ = losses.tell_statement(b"", end);
            assert_eq!(losses.tell_statement(b"", INSERT), after, "{end}");
            assert_eq!(losses.tell_statement(b"", INSERT), Ok(false));
        }
    }

    #[test]
    fn who_takes_it_for_one_that_is_forgotten_is_told_once_or_until_it_ends_its_transaction() {
        const FORGOTTEN: Loss = Loss::Forgotten;
        let forgotten = |in_transaction| {
            let mut losses = Losses::default();
            losses.lose_session(b"s".to_vec(), in_transaction);
            assert_eq!(losses.tell_statement(b"", INSERT), Err(FORGOTTEN));
            losses.lose_session(b"s".to_vec(), in_transaction);
            losses
        };
        let mut losses = forgotten(false);
        assert_eq!(losses.tell(b"", ""), Ok(()), "once");
        losses.lose_session(b"another".to_vec(), false);
        losses.lose_session(b"s".to_vec(), false);
        assert_eq!(losses.tell(b"", ""), Err(FORGOTTEN));
        losses.lose_session(b"s".to_vec(), true);
        assert!(losses.is_empty(), "each is told once");

        let mut losses = forgotten(true);
        assert_eq!(losses.tell(b"", ""), Err(FORGOTTEN));
        assert_eq!(losses.tell_statement(b"", INSERT), Err(FORGOTTEN));
        assert!(losses.end_forgotten() && !losses.end_forgotten() && losses.is_empty());

        let mut losses = forgotten(true);
        losses.begin_anew();
        assert!(losses.is_empty() && !losses.end_forgotten());
    }

    #[test]
    fn what_names_no_transaction_is_held_back_until_the_lost_ones_are_ended_or_one_is_begun() {
        let lost = || {
            let mut losses = Losses::default();
            losses.lose_handle(b"a".to_vec(), CLOSED);
            losses.lose_handle(b"b".to_vec(), CLOSED);
            losses
        };
        let mut losses = lost();
        for handle in [&b"a"[..], b""] {
            assert_eq!(losses.tell_statement(handle, INSERT), Err(CLOSED));
            assert_eq!(losses.tell(handle, ""), Err(CLOSED));
        }
        assert_eq!(losses.tell_statement(b"c", INSERT), Ok(false), "another transaction goes on");
        assert_eq!(losses.end(b"a", true), Some(Err(CLOSED)));
        assert_eq!(losses.end(b"a", true), None);
        assert_eq!(losses.tell(b"", ""), Err(CLOSED));
        assert_eq!(losses.end(b"b", false), Some(Ok(())));
        assert!(losses.is_empty());

        let mut losses = lost();
        losses.begin_anew();
        assert_eq!(losses.tell(b"", ""), Ok(()));
        assert_eq!(losses.tell(b"a", ""), Err(CLOSED), "the old handle is good for nothing");
    }
}
