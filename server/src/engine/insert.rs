//! Rows into a table by statements that are planned once.
//!
//! To plan an INSERT takes as long as to insert a few hundred rows, and an appender plans one with each flush. Loaders
//! repeat their schemas with every unit, so the writer's connections keep what they have planned, until a schema changes:
//! then DuckDB would plan anew by itself, but with every run. No statistics in such a plan can be stale, because all that
//! it reads are the rows on offer.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use super::{
    catalog::FullName,
    ffi::{Connection, DuckError, Offer, Prepared, SCAN_FUNCTION, ScanRegistry, slices},
};
use crate::sql::quote;

/// Rows that one statement inserts at the most, well under a row group: a parallel INSERT of a row group or more
/// (122,880 rows) shows its rows to readers before its COMMIT has returned (seen in DuckDB 1.5.5). An appender does
/// not, as long as rows keep their order; ingest connections see to that.
pub(crate) const INSERT_ROWS: usize = 60_000;
/// Statements that are kept planned.
const REMEMBERED: usize = 16;

/// Where rows go, and how.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    /// The table.
    pub(crate) table: FullName,
    /// The columns that the rows carry, in their order; the others get their defaults.
    pub(crate) columns: Vec<String>,
    /// Whether the rows must be cast to the table's types.
    pub(crate) casts: bool,
}

/// The statements of one connection, the last used first.
#[derive(Default)]
pub(crate) struct Inserts {
    known: Vec<Insert>,
}

/// Inserts rows of one schema into one target.
struct Insert {
    target: Target,
    schema: SchemaRef,
    statement: Prepared,
    rows: Offer,
}

impl Inserts {
    /// Inserts batches of one schema, in the transaction that is open on the connection, or else one for every
    /// [`INSERT_ROWS`] rows. Columns are cast where they have to be. Constraints are checked here.
    pub(crate) fn insert<'a>(
        &mut self,
        connection: &Connection,
        scans: &Arc<ScanRegistry>,
        (target, schema): (&Target, &SchemaRef),
        batches: impl Iterator<Item = &'a RecordBatch>,
    ) -> Result<(), DuckError> {
        self.plan(connection, scans, (target, schema))?;
        self.known[0].take(batches.flat_map(slices))
    }

    /// Makes the statement the last used one, and plans it where that has not been done. Changes nothing else.
    pub(crate) fn plan(
        &mut self,
        connection: &Connection,
        scans: &Arc<ScanRegistry>,
        (target, schema): (&Target, &SchemaRef),
    ) -> Result<(), DuckError> {
        let known = self.known.iter().position(|known| known.target == *target && known.schema == *schema);
        if let Some(at) = known {
            self.known[..=at].rotate_right(1);
        } else {
            let insert = Insert::plan(connection, scans, target, schema)?;
            self.known.truncate(REMEMBERED - 1);
            self.known.insert(0, insert);
        }
        Ok(())
    }
}

impl Insert {
    fn plan(
        connection: &Connection,
        scans: &Arc<ScanRegistry>,
        target: &Target,
        schema: &SchemaRef,
    ) -> Result<Self, DuckError> {
        let rows = scans.offer(connection, schema)?;
        let columns: Vec<_> = target.columns.iter().map(|column| quote(column)).collect();
        let sql = format!(
            "INSERT INTO {} ({}) FROM {SCAN_FUNCTION}({}::UBIGINT)",
            target.table.sql(),
            columns.join(", "),
            rows.key()
        );
        let statement = connection.extract(&sql)?.prepare(0)?;
        Ok(Self { target: target.clone(), schema: Arc::clone(schema), statement, rows })
    }

    fn take(&self, slices: impl Iterator<Item = RecordBatch>) -> Result<(), DuckError> {
        let mut slices = slices.peekable();
        let mut outcome = Ok(());
        while outcome.is_ok() && slices.peek().is_some() {
            let mut room = INSERT_ROWS;
            let part = std::iter::from_fn(|| {
                let slice = slices.next_if(|slice| slice.num_rows() <= room)?;
                room -= slice.num_rows();
                Some(slice)
            });
            self.rows.replace(part);
            outcome = self.statement.run();
        }
        // Nothing holds on to what has been inserted.
        self.rows.clear();
        outcome
    }
}
