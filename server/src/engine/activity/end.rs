//! `CANCEL STATEMENT` and `CLOSE SESSION`.

use super::{Activity, current};
use crate::{
    engine::{Engine, Error, Outcome, Result},
    sql,
};

impl Engine {
    /// Ends what is asked. It is told to stop, and not waited for.
    ///
    /// # Errors
    /// [`Error::StatementMissing`], [`Error::StatementCommits`], [`Error::SessionMissing`].
    pub(in crate::engine) fn end_asked(&self, asked: sql::Ending) -> Result<Outcome> {
        let activity = &self.shared.database.activity;
        match asked {
            sql::Ending::Statement(id) => activity.cancel(id)?,
            sql::Ending::Session(number) => activity.close(number)?,
        }
        Ok(Outcome::Changed(1))
    }
}

impl Activity {
    fn cancel(&self, id: u64) -> Result<()> {
        let statement = self.find(id).ok_or(Error::StatementMissing(id))?;
        log("a statement is ended by an operator", Some(id), statement.caller.session);
        if statement.end() { Ok(()) } else { Err(Error::StatementCommits(id)) }
    }

    /// The session is told to let go of what it has before its statements end, so that none that comes next still finds
    /// it.
    fn close(&self, number: u64) -> Result<()> {
        let closed = self.directory.get().is_some_and(|sessions| sessions.close(number));
        if !closed {
            return Err(Error::SessionMissing(number));
        }
        log("a session is closed by an operator", None, Some(number));
        let own = current().map(|statement| statement.id);
        let of_it = |id, session| session == Some(number) && Some(id) != own;
        for statement in self.all() {
            if of_it(statement.id, statement.caller.session) {
                statement.end();
            }
        }
        Ok(())
    }
}

/// Says who has ended what.
fn log(what: &'static str, query_id: Option<u64>, session: Option<u64>) {
    let by = current();
    let by_user = by.as_ref().and_then(|statement| statement.caller.user.as_deref());
    let by_query_id = by.as_ref().map(|statement| statement.id);
    tracing::info!(query_id, session, by_query_id, by_user, "{what}");
}
