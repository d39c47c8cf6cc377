//! What a transaction begins and ends with, planned once a connection: as texts they cost every small statement a tenth
//! of a millisecond each.

use super::ffi::{Class, Connection, DuckError, Prepared};

/// The two statements; planned when they are needed first.
pub(crate) struct TransactionStatements {
    begin: &'static str,
    end: &'static str,
    planned: Option<(Prepared, Prepared)>,
}

impl TransactionStatements {
    /// Of a transaction that ends with COMMIT.
    pub(crate) fn of_write() -> Self {
        Self { begin: "BEGIN TRANSACTION", end: "COMMIT", planned: None }
    }

    /// Of one that only reads, and ends with ROLLBACK whatever has become of it.
    pub(crate) fn of_read() -> Self {
        Self { begin: "BEGIN TRANSACTION READ ONLY", end: "ROLLBACK", planned: None }
    }

    /// Begins on the connection, which is always the same one.
    pub(crate) fn begin(&mut self, connection: &Connection) -> Result<(), DuckError> {
        let plan = |sql| connection.extract(sql)?.prepare(0);
        let planned = match self.planned.take() {
            Some(planned) => planned,
            None => (plan(self.begin)?, plan(self.end)?),
        };
        self.planned.insert(planned).0.run()
    }

    /// Ends what was begun.
    pub(crate) fn end(&self) -> Result<(), DuckError> {
        match &self.planned {
            Some((_, end)) => end.run(),
            None => Err(DuckError::new(Class::Other, "no transaction was begun on the connection")),
        }
    }
}
