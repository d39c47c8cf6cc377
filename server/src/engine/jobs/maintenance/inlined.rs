//! Rows that DuckLake keeps in its metadata, and in no file yet: few rows of a commit of another program, and those of
//! the server's own tables.
//!
//! DuckLake writes them to files on demand (it flushes them). Beside an UPDATE of such rows that undoes the update, or leaves the
//! row twice (DuckDB 1.5.5), whether the flush is one statement or a transaction. So the server's own tables that are updated
//! are never flushed: what was there before is taken out of the metadata instead. Tables that others may update are flushed
//! only where nobody has committed meanwhile.

use std::time::Duration;

use super::{Lake, Table};
use crate::{
    engine::{
        Error, Result,
        answers::{count, texts},
        jobs::TABLES,
        lake::{Alone, lost_race},
        ledger,
    },
    sql::{INTERNAL_PREFIX, literal, quote},
};

/// How long the server's own tables keep what they were before. Only the server reads them, in transactions that are shorter
/// by far.
const KEPT: Duration = Duration::from_secs(60);

impl Lake<'_> {
    /// Writes rows that are kept in the metadata to files, a table at a time; gives how many. Of the ledger nobody deletes but
    /// these runs, `with_schedule`, and its inserts do not get lost beside them.
    pub(super) fn flush(&self, with_schedule: bool) -> Result<u64> {
        let mut flushed = 0;
        for table in self.inlined_tables()? {
            flushed += self.flush_table(&table, with_schedule && table.is(INTERNAL_PREFIX, ledger::TABLE))?;
        }
        Ok(flushed)
    }

    fn flush_table(&self, table: &Table, is_only_appended_to: bool) -> Result<u64> {
        let sql = format!(
            "SELECT coalesce(sum(rows_flushed), 0)::BIGINT FROM ducklake_flush_inlined_data({}, schema_name => {}, \
             table_name => {})",
            self.name,
            literal(&table.schema),
            literal(&table.name)
        );
        self.retried(|| {
            let _alone = (!is_only_appended_to).then(|| Alone::on(self.connection)).transpose()?;
            let flushed = self.in_transaction(|| count(self.connection, &sql));
            flushed.map_err(|error| if lost_race(&error) { table.is_busy() } else { error })
        })
    }

    /// Those that there are now which may have such rows, but for the server's own that it updates.
    fn inlined_tables(&self) -> Result<Vec<Table>> {
        let metadata = &self.metadata;
        self.listed(&format!(
            "SELECT DISTINCT schema_name, t.table_name FROM {metadata}.ducklake_inlined_data_tables \
             JOIN {metadata}.ducklake_table AS t USING (table_id) \
             JOIN {metadata}.ducklake_schema AS s USING (schema_id) \
             WHERE t.end_snapshot IS NULL AND s.end_snapshot IS NULL \
             AND NOT (schema_name = {} AND t.table_name IN ({})) ORDER BY ALL",
            literal(INTERNAL_PREFIX),
            updated_tables()
        ))
    }

    /// Takes out of the metadata what rows of the server's own tables were before they were updated, which is a row more with
    /// each commit that has a key; gives how many. To whoever reads them now nothing changes, so it needs no snapshot.
    pub(super) fn trim(&self) -> Result<u64> {
        let metadata = &self.metadata;
        let kept_in = texts(
            self.connection,
            &format!(
                "SELECT DISTINCT i.table_name FROM {metadata}.ducklake_inlined_data_tables AS i \
                 JOIN {metadata}.ducklake_table AS t USING (table_id) \
                 JOIN {metadata}.ducklake_schema AS s USING (schema_id) \
                 WHERE schema_name = {} AND t.table_name IN ({})",
                literal(INTERNAL_PREFIX),
                updated_tables()
            ),
        )?;
        let (mut trimmed, before) = (0, self.snapshots_before(KEPT)?);
        for table in kept_in {
            let sql = format!(
                "DELETE FROM {metadata}.{} WHERE end_snapshot <= (SELECT max(snapshot_id) {before})",
                quote(&table)
            );
            trimmed += self.retried(|| Ok(self.connection.execute(&sql)?))?;
        }
        Ok(trimmed)
    }
}

impl Table {
    fn is_busy(&self) -> Error {
        let Self { schema, name } = self;
        Error::conflict(format!(
            "others commit to the lake so often that the rows of {schema}.{name} which it keeps in its metadata cannot be \
             written to files; the next run tries again"
        ))
    }
}

/// The names of the server's own tables that it updates, as literals.
fn updated_tables() -> String {
    let of_jobs = TABLES.iter().map(|(name, _)| *name);
    of_jobs.chain([ledger::TABLE_OF_FENCE]).map(literal).collect::<Vec<_>>().join(", ")
}
