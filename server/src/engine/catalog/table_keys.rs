//! What a table's constraints mean for the rows that are put into it.

use super::{FullName, ask, extract_own, text};
use crate::{
    engine::{Result, ffi::Connection},
    sql::{literal, quote},
};

/// By which columns a table tells its rows apart.
#[derive(Debug, Default)]
pub(crate) struct TableKeys {
    /// The columns of the primary key, in its order; often none.
    pub(crate) primary: Vec<String>,
    /// Whether anything in the table must be unique, the primary key included.
    pub(crate) unique: bool,
}

pub(super) fn table_keys(connection: &Connection, name: &FullName) -> Result<TableKeys> {
    // DuckDB's lists are those of every attached catalog: slow where one is on another server, and an error that ends
    // the transaction where that is out of reach.
    if has_foreign_catalogs(connection)? {
        return keys_as_described(connection, name);
    }
    let of_table = format!(
        "database_name = {} AND schema_name = {} AND lower(table_name) = lower({})",
        literal(&name.catalog),
        literal(&name.schema),
        literal(&name.table)
    );
    let sql = format!(
        "SELECT key_column FROM (
             SELECT CASE constraint_type WHEN 'PRIMARY KEY' THEN unnest(constraint_column_names) ELSE '' END AS key_column,
                    generate_subscripts(constraint_column_names, 1) AS position
             FROM duckdb_constraints() WHERE constraint_type IN ('PRIMARY KEY', 'UNIQUE') AND {of_table}
             UNION ALL SELECT '', 0 FROM duckdb_indexes() WHERE is_unique AND {of_table}
         ) ORDER BY position"
    );
    let mut keys = TableKeys::default();
    for batch in ask(connection, &sql)? {
        for row in 0..batch.num_rows() {
            keys.unique = true;
            keys.primary.extend(Some(text(&batch, 0, row)).filter(|column| !column.is_empty()));
        }
    }
    Ok(keys)
}

fn has_foreign_catalogs(connection: &Connection) -> Result<bool> {
    let sql = "SELECT 1 FROM duckdb_databases() WHERE NOT internal AND type <> 'duckdb' LIMIT 1";
    Ok(ask(connection, sql)?.iter().any(|batch| batch.num_rows() > 0))
}

/// What the table's own description tells of them: which columns are in the primary key, and not in which order. What
/// else is unique it does not tell, so that something is taken to be.
fn keys_as_described(connection: &Connection, name: &FullName) -> Result<TableKeys> {
    let sql = format!("SELECT name FROM pragma_table_info({}) WHERE pk", literal(&name.sql()));
    let mut keys = TableKeys { primary: Vec::new(), unique: true };
    for batch in ask(connection, &sql)? {
        keys.primary.extend((0..batch.num_rows()).map(|row| text(&batch, 0, row)));
    }
    Ok(keys)
}

/// Which of some columns are computed from others, so that no row can bring a value. DuckDB lists their
/// expressions like defaults; only its binder tells them apart.
pub(super) fn generated<'a>(
    connection: &Connection,
    name: &FullName,
    with_expression: impl Iterator<Item = &'a str>,
) -> Result<Vec<String>> {
    let takes = |columns: &[&str]| -> Result<bool> {
        let columns: Vec<_> = columns.iter().map(|column| quote(column)).collect();
        let nulls = vec!["NULL"; columns.len()].join(", ");
        let sql = format!("INSERT INTO {} ({}) VALUES ({nulls})", name.sql(), columns.join(", "));
        match extract_own(connection, &sql)?.prepare(0) {
            Ok(_) => Ok(true),
            Err(error) if error.message.contains("generated column") => Ok(false),
            Err(error) => Err(error.into()),
        }
    };
    let columns: Vec<_> = with_expression.collect();
    if columns.is_empty() || takes(&columns)? {
        return Ok(Vec::new());
    }
    let mut generated = Vec::new();
    for column in columns {
        if !takes(&[column])? {
            generated.push(column.to_owned());
        }
    }
    Ok(generated)
}
