//! How far the pipelines have come that write to a catalog: a table there, which changes in the transactions of their
//! rows.

use super::sheet::{Columns, Sheet, text_at, text_sql};
use crate::engine::{Result, ffi::Connection};

/// The table's name, beside the ledger.
pub(super) const TABLE: &str = "jobs";
/// Its columns. `begun_at` and `held_until` are what the [`roster`](super::roster) has now; servers of the version
/// before look for them.
pub(super) const COLUMNS: &Columns = &[
    ("job", "VARCHAR"),
    ("changes", "BIGINT"),
    ("begun_at", "BIGINT"),
    ("held_until", "BIGINT"),
    ("watermark", "VARCHAR"),
];

/// The table in one catalog.
pub(super) struct Book(Sheet);

impl Book {
    pub(super) fn of(catalog: &str) -> Self {
        Self(Sheet::of(catalog, TABLE, COLUMNS))
    }

    pub(super) fn sheet(&self) -> &Sheet {
        &self.0
    }

    /// Makes the table where it is not there yet.
    pub(super) fn ensure(&self, connection: &Connection) -> Result<()> {
        self.0.ensure(connection, || Ok(String::new()))
    }

    /// How far a pipeline has come, as text; nowhere while the table is not there.
    pub(super) fn read(&self, connection: &Connection, job: &str) -> Result<Option<String>> {
        if !self.0.is_there(connection)? {
            return Ok(None);
        }
        let rows = self.0.rows(connection, "watermark", Some(job))?;
        Ok(rows.iter().filter(|batch| batch.num_rows() > 0).find_map(|batch| text_at(batch, 0, 0)))
    }

    /// Writes it down, in the transaction that is open.
    pub(super) fn write(&self, connection: &Connection, job: &str, watermark: &str) -> Result<()> {
        self.0.write(connection, job, &[("watermark", text_sql(Some(watermark)))])
    }

    /// A transaction in which it is written down, with the rows, where no writer of a catalog has one.
    pub(super) fn transaction(
        &self,
        connection: &Connection,
        work: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        self.0.transaction(connection, work)
    }
}
