//! Prepared statements: their text and the parameters bound last. The plan itself is made anew for each
//! execution, because an old plan answers wrongly over new data.

use std::time::Duration;

use arrow_array::RecordBatch;

use super::{expiring::Expiring, new_handle};
use crate::engine::Statement;

/// Statements that are kept at once.
const CAPACITY: usize = 10_000;
/// A statement that is not used for so long is forgotten.
const IDLE: Duration = Duration::from_secs(3600);

/// Prepared statements by handle.
pub(crate) struct PreparedStatements {
    statements: Expiring<Statement>,
}

impl Default for PreparedStatements {
    fn default() -> Self {
        Self { statements: Expiring::new(CAPACITY, IDLE) }
    }
}

impl PreparedStatements {
    /// Remembers a statement and returns its handle.
    pub(crate) fn insert(&self, statement: Statement) -> Result<Vec<u8>, getrandom::Error> {
        let handle = new_handle()?;
        self.statements.insert(handle.clone(), statement);
        Ok(handle)
    }

    /// The statement with its parameters.
    pub(crate) fn get(&self, handle: &[u8]) -> Option<Statement> {
        self.statements.get(handle)
    }

    /// Replaces the parameters; false when the handle is unknown.
    pub(crate) fn bind(&self, handle: &[u8], parameters: Option<RecordBatch>) -> bool {
        self.statements.update(handle, |statement| statement.parameters = parameters).is_some()
    }

    /// Forgets a statement.
    pub(crate) fn remove(&self, handle: &[u8]) {
        self.statements.remove(handle);
    }
}
