//! Prepared statements: their text and the parameters bound last. The plan itself is made anew for each
//! execution, because an old plan answers wrongly over new data.

use std::time::Duration;

use arrow_array::RecordBatch;

use super::{expiring::Expiring, new_handle};
use crate::engine::Statement;

/// Statements that are kept at once.
const CAPACITY: usize = 10_000;
/// A statement that is not used for so long is forgotten.
pub(crate) const IDLE: Duration = Duration::from_secs(3600);

/// A prepared statement.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    /// The text, and the parameters bound last.
    pub(crate) statement: Statement,
    /// The session that may use it.
    pub(crate) session: Vec<u8>,
    /// The transaction it was prepared in; empty for none.
    pub(crate) transaction: Vec<u8>,
}

/// Prepared statements by handle.
pub(crate) struct PreparedStatements {
    statements: Expiring<Prepared>,
}

impl Default for PreparedStatements {
    fn default() -> Self {
        Self { statements: Expiring::new(CAPACITY, IDLE) }
    }
}

impl PreparedStatements {
    /// Remembers a statement and returns its handle.
    pub(crate) fn insert(&self, statement: Prepared) -> Result<Vec<u8>, getrandom::Error> {
        let handle = new_handle()?;
        self.statements.insert(handle.clone(), statement);
        Ok(handle)
    }

    /// The statement with its parameters, if it belongs to the session.
    pub(crate) fn get(&self, handle: &[u8], session: &[u8]) -> Option<Prepared> {
        self.statements.get(handle).filter(|prepared| prepared.session == session)
    }

    /// Replaces the parameters; false when the session has no such statement.
    pub(crate) fn bind(&self, handle: &[u8], session: &[u8], parameters: Option<RecordBatch>) -> bool {
        let bound = self.statements.update(handle, |prepared| {
            let ours = prepared.session == session;
            if ours {
                prepared.statement.parameters = parameters;
            }
            ours
        });
        bound.unwrap_or(false)
    }

    /// Forgets a statement of the session.
    pub(crate) fn remove(&self, handle: &[u8], session: &[u8]) {
        if self.get(handle, session).is_some() {
            self.statements.remove(handle);
        }
    }
}
