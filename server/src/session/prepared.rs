//! Prepared statements: their text and the parameters bound last. The plan itself is made anew for each
//! execution, because an old plan answers wrongly over new data.

use std::time::Duration;

use arrow_array::RecordBatch;

use super::{
    SessionError,
    directory::CountBySession,
    expiring::{Expiring, Full},
    new_handle,
    weight::bytes_kept,
};
use crate::engine::Statement;

/// Statements that are kept at once.
const CAPACITY: usize = 10_000;
/// Bytes of all of them, texts and parameters.
const BYTES: usize = 256 << 20;
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
    bytes: usize,
}

impl Default for PreparedStatements {
    fn default() -> Self {
        Self::of_bytes(BYTES)
    }
}

impl PreparedStatements {
    fn of_bytes(bytes: usize) -> Self {
        let weigh =
            |prepared: &Prepared| prepared.statement.sql.len() + bytes_kept(&prepared.statement.parameters);
        let statements = Expiring::weighing(CAPACITY, bytes, weigh, |prepared| &prepared.session, IDLE);
        Self { statements, bytes }
    }

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
    ///
    /// # Errors
    /// [`SessionError::ParametersFull`]: nobody's statement is forgotten for somebody else's parameters.
    pub(crate) fn bind(
        &self,
        handle: &[u8],
        session: &[u8],
        parameters: Option<RecordBatch>,
    ) -> Result<bool, SessionError> {
        let Some(mut prepared) = self.get(handle, session) else { return Ok(false) };
        prepared.statement.parameters = parameters;
        self.statements.replace(handle, prepared).map_err(|Full| SessionError::ParametersFull(self.bytes))
    }

    /// How many each session has.
    pub(super) fn count_by_session(&self) -> CountBySession {
        let mut counts = CountBySession::new();
        self.statements.each(|prepared| match counts.get_mut(&prepared.session) {
            Some(count) => *count += 1,
            None => {
                counts.insert(prepared.session.clone(), 1);
            }
        });
        counts
    }

    /// Forgets a statement of the session.
    pub(crate) fn remove(&self, handle: &[u8], session: &[u8]) {
        if self.get(handle, session).is_some() {
            self.statements.remove(handle);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array};

    use super::*;

    const SESSION: &[u8] = b"session";

    fn parameters(bytes: i64) -> Option<RecordBatch> {
        let value: ArrayRef = Arc::new(Int64Array::from_iter_values(0..bytes / 8));
        Some(RecordBatch::try_from_iter([("p", value)]).unwrap())
    }

    fn prepare(statements: &PreparedStatements) -> Vec<u8> {
        prepare_in(statements, SESSION, "SELECT ?".to_owned())
    }

    fn prepare_in(statements: &PreparedStatements, session: &[u8], sql: String) -> Vec<u8> {
        let statement = Statement::new(sql);
        let prepared = Prepared { statement, session: session.to_vec(), transaction: Vec::new() };
        statements.insert(prepared).unwrap()
    }

    #[test]
    fn a_session_with_more_than_its_share_pushes_out_its_own_first() {
        const OTHER: &[u8] = b"other";
        let kept = |bytes: usize, texts: usize, length: usize| {
            let statements = PreparedStatements::of_bytes(bytes);
            let other = prepare_in(&statements, OTHER, "SELECT 1".to_owned());
            let own: Vec<_> =
                (0..texts).map(|_| prepare_in(&statements, SESSION, "x".repeat(length))).collect();
            assert!(statements.get(&other, OTHER).is_some(), "{texts} texts of {length}");
            own.iter().filter(|handle| statements.get(handle, SESSION).is_some()).count()
        };
        assert_eq!(kept(1_000, 30, 100), 9, "by their bytes");
        assert_eq!(kept(BYTES, CAPACITY + 10, 1), CAPACITY - 1, "by their number");
        // What fits beside nothing is kept all the same, alone.
        let statements = PreparedStatements::of_bytes(1_000);
        let other = prepare_in(&statements, OTHER, "SELECT 1".to_owned());
        let heavy = prepare_in(&statements, SESSION, "x".repeat(1_000));
        assert!(statements.get(&other, OTHER).is_none() && statements.get(&heavy, SESSION).is_some());
    }

    #[test]
    fn parameters_of_all_statements_are_bounded_and_closing_one_makes_room() {
        let statements = PreparedStatements::of_bytes(10_000);
        let handles: Vec<_> = (0..5).map(|_| prepare(&statements)).collect();
        let bind = |handle: &[u8], bytes| statements.bind(handle, SESSION, parameters(bytes));
        for handle in &handles[..2] {
            assert!(bind(handle, 4_000).unwrap());
        }
        assert!(matches!(bind(&handles[2], 4_000), Err(SessionError::ParametersFull(10_000))));
        assert!(statements.get(&handles[2], SESSION).unwrap().statement.parameters.is_none());
        // Others for the same statement take the place of those before.
        assert!(bind(&handles[1], 4_000).unwrap());
        assert!(bind(&handles[3], 100).unwrap());
        statements.remove(&handles[0], SESSION);
        assert!(bind(&handles[2], 4_000).unwrap());
        assert!(handles[1..].iter().all(|handle| statements.get(handle, SESSION).is_some()));
        assert!(!statements.bind(&handles[0], SESSION, None).unwrap());
    }
}
