//! Ledgers as they were before: each value of a unit in a column of its own.

use super::layout;
use crate::{engine::catalog::FullName, sql::quote};

/// The table that they were in.
pub(super) const TABLE: &str = "ingest_ledger";

/// Its columns, as SQL.
pub(super) const COLUMNS: [(&str, &str); 11] = [
    ("loader", "VARCHAR"),
    ("epoch", "UBIGINT"),
    ("sequence", "UBIGINT"),
    ("table_name", "VARCHAR"),
    ("rows", "UBIGINT"),
    ("hash_high", "UBIGINT"),
    ("hash_low", "UBIGINT"),
    ("commit_id", "UBIGINT"),
    ("total_rows", "UBIGINT"),
    ("total_units", "UBIGINT"),
    ("committed_at", "TIMESTAMP WITH TIME ZONE"),
];

/// Moves what is there into the table of today, which has been made empty in the same transaction.
pub(super) fn sql(today: &FullName) -> String {
    let before = FullName { table: TABLE.into(), ..today.clone() };
    let columns: Vec<_> = layout::COLUMNS.iter().map(|(name, _)| quote(name)).collect();
    format!(
        "INSERT INTO {} ({}) SELECT loader, sequence, commit_id, committed_at, system.main.json_object(\
         'epoch', epoch, 'table', table_name, 'rows', \"rows\", 'hash', \
         system.main.lower(system.main.concat(system.main.lpad(system.main.to_hex(hash_high), 16, '0'), \
         system.main.lpad(system.main.to_hex(hash_low), 16, '0'))), \
         'total_rows', total_rows, 'total_units', total_units)::VARCHAR \
         FROM {before} ORDER BY commit_id, sequence; DROP TABLE {before};",
        today.sql(),
        columns.join(", "),
        before = before.sql()
    )
}
