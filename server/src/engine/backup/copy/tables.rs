//! The tables of a database, in an order in which their rows can be copied.

use std::collections::HashSet;

use arrow_array::{Array, cast::AsArray};

use crate::{
    engine::{Error, Result, ffi::Connection},
    sql::{literal, quote},
};

/// A table and what its copy needs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) schema: String,
    pub(super) name: String,
    /// Those that hold values of their own.
    columns: Vec<String>,
    foreign_keys: Vec<ForeignKey>,
}

/// The columns of a foreign key, each with the one that it refers to in a table of the same schema: DuckDB
/// has no others.
#[derive(Debug, Default, PartialEq, Eq)]
struct ForeignKey {
    referenced: String,
    columns: Vec<(String, String)>,
}

impl Table {
    /// The list of its columns, as SQL.
    pub(super) fn columns(&self) -> String {
        self.columns.iter().map(|column| quote(column)).collect::<Vec<_>>().join(", ")
    }

    /// Its full name in a database, as SQL.
    pub(super) fn in_catalog(&self, catalog: &str) -> String {
        [catalog, &self.schema, &self.name].map(quote).join(".")
    }

    pub(super) fn refers_to_itself(&self) -> bool {
        self.own_keys().next().is_some()
    }

    fn own_keys(&self) -> impl Iterator<Item = &ForeignKey> {
        self.foreign_keys.iter().filter(|key| same(&key.referenced, &self.name))
    }

    /// The condition, as SQL, that a row `original` is not in `backup` yet, and all that it refers to is.
    pub(super) fn can_be_copied(&self, backup: &str) -> String {
        let mut conditions = Vec::new();
        for key in self.own_keys() {
            let each = |text: fn(&str, &str) -> String| -> Vec<String> {
                key.columns.iter().map(|(from, to)| text(&quote(from), &quote(to))).collect()
            };
            let unset = each(|from, _| format!("original.{from} IS NULL")).join(" OR ");
            let above = each(|from, to| format!("copied.{to} = original.{from}")).join(" AND ");
            let itself =
                each(|_, to| format!("copied.{to} IS NOT DISTINCT FROM original.{to}")).join(" AND ");
            conditions.push(format!("({unset} OR EXISTS (FROM {backup} AS copied WHERE {above}))"));
            conditions.push(format!("NOT EXISTS (FROM {backup} AS copied WHERE {itself})"));
        }
        conditions.join(" AND ")
    }
}

/// All tables of a database as the connection's transaction sees them, each after those that it refers to.
pub(super) fn tables(connection: &Connection, catalog: &str) -> Result<Vec<Table>> {
    let mut tables = with_columns(connection, catalog)?;
    add_foreign_keys(connection, catalog, &mut tables)?;
    Ok(in_order(tables))
}

fn with_columns(connection: &Connection, catalog: &str) -> Result<Vec<Table>> {
    let sql = format!(
        "SELECT schema_name, table_name, column_name, (column_default IS NOT NULL)::VARCHAR \
         FROM system.main.duckdb_columns() JOIN system.main.duckdb_tables() USING (database_name, schema_name, table_name) \
         WHERE database_name = {} AND NOT duckdb_tables.internal AND NOT temporary \
         ORDER BY schema_name, table_name, column_index",
        literal(catalog)
    );
    let mut tables: Vec<Table> = Vec::new();
    for [schema, name, column, has_default] in texts(connection, &sql)? {
        if tables.last().is_none_or(|last| last.schema != schema || last.name != name) {
            tables.push(Table { schema, name, ..Table::default() });
        }
        if let Some(table) = tables.last_mut()
            && (has_default == "false" || !is_generated(connection, &table.in_catalog(catalog), &column)?)
        {
            table.columns.push(column);
        }
    }
    Ok(tables)
}

fn add_foreign_keys(connection: &Connection, catalog: &str, tables: &mut [Table]) -> Result<()> {
    let sql = format!(
        "SELECT schema_name, table_name, concat_ws(' ', table_oid, constraint_index), referenced_table, \
         unnest(constraint_column_names), unnest(referenced_column_names) \
         FROM system.main.duckdb_constraints() WHERE database_name = {} AND constraint_type = 'FOREIGN KEY' \
         ORDER BY table_oid, constraint_index",
        literal(catalog)
    );
    let mut previous = String::new();
    for [schema, name, key, referenced, from, to] in texts(connection, &sql)? {
        let Some(table) = tables.iter_mut().find(|table| table.schema == schema && table.name == name) else {
            continue;
        };
        if key != previous {
            table.foreign_keys.push(ForeignKey { referenced, columns: Vec::new() });
            previous = key;
        }
        if let Some(key) = table.foreign_keys.last_mut() {
            key.columns.push((from, to));
        }
    }
    Ok(())
}

/// Each table after those that it refers to. Circles cannot be made in DuckDB; the rest of one would come last.
fn in_order(mut tables: Vec<Table>) -> Vec<Table> {
    let mut ordered: Vec<Table> = Vec::new();
    let mut done: HashSet<(String, String)> = HashSet::new();
    let id = |schema: &str, table: &str| (schema.to_lowercase(), table.to_lowercase());
    while !tables.is_empty() {
        let is_next = |table: &Table| {
            table.foreign_keys.iter().all(|key| {
                same(&key.referenced, &table.name) || done.contains(&id(&table.schema, &key.referenced))
            })
        };
        let (next, later): (Vec<_>, Vec<_>) = tables.into_iter().partition(is_next);
        tables = later;
        if next.is_empty() {
            ordered.append(&mut tables);
        }
        done.extend(next.iter().map(|table| id(&table.schema, &table.name)));
        ordered.extend(next);
    }
    ordered
}

/// Names as DuckDB compares them; a foreign key keeps its table's name as it was written there.
fn same(left: &str, right: &str) -> bool {
    left.to_lowercase() == right.to_lowercase()
}

/// Whether DuckDB computes the column: its lists show that as a default, and only an INSERT is told. This one
/// is planned and never run.
fn is_generated(connection: &Connection, table: &str, column: &str) -> Result<bool> {
    let insert = format!("INSERT INTO {table} ({}) SELECT NULL", quote(column));
    match connection.extract(&insert)?.prepare(0) {
        Ok(_) => Ok(false),
        Err(error) => Ok(error.message.contains("generated column")),
    }
}

/// The rows of a query that gives nothing but texts.
fn texts<const COLUMNS: usize>(connection: &Connection, sql: &str) -> Result<Vec<[String; COLUMNS]>> {
    let mut result = connection.extract(sql)?.prepare(0)?.execute()?;
    let mut rows = Vec::new();
    while let Some(batch) = result.next()? {
        if batch.num_columns() != COLUMNS {
            return Err(Error::Internal("a list of tables has other columns".into()));
        }
        for row in 0..batch.num_rows() {
            rows.push(std::array::from_fn(|column| {
                let values = batch.column(column).as_string::<i32>();
                if values.is_null(row) { String::new() } else { values.value(row).to_owned() }
            }));
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, referenced: &[&str]) -> Table {
        let key = |referenced: &&str| ForeignKey { referenced: (*referenced).into(), columns: Vec::new() };
        Table {
            schema: "main".into(),
            name: name.into(),
            columns: Vec::new(),
            foreign_keys: referenced.iter().map(key).collect(),
        }
    }

    #[test]
    fn tables_come_after_those_that_they_refer_to() {
        let tables =
            vec![table("a", &["B", "A"]), table("b", &["c"]), table("c", &[]), table("d", &["a", "c"])];
        let names: Vec<_> = in_order(tables).into_iter().map(|table| table.name).collect();
        assert_eq!(names, ["c", "b", "a", "d"]);
    }
}
