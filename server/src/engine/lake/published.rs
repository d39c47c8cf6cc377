//! A catalog of the server's own that clients can read and nobody can change.

use super::{Connection, Error, Result};
use crate::{
    engine::answers::first_text,
    sql::{OWN_CATALOGS, literal},
};

/// The catalogs of the sources and of the named queries; clients can neither make nor take them.
pub(crate) const SOURCES: &str = OWN_CATALOGS[0];
/// See [`SOURCES`].
pub(crate) const QUERIES: &str = OWN_CATALOGS[1];

/// Makes a catalog, which `fill` writes to, and attaches it. It is a small file that is written once and then attached
/// for reading only, so that no client can drop or replace what is in it.
///
/// # Errors
/// Those of `fill`; [`Error::NameClash`] when the database has that name, or a schema of it.
pub(crate) fn publish(
    connection: &Connection,
    name: &'static str,
    fill: impl FnOnce() -> Result<()>,
) -> Result<()> {
    check_free(connection, name)?;
    let problem = |reason: String| Error::Setup { what: format!("catalog {name}"), reason };
    let folder = tempfile::Builder::new()
        .prefix("merganser-")
        .tempdir()
        .map_err(|error| problem(format!("no temporary folder: {error}")))?;
    let file = literal(&folder.path().join(format!("{name}.db")).to_string_lossy());
    // Older forms of the file know no macros whose parameters have types.
    connection.execute(&format!("ATTACH {file} AS {name} (READ_WRITE, STORAGE_VERSION 'v1.4.0')"))?;
    fill()?;
    connection.execute(&format!("DETACH {name}"))?;
    connection.execute(&format!("ATTACH {file} AS {name} (READ_ONLY)"))?;
    // DuckDB has it open, and a process that is killed must not leave it behind.
    folder.close().map_err(|error| problem(format!("its temporary folder: {error}")))?;
    Ok(())
}

/// `name.x` must mean one thing only, in whatever capitals, which DuckDB does not tell apart.
pub(super) fn check_free(connection: &Connection, name: &str) -> Result<()> {
    let taken = first_text(
        connection,
        &format!(
            "SELECT count(*)::VARCHAR FROM system.main.duckdb_schemas() \
             WHERE {name} IN (lower(schema_name), lower(database_name))",
            name = literal(&name.to_lowercase())
        ),
    )?;
    if taken == "0" { Ok(()) } else { Err(Error::NameClash(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::{Options, database::Database};

    #[test]
    fn a_name_is_taken_in_whatever_capitals() {
        for taken in
            ["CREATE SCHEMA \"QUERIES\"", "ATTACH ':memory:' AS \"Queries\"", "CREATE SCHEMA queries"]
        {
            let database = Arc::new(Database::open(&Options::default()).unwrap());
            let connection = database.private_connection().unwrap();
            check_free(&connection, QUERIES).unwrap();
            connection.execute(taken).unwrap();
            for name in [QUERIES, "Queries"] {
                assert!(matches!(check_free(&connection, name), Err(Error::NameClash(_))), "{name}: {taken}");
            }
        }
    }
}
