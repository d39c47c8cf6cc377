//! Loading DuckDB's extensions.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use super::{Connection, Error, Result};
use crate::{
    engine::{answers::first_text, ffi},
    sql::{literal, quote},
};

/// What reads `s3://` and `https://`.
pub(super) const HTTPFS: &str = "httpfs";
/// What reaches PostgreSQL.
pub(super) const POSTGRES: &str = "postgres_scanner";
/// What reads files of SQLite.
pub(super) const SQLITE: &str = "sqlite_scanner";
/// What knows DuckLake.
pub(super) const DUCKLAKE: &str = "ducklake";

/// What is loaded, and from where.
pub(super) struct Extensions<'a> {
    directory: Option<&'a Path>,
    /// The repository for what the directory has not; DuckDB's own unless there is one.
    repository: Option<&'a str>,
    loaded: HashSet<String>,
}

impl<'a> Extensions<'a> {
    pub(super) fn new(directory: Option<&'a Path>, repository: Option<&'a str>) -> Self {
        Self { directory, repository, loaded: HashSet::new() }
    }

    /// Tells DuckDB of the repository. It is not named in each INSTALL, because that would refuse what was installed from
    /// another one before.
    pub(super) fn announce(&self, connection: &Connection) -> Result<()> {
        let Some(repository) = self.repository else { return Ok(()) };
        connection.execute(&format!("SET GLOBAL custom_extension_repository = {}", literal(repository)))?;
        Ok(())
    }

    /// Loads one, once, from the directory; what is not there is installed from the repository.
    ///
    /// # Errors
    /// [`Error::Setup`].
    pub(super) fn load(&mut self, connection: &Connection, name: &str) -> Result<()> {
        // Where a catalog is tried again, or one comes with DuckDB itself.
        if self.loaded.contains(name) || is_loaded(connection, name)? {
            return Ok(());
        }
        let (sql, what) = match self.find(connection, name)? {
            Some(file) => (format!("LOAD {}", literal(&file.to_string_lossy())), format!("extension {name}")),
            None => {
                let from = self.repository.unwrap_or("DuckDB's repository");
                let quoted = quote(name);
                (format!("INSTALL {quoted}; LOAD {quoted}"), format!("extension {name} from {from}"))
            }
        };
        connection.execute(&sql).map_err(|error| Error::Setup { what, reason: error.message })?;
        self.loaded.insert(name.to_owned());
        tracing::info!(extension = name, "loaded an extension");
        Ok(())
    }

    /// A file `NAME.duckdb_extension`, in the directory itself or where DuckDB would put it.
    fn find(&self, connection: &Connection, name: &str) -> Result<Option<PathBuf>> {
        let Some(directory) = self.directory else { return Ok(None) };
        let file = format!("{name}.duckdb_extension");
        let version = directory.join(ffi::library_version());
        let platform = first_text(connection, "SELECT platform FROM system.main.pragma_platform()")?;
        let places = [directory.join(&file), version.join(&file), version.join(platform).join(&file)];
        Ok(places.into_iter().find(|place| place.is_file()))
    }
}

/// Whether this instance has an extension.
fn is_loaded(connection: &Connection, name: &str) -> Result<bool> {
    let sql = format!(
        "SELECT count(*)::VARCHAR FROM system.main.duckdb_extensions() WHERE loaded AND extension_name = {}",
        literal(name)
    );
    Ok(first_text(connection, &sql)? != "0")
}
