//! What keeps keys unique where several servers write to one catalog.
//!
//! DuckLake lets two servers insert the same key into the ledger, because inserts never conflict. So every commit
//! with a key also moves on the one number of the fence, from what this server has seen last: where another server
//! was faster, the number is another one or the two updates conflict, and nothing is written. The number is that of
//! the last commit in the ledger, which tells what there is to catch up with.

use super::{LedgerTable, SharedLedger, table::TABLE_OF_FENCE};
use crate::{
    engine::{
        Error, Result,
        answers::first_text,
        catalog::FullName,
        ffi::{Connection, DuckError},
    },
    sql::{INTERNAL_PREFIX, literal, quote},
};

/// A table with one row and one number.
#[derive(Debug)]
pub(crate) struct Fence {
    table: FullName,
}

const COLUMN: &str = "version";
/// More than a group has units.
const INLINED_ROWS: u32 = 1_000;

impl Fence {
    pub(super) fn of(catalog: &str) -> Self {
        let table = FullName {
            catalog: catalog.into(),
            schema: INTERNAL_PREFIX.into(),
            table: TABLE_OF_FENCE.into(),
        };
        Self { table }
    }

    /// Its table, column and type, as DuckDB lists them.
    pub(super) fn listed(&self) -> (String, String, String) {
        (TABLE_OF_FENCE.into(), COLUMN.into(), "UBIGINT".into())
    }

    /// Fails where it is there already: then another server has made the ledger.
    pub(super) fn create_sql(&self) -> String {
        let table = self.table.sql();
        format!("CREATE TABLE {table} ({COLUMN} UBIGINT NOT NULL); INSERT INTO {table} VALUES (0);")
    }

    /// After which no commit with a key can be between the snapshot of this transaction and its end.
    pub(super) fn touch_sql(&self) -> String {
        format!("UPDATE {} SET {COLUMN} = {COLUMN}; ", self.table.sql())
    }

    /// The statements after which few rows of it and of the ledger stay in the lake's metadata.
    pub(super) fn inline_sql(&self, ledger: &FullName) -> String {
        format!("{}; {}", inline_sql(&self.table), inline_sql(ledger))
    }
}

/// The statement after which few rows of a table of the server's own stay in the lake's metadata, where they need no
/// file. DuckLake sets such an option for tables that are committed only.
pub(crate) fn inline_sql(table: &FullName) -> String {
    format!(
        "CALL {}.set_option('data_inlining_row_limit', {INLINED_ROWS}, schema => {}, table_name => {})",
        quote(&table.catalog),
        literal(&table.schema),
        literal(&table.table)
    )
}

impl LedgerTable {
    /// Moves the fence on in the transaction that is open; false when it is not where this server has seen it.
    /// What nobody else writes to has none.
    pub(crate) fn move_fence(&self, connection: &Connection, from: u64, to: u64) -> Result<bool, DuckError> {
        let Some(Fence { table }) = &self.fence else { return Ok(true) };
        let sql = format!("UPDATE {} SET {COLUMN} = {to} WHERE {COLUMN} = {from}", table.sql());
        Ok(connection.execute(&sql)? == 1)
    }

    /// Takes into the ledger what was committed after `seen`; gives where the fence is now.
    pub(crate) fn catch_up(&self, connection: &Connection, seen: u64, ledger: &SharedLedger) -> Result<u64> {
        let Some(fence) = self.fence.as_ref().filter(|_| self.exists()) else { return Ok(seen) };
        // Both are read in one snapshot.
        connection.execute("BEGIN TRANSACTION READ ONLY")?;
        let version = fence.version(connection).and_then(|version| {
            self.load_since(connection, seen, ledger)?;
            Ok(version)
        });
        let ended = connection.execute("COMMIT");
        let version = version?;
        ended?;
        Ok(version)
    }
}

impl Fence {
    /// The number of the last commit that has moved it; 0 before the first.
    pub(super) fn version(&self, connection: &Connection) -> Result<u64> {
        let sql = format!("SELECT system.main.max({COLUMN})::VARCHAR FROM {}", self.table.sql());
        first_text(connection, &sql)?
            .parse()
            .map_err(|_| Error::Internal(format!("{} has no number", self.table)))
    }
}
