//! What an operator ends on the server.

use crate::{Client, Error};

impl Client {
    /// Ends a statement of any session, by its id in `merganser_statements()`. Its client gets `CANCELLED`.
    ///
    /// # Errors
    /// [`Error::Server`] with the reason: no such statement runs, or it is an upload that is being committed.
    pub async fn cancel_statement(&self, id: u64) -> Result<(), Error> {
        self.execute(&format!("CANCEL STATEMENT {id}")).await.map(drop)
    }

    /// Takes from a session all that it has, by its number in `merganser_sessions()`: its statements end, its
    /// transactions are rolled back, its temporary tables are gone. Its client is told `SESSION_CLOSED`.
    ///
    /// # Errors
    /// [`Error::Server`] where there is no such session.
    pub async fn close_session(&self, session: u64) -> Result<(), Error> {
        self.execute(&format!("CLOSE SESSION {session}")).await.map(drop)
    }
}
