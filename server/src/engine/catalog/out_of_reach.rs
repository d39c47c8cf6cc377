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
                tracing::warn!(error = message, ?down, "a statement needs a catalog that is out of reach");
                Err(Error::CatalogDown(down.join(", ")))
            }
            outcome => outcome,
        }
    }
}

/// What only a catalog that is reached answers; none for a file, which is.
fn question(catalog: &AttachedCatalog) -> Option<String> {
    match &catalog.kind {
        CatalogKind::DuckLake { .. } => Some(format!("FROM {}.current_snapshot()", quote(&catalog.name))),
        CatalogKind::Postgres => Some(format!("FROM postgres_query({}, 'SELECT 1')", literal(&catalog.name))),
        CatalogKind::DuckDb | CatalogKind::Sqlite => None,
    }
}
