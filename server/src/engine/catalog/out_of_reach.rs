//! Which catalogs are out of reach, asked one by one: DuckDB's own lists ask all, and its errors name none.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;

use crate::{
    engine::{CatalogKind, Class, Engine, Error, Result, lake::AttachedCatalog},
    sql::{literal, quote},
};

/// A catalog that takes longer to answer is taken for one that does not.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

impl Engine {
    /// The names of the attached catalogs that do not answer just now.
    pub(in crate::engine) async fn out_of_reach(&self) -> Vec<String> {
        let catalogs = self.shared.database.attached_catalogs().filter_map(|it| Some((it, question(it)?)));
        let asked = catalogs.map(async |(catalog, question)| {
            let database = Arc::clone(&self.shared.database);
            let answer = self.blocking(move || {
                let connection = database.private_connection()?;
                // What fails in another database does not condemn this one.
                connection.forgive();
                connection.execute(&question)?;
                Ok(())
            });
            let is_down = match tokio::time::timeout(ANSWERS_WITHIN, answer).await {
                Ok(Ok(())) => false,
                Ok(Err(error)) => error.class() == Some(Class::Unreachable),
                Err(_) => true,
            };
            is_down.then(|| catalog.name.clone())
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// What came of a statement; where a server could not be reached, by the name of its catalog, as far as that is
    /// known. Storage is not asked.
    pub(in crate::engine) async fn named<T>(&self, outcome: Result<T>) -> Result<T> {
        match outcome {
            Err(Error::Duck { class: Class::Unreachable, message }) => {
                let down = self.out_of_reach().await;
                if down.is_empty() {
                    return Err(Error::Duck { class: Class::Unreachable, message });
                }
                // What it says may name hosts and paths, which are not for clients.
                let down = down.join(", ");
                tracing::warn!(error = message, down, "a statement needs a catalog that is out of reach");
                Err(Error::CatalogDown(down))
            }
            Err(Error::Duck { class: class @ (Class::NotFound | Class::Binder), message }) => {
                // A client would take it for final that there is no such catalog.
                let missing = self.shared.database.missing_catalogs();
                match missing.map(|catalog| &catalog.name).find(|name| tells_of(&message, name)) {
                    Some(name) => Err(Error::CatalogDown(name.clone())),
                    None => Err(Error::Duck { class, message }),
                }
            }
            outcome => outcome,
        }
    }
}

/// Whether DuckDB says that there is no such catalog. Where two names would do it calls it a schema.
fn tells_of(message: &str, catalog: &str) -> bool {
    let said = message.lines().next().unwrap_or_default().to_lowercase();
    let name = catalog.to_lowercase();
    [
        format!("catalog \"{name}\" does not exist"),
        format!("catalog with name {name} does not exist"),
        format!("schema \"{name}\" does not exist"),
        format!("schema with name {name} does not exist"),
        format!("no catalog + schema named \"{name}\""),
        format!("no catalog + schema named \"{name}."),
        format!("no catalog + schema named \".{name}\""),
    ]
    .iter()
    .any(|text| said.contains(text))
}

/// What only a catalog that is reached answers; none for a file, which is.
fn question(catalog: &AttachedCatalog) -> Option<String> {
    match &catalog.kind {
        CatalogKind::DuckLake { .. } => Some(format!("FROM {}.current_snapshot()", quote(&catalog.name))),
        CatalogKind::Postgres => Some(format!("FROM postgres_query({}, 'SELECT 1')", literal(&catalog.name))),
        CatalogKind::DuckDb | CatalogKind::Sqlite => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ffi::Database;

    #[test]
    fn duckdb_tells_of_a_catalog_that_is_not_there() {
        let connection = Database::open(None, &[]).unwrap().connect().unwrap();
        connection.execute("CREATE TABLE t (i INTEGER)").unwrap();
        for sql in [
            "FROM side.t",
            "FROM Side.main.t",
            "FROM t JOIN side.main.t USING (i)",
            "USE side",
            "USE side.main",
            "CREATE TABLE side.main.t (i INTEGER)",
            "CREATE TABLE side.t (i INTEGER)",
            "CREATE SCHEMA side.s",
            "INSERT INTO side.main.t VALUES (1)",
            "INSERT INTO side.t VALUES (1)",
            "DROP TABLE side.main.t",
            "SHOW TABLES FROM side",
        ] {
            let said = connection.execute(sql).unwrap_err();
            assert!(matches!(said.class, Class::NotFound | Class::Binder), "{sql}: {said:?}");
            assert!(tells_of(&said.message, "SIDE"), "{sql}: {}", said.message);
            assert!(!tells_of(&said.message, "sid"), "{sql}: {}", said.message);
        }
        for sql in ["FROM main.side", "SELECT side FROM t", "SELECT 'side'::DATE -- side"] {
            let said = connection.execute(sql).unwrap_err();
            assert!(!tells_of(&said.message, "side"), "{sql}: {}", said.message);
        }
    }
}
