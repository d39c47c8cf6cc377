//! What a table's constraints mean for the rows that are put into it.

use arrow_array::cast::AsArray;

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
    let constraints = format!(
        "SELECT constraint_type, constraint_column_names FROM system.main.duckdb_constraints() \
         WHERE constraint_type IN ('PRIMARY KEY', 'UNIQUE') AND {0} \
         UNION ALL SELECT '', NULL FROM system.main.duckdb_indexes() WHERE is_unique AND {0}",
        is_of_table(name)
    );
    let mut keys = TableKeys::default();
    for batch in ask(connection, &constraints)? {
        let columns = batch.column(1).as_list::<i32>();
        for row in 0..batch.num_rows() {
            keys.unique = true;
            if text(&batch, 0, row) == "PRIMARY KEY" {
                keys.primary
                    .extend(columns.value(row).as_string::<i32>().iter().flatten().map(str::to_owned));
            }
        }
    }
    Ok(keys)
}

/// Whether a row of DuckDB's lists is about a table, in whatever capitals that is written.
pub(crate) fn is_of_table(name: &FullName) -> String {
    let is =
        |column: &str, part: &str| format!("system.main.lower({column}) = {}", literal(&part.to_lowercase()));
    [is("database_name", &name.catalog), is("schema_name", &name.schema), is("table_name", &name.table)]
        .join(" AND ")
}

fn has_foreign_catalogs(connection: &Connection) -> Result<bool> {
    let sql = "SELECT 1 FROM system.main.duckdb_databases() WHERE NOT internal AND type <> 'duckdb' LIMIT 1";
    Ok(ask(connection, sql)?.iter().any(|batch| batch.num_rows() > 0))
}

/// A query for the columns of a table, which asks that alone: name, type, whether a row needs a value, whether there may
/// be an expression (a default, or what it is computed from), and whether it is in the primary key.
pub(super) fn columns_sql(name: &FullName) -> String {
    if name.to_string().contains(r#""""#) {
        // `pragma_table_info` reads a name without quotes inside; a description does not show the expression of a
        // generated column.
        return format!(
            "SELECT column_name AS name, column_type AS type, \"null\" = 'NO' AND \"default\" IS NULL AS required, \
             true AS has_expression, key IS NOT DISTINCT FROM 'PRI' AS in_key FROM (DESCRIBE FROM {})",
            name.sql()
        );
    }
    format!(
        "SELECT name, type, \"notnull\" AND dflt_value IS NULL AS required, dflt_value IS NOT NULL AS has_expression, \
         pk AS in_key FROM system.main.pragma_table_info({})",
        literal(&name.sql())
    )
}

/// What the table's own description tells of them: which columns are in the primary key, and not in which order. What
/// else is unique it does not tell, so that something is taken to be.
fn keys_as_described(connection: &Connection, name: &FullName) -> Result<TableKeys> {
    let sql = format!("SELECT name FROM ({}) WHERE in_key", columns_sql(name));
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
