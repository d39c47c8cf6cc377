//! The lists of what there is while a catalog is out of reach.
//!
//! DuckDB's lists ask all catalogs that are attached, and fail where one does not answer; a condition on the catalog
//! comes too late. `COPY FROM DATABASE ... (SCHEMA)` asks one only. So the schemas of each that answers are copied into
//! a small file, without rows, and an instance over these files has the lists.

use std::{path::Path, sync::Arc};

use arrow_array::{RecordBatch, cast::AsArray};

use tempfile::TempDir;

use super::{ask, listing::rows, text};
use crate::{
    engine::{
        Error, Result,
        database::Database,
        ffi::{self, Connection},
    },
    sql::{literal, quote},
};

/// How a file is called while it is filled. `sql::gate` refuses such names to clients.
const COPY_PREFIX: &str = "__merganser_list_";
/// The instance's own database, which is in no list.
const OWN: &str = "__merganser";

/// An instance that has the schemas of the catalogs that answer. The folder goes last.
pub(super) struct Reachable {
    connection: Connection,
    _folder: TempDir,
}

/// A catalog as it is attached.
struct Attached {
    name: String,
    read_only: bool,
}

impl Reachable {
    /// Copies the schemas of one catalog, or of all that answer.
    ///
    /// # Errors
    /// Whatever DuckDB says of the one, or of the server's own database.
    pub(super) fn copy(database: &Arc<Database>, named: Option<&str>) -> Result<Self> {
        let folder = folder_of(database)?;
        let original = database.private_connection()?;
        // What fails in another database does not condemn this one.
        original.forgive();
        let instance =
            ffi::Database::open(Some(&folder.path().join(OWN)), &[("threads", "1".into())])?.connect()?;
        let mut listed = Vec::new();
        for (at, catalog) in attached(&original)?.into_iter().enumerate() {
            if named.is_some_and(|named| named != catalog.name) {
                continue;
            }
            let file = folder.path().join(format!("{at}.db"));
            match copy_schemas(&original, &catalog, &file) {
                Ok(()) => listed.push(attach(&instance, &catalog, &file)?),
                Err(error) if named.is_none() && catalog.name != database.catalog => {
                    tracing::warn!(catalog = catalog.name, %error, "a catalog is out of reach and not listed");
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(first) = listed.first() {
            instance.execute(&format!("USE {first}; DETACH {OWN}"))?;
        }
        Ok(Self { connection: instance, _folder: folder })
    }

    /// For questions to the lists, and for no others.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }
}

fn folder_of(database: &Database) -> Result<TempDir> {
    let parent = database.options.temporary_folder();
    // DuckDB makes its folder only when it needs it.
    std::fs::create_dir_all(&parent)
        .and_then(|()| TempDir::with_prefix_in("merganser-list-", parent))
        .map_err(|error| Error::Internal(error.to_string()))
}

fn attached(connection: &Connection) -> Result<Vec<Attached>> {
    let sql =
        "SELECT database_name, readonly FROM system.main.duckdb_databases() WHERE NOT internal ORDER BY ALL";
    let batches = ask(connection, sql)?;
    let catalog = |(batch, row): (&RecordBatch, usize)| Attached {
        name: text(batch, 0, row),
        read_only: batch.column(1).as_boolean().value(row),
    };
    Ok(rows(&batches).map(catalog).collect())
}

fn copy_schemas(connection: &Connection, catalog: &Attached, file: &Path) -> Result<()> {
    let random = getrandom::u64().map_err(|error| Error::Internal(error.to_string()))?;
    let copy = format!("{COPY_PREFIX}{random:016x}");
    connection.execute(&format!(
        "ATTACH {} AS {copy} (HIDDEN, TYPE duckdb, READ_WRITE, STORAGE_VERSION 'latest')",
        literal(&file.to_string_lossy())
    ))?;
    let copied =
        connection.execute(&format!("COPY FROM DATABASE {} TO {copy} (SCHEMA)", quote(&catalog.name)));
    connection.execute(&format!("DETACH {copy}"))?;
    copied?;
    Ok(())
}

/// Attaches a copy by the name of its original, which it gives as SQL.
fn attach(instance: &Connection, catalog: &Attached, file: &Path) -> Result<String> {
    let name = quote(&catalog.name);
    let mode = if catalog.read_only { " (READ_ONLY)" } else { "" };
    instance.execute(&format!("ATTACH {} AS {name}{mode}", literal(&file.to_string_lossy())))?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Options;

    fn listed(connection: &Connection) -> Vec<String> {
        let sql = "SELECT concat_ws(' ', database_name, table_name, column_name, data_type, is_nullable, comment) \
                   FROM system.main.duckdb_columns() WHERE NOT internal AND schema_name <> '__merganser' \
                   UNION ALL SELECT concat_ws(' ', database_name, table_name, constraint_text) FROM system.main.duckdb_constraints() \
                   UNION ALL SELECT concat_ws(' ', database_name, schema_name) FROM system.main.duckdb_schemas() WHERE NOT internal \
                   ORDER BY ALL";
        let batches = ask(connection, sql).unwrap();
        batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|row| text(batch, 0, row))).collect()
    }

    #[test]
    fn the_copy_has_the_lists_of_the_original() {
        let database = Arc::new(Database::open(&Options::default()).unwrap());
        let connection = database.private_connection().unwrap();
        for sql in [
            "CREATE TYPE mood AS ENUM ('good', 'bad')",
            "CREATE SEQUENCE numbers",
            "CREATE TABLE a (id BIGINT PRIMARY KEY DEFAULT nextval('numbers'), m mood NOT NULL, d DECIMAL(5, 2))",
            "CREATE TABLE b (id BIGINT REFERENCES a (id), twice BIGINT GENERATED ALWAYS AS (id * 2))",
            "CREATE VIEW v AS SELECT id, m FROM a",
            "COMMENT ON COLUMN a.d IS 'it''s a comment'",
            "ATTACH ':memory:' AS \"a \"\"side\"\"\"",
            "CREATE SCHEMA \"a \"\"side\"\"\".more",
            "CREATE TABLE \"a \"\"side\"\"\".more.t (x INTEGER)",
        ] {
            connection.execute(sql).unwrap();
        }
        let all = listed(&connection);
        let of_all = Reachable::copy(&database, None).unwrap();
        assert_eq!(listed(of_all.connection()), all);
        let of_one = Reachable::copy(&database, Some("a \"side\"")).unwrap();
        let one: Vec<_> = all.into_iter().filter(|line| line.starts_with("a \"side\"")).collect();
        assert_eq!(listed(of_one.connection()), one);
    }
}
