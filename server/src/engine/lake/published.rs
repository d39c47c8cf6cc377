//! A catalog of the server's own that clients can read and nobody can change.

use tempfile::TempDir;

use super::{Connection, Error, Result};
use crate::{engine::database::first_text, sql::literal};

/// The catalog of the sources.
pub(crate) const SOURCES: &str = "sources";
/// The catalog of the named queries.
pub(crate) const QUERIES: &str = "queries";

/// An attached catalog. It is a small file that is written once and then attached for reading only, so that no
/// client can drop or replace what is in it; the file goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Published {
    _folder: TempDir,
}

impl Published {
    /// Makes a catalog, which `fill` may write to.
    ///
    /// # Errors
    /// Those of `fill`; [`Error::NameClash`] when the database has that name, or a schema of it.
    pub(crate) fn make(
        connection: &Connection,
        name: &'static str,
        fill: impl FnOnce(&Connection) -> Result<()>,
    ) -> Result<Self> {
        check_free(connection, name)?;
        let problem = |reason: String| Error::Setup { what: format!("catalog {name}"), reason };
        let folder = tempfile::Builder::new()
            .prefix("merganser-")
            .tempdir()
            .map_err(|error| problem(format!("no temporary folder: {error}")))?;
        let file = literal(&folder.path().join(format!("{name}.db")).to_string_lossy());
        connection.execute(&format!("ATTACH {file} AS {name} (READ_WRITE)"))?;
        fill(connection)?;
        connection.execute(&format!("DETACH {name}"))?;
        connection.execute(&format!("ATTACH {file} AS {name} (READ_ONLY)"))?;
        Ok(Self { _folder: folder })
    }
}

/// `name.x` must mean one thing only.
fn check_free(connection: &Connection, name: &'static str) -> Result<()> {
    let taken = first_text(
        connection,
        &format!(
            "SELECT count(*)::VARCHAR FROM duckdb_schemas() \
             WHERE schema_name = {name} OR database_name = {name}",
            name = literal(name)
        ),
    )?;
    if taken == "0" { Ok(()) } else { Err(Error::NameClash(name)) }
}
