//! Rows into a table, inside the transaction that is open on a connection.
//!
//! DuckDB's appender takes chunks whose types are the table's. Where they differ (a BIGINT for an INTEGER,
//! a text for an ENUM or UUID) a statement inserts instead, and casts. Never more than [`INSERT_ROWS`] at
//! once: a parallel INSERT of a row group or more (122,880 rows) shows its rows to readers before its
//! COMMIT has returned (seen in DuckDB 1.5.5). The appender does not, as long as rows keep their order;
//! ingest connections see to that.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use super::{
    Result,
    catalog::FullName,
    ffi::{Appender, ArrowImport, Connection, DuckError, SCAN_FUNCTION, ScanRegistry, slices},
};
use crate::sql::quote;

/// Rows that one statement inserts at the most: well under a row group.
pub(crate) const INSERT_ROWS: usize = 60_000;
/// Schemas of which the import is remembered. Loaders repeat theirs with every unit.
const REMEMBERED_IMPORTS: usize = 16;

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

/// Imports by schema, the last used first.
#[derive(Default)]
pub(crate) struct Imports {
    known: Vec<(SchemaRef, Arc<ArrowImport>)>,
}

impl Imports {
    fn of(&mut self, connection: &Connection, schema: &SchemaRef) -> Result<Arc<ArrowImport>, DuckError> {
        if let Some(at) = self.known.iter().position(|(known, _)| known == schema) {
            self.known[..=at].rotate_right(1);
        } else {
            let import = Arc::new(ArrowImport::new(connection, schema)?);
            self.known.truncate(REMEMBERED_IMPORTS - 1);
            self.known.insert(0, (Arc::clone(schema), import));
        }
        Ok(Arc::clone(&self.known[0].1))
    }
}

/// Takes rows for one target. Drop it before ending the transaction with an error.
pub(crate) enum Sink<'a> {
    Append { connection: &'a Connection, appender: Appender },
    Insert { connection: &'a Connection, scans: &'a Arc<ScanRegistry>, statement: String },
}

impl<'a> Sink<'a> {
    pub(crate) fn open(
        connection: &'a Connection,
        scans: &'a Arc<ScanRegistry>,
        target: &Target,
    ) -> Result<Self, DuckError> {
        let FullName { catalog, schema, table } = &target.table;
        if target.casts {
            let columns: Vec<_> = target.columns.iter().map(|column| quote(column)).collect();
            let statement =
                format!("INSERT INTO {} ({}) FROM {SCAN_FUNCTION}", target.table.sql(), columns.join(", "));
            return Ok(Self::Insert { connection, scans, statement });
        }
        let appender = Appender::open(connection, (catalog, schema, table), Some(&target.columns))?;
        Ok(Self::Append { connection, appender })
    }

    /// Takes a batch.
    pub(crate) fn take(&self, imports: &mut Imports, batch: &RecordBatch) -> Result<(), DuckError> {
        match self {
            Self::Append { connection, appender } => {
                let import = imports.of(connection, batch.schema_ref())?;
                slices(batch).try_for_each(|slice| appender.append(&import.chunk(&slice)?))
            }
            Self::Insert { connection, scans, statement } => {
                (0..batch.num_rows()).step_by(INSERT_ROWS).try_for_each(|start| {
                    let part = batch.slice(start, INSERT_ROWS.min(batch.num_rows() - start));
                    let offer = scans.offer(connection, std::slice::from_ref(&part))?;
                    connection.execute(&format!("{statement}({}::UBIGINT)", offer.key())).map(|_| ())
                })
            }
        }
    }

    /// Moves everything into the transaction. Constraints are checked here.
    pub(crate) fn finish(self) -> Result<(), DuckError> {
        match self {
            Self::Append { appender, .. } => appender.flush(),
            Self::Insert { .. } => Ok(()),
        }
    }
}
