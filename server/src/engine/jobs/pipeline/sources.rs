//! Whose rows a pipeline reads. How far it has come is known of those alone: several servers may have one pipeline, each over
//! tables of its own database, and what one of them has moved says nothing of what the others have.

use arrow_array::cast::AsArray;
use serde_json::Value;

use super::{super::watermarks::Watermarks, Pipeline};
use crate::{
    engine::{CatalogKind, Error, Result, catalog::FullName, database::Database, ffi::Connection},
    sql::quote,
};

/// Where the plan has the name of a stored table.
const TABLE: &str = "Table";

impl Pipeline {
    /// The name of the row in which it is written down: its own, and that of the databases whose tables it reads and no other
    /// server has. The catalog of its target is none of them, since what is written there is of that very database.
    pub(in crate::engine::jobs) fn row(
        &self,
        connection: &Connection,
        database: &Database,
        target: &FullName,
    ) -> Result<String> {
        let mut private: Vec<_> = private_catalogs(database).collect();
        private.retain(|(name, _)| !name.eq_ignore_ascii_case(&target.catalog));
        if private.is_empty() {
            return Ok(self.name.clone());
        }
        let tables = self.tables(connection)?;
        let mut owners = Vec::new();
        for (name, read_only) in private {
            if tables.iter().any(|table| is_in(table, name)) {
                owners.extend(Watermarks::of(name).identity(connection, read_only)?);
            }
        }
        owners.sort();
        Ok(match owners.is_empty() {
            true => self.name.clone(),
            // No pipeline has a name with a space.
            false => format!("{} of {}", self.name, owners.join(" and ")),
        })
    }

    /// The stored tables that are read, through views and macros too. The optimizer would leave out those that it need not ask
    /// just now.
    fn tables(&self, connection: &Connection) -> Result<Vec<String>> {
        connection.execute("PRAGMA disable_optimizer")?;
        let plan = self.plan(connection);
        connection.execute("PRAGMA enable_optimizer")?;
        let mut tables = Vec::new();
        collect(&plan?, &mut tables);
        Ok(tables)
    }

    fn plan(&self, connection: &Connection) -> Result<Value> {
        let sql = format!("EXPLAIN (FORMAT json) SELECT * FROM {}", self.source());
        let mut rows = connection.extract(&sql)?.prepare(0)?.execute()?;
        let mut text = String::new();
        while let Some(batch) = rows.next()? {
            text.extend(batch.column(1).as_string::<i32>().iter().flatten());
        }
        serde_json::from_str(&text).map_err(|error| Error::Internal(format!("a plan is no JSON: {error}")))
    }
}

/// The databases that no other server writes to, with whether they are only read.
fn private_catalogs(database: &Database) -> impl Iterator<Item = (&str, bool)> {
    let files = database.attached_catalogs().filter(|catalog| catalog.kind == CatalogKind::DuckDb);
    std::iter::once((database.catalog.as_str(), false))
        .chain(files.map(|catalog| (catalog.name.as_str(), catalog.read_only)))
}

fn collect(plan: &Value, tables: &mut Vec<String>) {
    match plan {
        Value::Array(nodes) => nodes.iter().for_each(|node| collect(node, tables)),
        Value::Object(node) => {
            let table = node.get("extra_info").and_then(|info| info.get(TABLE)).and_then(Value::as_str);
            tables.extend(table.map(str::to_lowercase));
            node.get("children").into_iter().for_each(|children| collect(children, tables));
        }
        _ => {}
    }
}

/// Whether a table in lower case, with quotes where names need them, is one of a catalog.
fn is_in(table: &str, catalog: &str) -> bool {
    let catalog = catalog.to_lowercase();
    [quote(&catalog), catalog]
        .iter()
        .any(|name| table.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('.')))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{super::query::tests::pipeline, *};
    use crate::engine::Options;

    #[test]
    fn a_row_is_of_the_databases_whose_tables_are_read() {
        let database = Arc::new(Database::open(&Options::default()).unwrap());
        let connection = database.private_connection().unwrap();
        connection
            .execute(
                "ATTACH ':memory:' AS shared; CREATE TABLE shared.t AS SELECT 1 AS at; CREATE TABLE own AS SELECT 1 AS at; \
                 CREATE VIEW over_own AS FROM own WHERE false; CREATE VIEW over_shared AS FROM shared.t; \
                 CREATE MACRO rows_of() AS TABLE FROM own",
            )
            .unwrap();
        let elsewhere = FullName { catalog: "shared".into(), schema: "main".into(), table: "t".into() };
        let row = |from: &str, target: &FullName| {
            pipeline(from, &[], None).row(&connection, &database, target).unwrap()
        };
        let of_own = row("own", &elsewhere);
        assert!(of_own.starts_with("p of ") && of_own.len() > 20, "{of_own}");
        for from in ["own", "over_own", "SELECT * FROM rows_of()", "FROM shared.t JOIN own USING (\"at\")"] {
            assert_eq!(row(from, &elsewhere), of_own, "{from}");
        }
        for from in ["shared.t", "over_shared", "SELECT 1 AS at", "FROM range(3) AS r(\"at\")"] {
            assert_eq!(row(from, &elsewhere), "p", "{from}");
        }
        let own = FullName { catalog: database.catalog.clone(), ..elsewhere };
        assert_eq!(row("own", &own), "p", "into the very database");
    }
}
