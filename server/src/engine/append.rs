//! Rows into a table while they arrive, inside the transaction that is open on a connection.
//!
//! DuckDB's appender takes chunks whose types are the table's. Where they differ (a BIGINT for an INTEGER,
//! a text for an ENUM or UUID) a statement inserts instead, and casts.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use super::{
    Result,
    appends::{Appends, Load},
    catalog::FullName,
    ffi::{Appender, ArrowImport, Connection, DuckError, ScanRegistry, slices},
    insert::{Inserts, Target},
};

/// So many rows an appender may keep until it appends them all.
const KEPT_ROWS: usize = 204_800;

/// Takes rows for one target. Drop it before ending the transaction with an error.
pub(crate) struct Sink<'a> {
    way: Way<'a>,
    connection: &'a Connection,
    limits: Option<Limits<'a>>,
}

/// Where there is a limit to each step.
struct Limits<'a> {
    appends: &'a Appends,
    table: String,
}

enum Way<'a> {
    Append {
        appender: Appender,
        /// How the rows enter, for the schema that they had last.
        import: Option<(SchemaRef, ArrowImport)>,
    },
    Insert {
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
        let way = if target.casts {
            Way::Insert { scans, target: target.clone(), inserts: Inserts::default() }
        } else {
            let FullName { catalog, schema, table } = &target.table;
            let appender = Appender::open(connection, (catalog, schema, table), Some(&target.columns))?;
            Way::Append { appender, import: None }
        };
        Ok(Self { way, connection, limits: None })
    }

    /// The same with a limit to how long each step may take: the table is not of this upload alone, and may compute
    /// anything.
    pub(crate) fn within(self, appends: &'a Appends, table: &FullName) -> Self {
        Self { limits: Some(Limits { appends, table: table.to_string() }), ..self }
    }

    /// Takes a batch.
    pub(crate) fn take(&mut self, batch: &RecordBatch) -> Result<()> {
        let Self { way, connection, limits } = self;
        let (rows, bytes) = (batch.num_rows() + KEPT_ROWS, batch.get_array_memory_size());
        within(limits.as_ref(), connection, (rows, bytes), || way.take(connection, batch))
    }

    /// Moves everything into the transaction. Constraints are checked here.
    pub(crate) fn finish(self) -> Result<()> {
        let Self { way, connection, limits } = self;
        match way {
            Way::Append { appender, .. } => {
                within(limits.as_ref(), connection, (KEPT_ROWS, 0), || appender.flush())
            }
            Way::Insert { .. } => Ok(()),
        }
    }
}

/// What a step gives, within the limits.
fn within(
    limits: Option<&Limits<'_>>,
    connection: &Connection,
    (rows, bytes): (usize, usize),
    step: impl FnOnce() -> Result<(), DuckError>,
) -> Result<()> {
    let Some(Limits { appends, table }) = limits else { return Ok(step()?) };
    appends.begin(connection, Load { rows, bytes, matched: false, remote: false }).beside(table, step)
}

impl Way<'_> {
    fn take(&mut self, connection: &Connection, batch: &RecordBatch) -> Result<(), DuckError> {
        let schema = batch.schema_ref();
        match self {
            Self::Append { appender, import } => {
                let (_, import) = match import.take().filter(|(known, _)| known == schema) {
                    Some(known) => import.insert(known),
                    None => import.insert((Arc::clone(schema), ArrowImport::new(connection, schema)?)),
                };
                slices(batch).try_for_each(|slice| appender.append(&import.chunk(&slice)?))
            }
            Self::Insert { scans, target, inserts } => {
                inserts.insert(connection, scans, (target, schema), std::iter::once(batch))
            }
        }
    }
}
