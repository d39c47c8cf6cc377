//! Rows into a table while they arrive, inside the transaction that is open on a connection.
//!
//! DuckDB's appender takes chunks whose types are the table's. Where they differ (a BIGINT for an INTEGER,
//! a text for an ENUM or UUID) a statement inserts instead, and casts.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use super::{
    Result,
    catalog::FullName,
    ffi::{Appender, ArrowImport, Connection, DuckError, ScanRegistry, slices},
    insert::{Inserts, Target},
};

/// Takes rows for one target. Drop it before ending the transaction with an error.
pub(crate) enum Sink<'a> {
    Append {
        connection: &'a Connection,
        appender: Appender,
        /// How the rows enter, for the schema that they had last.
        import: Option<(SchemaRef, ArrowImport)>,
    },
    Insert {
        connection: &'a Connection,
        scans: &'a Arc<ScanRegistry>,
        target: Target,
        inserts: Inserts,
    },
}

impl<'a> Sink<'a> {
    pub(crate) fn open(
        connection: &'a Connection,
        scans: &'a Arc<ScanRegistry>,
        target: &Target,
    ) -> Result<Self, DuckError> {
        if target.casts {
            let (target, inserts) = (target.clone(), Inserts::default());
            return Ok(Self::Insert { connection, scans, target, inserts });
        }
        let FullName { catalog, schema, table } = &target.table;
        let appender = Appender::open(connection, (catalog, schema, table), Some(&target.columns))?;
        Ok(Self::Append { connection, appender, import: None })
    }

    /// Takes a batch.
    pub(crate) fn take(&mut self, batch: &RecordBatch) -> Result<(), DuckError> {
        let schema = batch.schema_ref();
        match self {
            Self::Append { connection, appender, import } => {
                let (_, import) = match import.take().filter(|(known, _)| known == schema) {
                    Some(known) => import.insert(known),
                    None => import.insert((Arc::clone(schema), ArrowImport::new(connection, schema)?)),
                };
                slices(batch).try_for_each(|slice| appender.append(&import.chunk(&slice)?))
            }
            Self::Insert { connection, scans, target, inserts } => {
                inserts.insert(connection, scans, (target, schema), std::iter::once(batch))
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
