//! What unqualified names mean: the catalog and schema that USE sets.

use std::sync::Arc;

use super::{Engine, Error, Result, Workspace, database::first_text, ffi::Connection, statement::extract};
use crate::sql::quote;

/// A catalog and a schema in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The catalog.
    pub catalog: String,
    /// The schema.
    pub schema: String,
}

impl Names {
    /// The statement that sets them.
    pub(crate) fn use_sql(&self) -> String {
        format!("USE {}.{}", quote(&self.catalog), quote(&self.schema))
    }
}

impl Engine {
    /// What a client's names mean unless it says otherwise.
    pub fn default_names(&self) -> Names {
        Names { catalog: self.default_catalog().to_owned(), schema: "main".into() }
    }

    /// Runs the text of a USE for a client whose names are `names`, and tells what they mean from then on.
    ///
    /// # Errors
    /// DuckDB's, when there is no such catalog or schema.
    pub async fn names_after(&self, names: Option<Names>, use_sql: &str) -> Result<Names> {
        let (database, use_sql) = (Arc::clone(&self.shared.database), use_sql.to_owned());
        self.blocking(move || {
            // The schema that was in use may be gone.
            let mut connection = match database.connection_with(names.as_ref()) {
                Ok(connection) => connection,
                Err(_) => database.connection()?,
            };
            extract(&connection, &use_sql)?;
            connection.execute(&use_sql)?;
            let found = current(&connection);
            match &found {
                Ok(names) => connection.note_names(names),
                Err(_) => connection.discard(),
            }
            match found {
                Ok(names) if names.catalog == "temp" || names.catalog == "system" => {
                    Err(Error::Refused("USE of DuckDB's own catalogs is not supported".into()))
                }
                found => found,
            }
        })
        .await
    }

    /// What names mean on a workspace, after statements that may have changed it.
    ///
    /// # Errors
    /// DuckDB's.
    pub async fn names_of(&self, workspace: &Arc<Workspace>) -> Result<Names> {
        let mut taken = workspace.take(self.seat_wait()).await?;
        self.blocking(move || current(&taken.seat().connection)).await
    }
}

fn current(connection: &Connection) -> Result<Names> {
    Ok(Names {
        catalog: first_text(connection, "SELECT current_database()")?,
        schema: first_text(connection, "SELECT current_schema()")?,
    })
}
