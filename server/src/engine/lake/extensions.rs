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

/// Where extensions come from.
pub(super) struct Extensions<'a> {
    directory: Option<&'a Path>,
    loaded: HashSet<String>,
}

impl<'a> Extensions<'a> {
    pub(super) fn new(directory: Option<&'a Path>) -> Self {
        Self { directory, loaded: HashSet::new() }
    }

    /// Loads one, once, from the directory; what is not there is installed from DuckDB's repository.
    ///
    /// # Errors
    /// [`Error::Setup`].
    pub(super) fn load(&mut self, connection: &Connection, name: &str) -> Result<()> {
        if self.loaded.contains(name) {
            return Ok(());
        }
        let loaded = match self.find(connection, name)? {
            Some(file) => connection.execute(&format!("LOAD {}", literal(&file.to_string_lossy()))),
            None => {
                let name = quote(name);
                connection.execute(&format!("INSTALL {name}; LOAD {name}"))
            }
        };
        loaded.map_err(|error| Error::Setup { what: format!("extension {name}"), reason: error.message })?;
        self.loaded.insert(name.to_owned());
        tracing::info!(extension = name, "loaded an extension");
        Ok(())
    }

    /// A file `NAME.duckdb_extension`, in the directory itself or where DuckDB would put it.
    fn find(&self, connection: &Connection, name: &str) -> Result<Option<PathBuf>> {
        let Some(directory) = self.directory else { return Ok(None) };
        let file = format!("{name}.duckdb_extension");
        let version = directory.join(ffi::library_version());
        let platform = first_text(connection, "SELECT platform FROM pragma_platform()")?;
        let places = [directory.join(&file), version.join(&file), version.join(platform).join(&file)];
        Ok(places.into_iter().find(|place| place.is_file()))
    }
}
