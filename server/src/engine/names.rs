//! What unqualified names mean: the catalog and schema that USE sets.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{Engine, Error, Result, answers::first_text, ffi::Connection, statement::extract};

/// A catalog and a schema in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The catalog.
    pub catalog: String,
    /// The schema.
    pub schema: String,
}

impl Names {
    /// Those of a catalog, before anybody has changed them.
    pub(crate) fn default_of(catalog: &str) -> Self {
        Self { catalog: catalog.to_owned(), schema: "main".into() }
    }
}

/// What names mean in one session, as its connections tell. Clones are the same.
#[derive(Clone)]
pub struct SessionNames {
    default: Names,
    current: Arc<Mutex<Names>>,
}

impl SessionNames {
    /// What they mean now.
    pub fn get(&self) -> Names {
        self.current.lock().clone()
    }

    /// The same; `None` where nobody has changed it.
    pub fn changed(&self) -> Option<Names> {
        let current = self.current.lock();
        (*current != self.default).then(|| current.clone())
    }

    /// Names as [`SessionNames::changed`] gives them.
    pub(crate) fn unless_default(&self, names: &Names) -> Option<Names> {
        (*names != self.default).then(|| names.clone())
    }

    pub(crate) fn set(&self, names: Names) {
        *self.current.lock() = names;
    }
}

impl Engine {
    /// The names of a new session.
    pub fn session_names(&self) -> SessionNames {
        let default = self.default_names();
        SessionNames { current: Arc::new(Mutex::new(default.clone())), default }
    }

    /// What a client's names mean unless it says otherwise.
    pub fn default_names(&self) -> Names {
        Names::default_of(self.default_catalog())
    }

    /// Runs the text of a USE for a client whose names are `names`, and tells what they mean from then on.
    ///
    /// # Errors
    /// DuckDB's, when there is no such catalog or schema.
    pub async fn names_after(&self, names: Option<Names>, use_sql: &str) -> Result<Names> {
        let (database, use_sql) = (Arc::clone(&self.shared.database), use_sql.to_owned());
        self.blocking(move || {
            // The schema that was in use may be gone.
            let connection = match database.connection_with(names.as_ref()) {
                Ok(connection) => connection,
                Err(_) => database.connection()?,
            };
            extract(&connection, connection.exports(), &use_sql)?;
            connection.execute(&use_sql)?;
            let found = current(&connection);
            // What the USE has set is not all that the connection is to have.
            connection.discard();
            match found {
                Ok(names) if names.catalog == "temp" || names.catalog == "system" => {
                    Err(Error::Refused("USE of DuckDB's own catalogs is not supported".into()))
                }
                found => found,
            }
        })
        .await
    }
}

/// What they mean on a connection.
pub(crate) fn current(connection: &Connection) -> Result<Names> {
    Ok(Names {
        catalog: first_text(connection, "SELECT system.main.current_database()")?,
        schema: first_text(connection, "SELECT system.main.current_schema()")?,
    })
}
