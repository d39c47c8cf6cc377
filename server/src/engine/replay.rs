//! Opening a file whose write-ahead log DuckDB cannot replay by itself.
//!
//! DuckDB (1.5.5) binds expressions again as it replays some ALTERs: of a table with a default such as `now()`, a generated
//! column, a CHECK, or with USING. For that it looks for the default database, which is not there yet while a file is opened,
//! so that a file that was left like that after a crash could not be opened any more. Beside another database it can be.

use std::path::Path;

use super::{
    Result,
    answers::first_text,
    ffi::{Database, DuckError},
};
use crate::sql::{literal, quote};

/// How DuckDB says so.
const NO_DEFAULT: &str = "with no default database set";

/// Opens a file with start-up settings; where that fails so, brings its log into it first.
///
/// # Errors
/// DuckDB's. Then nothing was touched.
pub(super) fn open(path: &Path, settings: &[(&str, String)]) -> std::result::Result<Database, DuckError> {
    match Database::open(Some(path), settings) {
        Err(error) if error.message.contains(NO_DEFAULT) && replay_beside(path, settings).is_ok() => {
            Database::open(Some(path), settings)
        }
        opened => opened,
    }
}

/// Attaches the file to a database in memory, which replays its log, and moves that into the file.
fn replay_beside(path: &Path, settings: &[(&str, String)]) -> Result<()> {
    tracing::info!("the write-ahead log is replayed beside another database");
    let beside = Database::open(None, settings)?;
    let connection = beside.connect()?;
    connection.execute(&format!("ATTACH {}", literal(&path.to_string_lossy())))?;
    let name =
        "SELECT database_name FROM system.main.duckdb_databases() WHERE NOT internal AND path IS NOT NULL";
    let name = quote(&first_text(&connection, name)?);
    connection.execute(&format!("CHECKPOINT {name}; DETACH {name}"))?;
    Ok(())
}
