//! What a transaction begins and ends with, planned once a connection: as texts they cost every small statement a tenth
//! of a millisecond each.

use super::ffi::{Connection, DuckError, Prepared};

/// The two statements.
pub(crate) struct Brackets {
    begin: Prepared,
    end: Prepared,
}

impl Brackets {
    /// Of a transaction that ends with COMMIT.
    pub(crate) fn of_write(connection: &Connection) -> Result<Self, DuckError> {
        Self::plan(connection, "BEGIN TRANSACTION", "COMMIT")
    }

    /// Of one that only reads, and ends with ROLLBACK whatever has become of it.
    pub(crate) fn of_read(connection: &Connection) -> Result<Self, DuckError> {
        Self::plan(connection, "BEGIN TRANSACTION READ ONLY", "ROLLBACK")
    }

    fn plan(connection: &Connection, begin: &str, end: &str) -> Result<Self, DuckError> {
        let plan = |sql| connection.extract(sql)?.prepare(0);
        Ok(Self { begin: plan(begin)?, end: plan(end)? })
    }

    pub(crate) fn begin(&self) -> Result<(), DuckError> {
        self.begin.run()
    }

    pub(crate) fn end(&self) -> Result<(), DuckError> {
        self.end.run()
    }
}
