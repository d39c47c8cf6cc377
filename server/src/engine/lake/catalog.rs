//! Catalogs: databases besides the server's own that are attached at every start.

use std::{path::Path, time::Duration};

use super::{
    Connection, Result,
    extensions::{DUCKLAKE, HTTPFS, POSTGRES, SQLITE},
    messages::warn_unless_english,
    published::check_free,
    setup, unless_missed,
};
use crate::{
    engine::{answers::first_text, database_file, jobs, log_head, torn_metadata},
    sql::{literal, quote},
};

/// How often DuckLake looks at a commit anew that somebody else's came before. Its own default is 10.
pub(super) const COMMIT_TRIES: u32 = 100;

/// Where no secret is named, DuckDB's extension for PostgreSQL looks for one of this name, in the end among those in files; and
/// where these are switched off, as they are here, that is an error. So there is one that says nothing.
const NO_SECRET: &str = "CREATE SECRET IF NOT EXISTS __default_postgres (TYPE postgres)";

/// What kind of database a catalog is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatalogKind {
    /// A DuckLake: its catalog in a database, its rows as Parquet files.
    DuckLake {
        /// Where the files are; `None` where the lake knows it already.
        data_path: Option<String>,
    },
    /// A file of DuckDB.
    DuckDb,
    /// A database of a PostgreSQL server.
    Postgres,
    /// A file of SQLite.
    Sqlite,
}

impl CatalogKind {
    /// Where the files of a lake are, as far as the configuration says so.
    pub(super) fn data_path(&self) -> Option<&str> {
        match self {
            Self::DuckLake { data_path } => data_path.as_deref(),
            Self::DuckDb | Self::Postgres | Self::Sqlite => None,
        }
    }
}

/// What is done for a DuckLake from time to time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maintenance {
    /// How often; `None` is only on demand.
    pub every: Option<Duration>,
    /// Snapshots older than this are forgotten, and with them what only they can see.
    pub expire_after: Option<Duration>,
    /// Files that no snapshot refers to are deleted once they are this old, and so are orphans:
    /// younger ones may belong to a read or a commit under way.
    pub delete_after: Duration,
    /// Large files that are made of small ones at a time, so that memory stays bounded.
    pub merge_files: u64,
    /// How long a run may take.
    pub limit: Duration,
}

impl Default for Maintenance {
    fn default() -> Self {
        Self {
            every: None,
            expire_after: None,
            delete_after: Duration::from_secs(24 * 3600),
            merge_files: 100,
            limit: jobs::LIMIT,
        }
    }
}

/// The name of the catalog in which DuckLake keeps what it knows of a lake.
pub(in crate::engine) fn metadata_of(lake: &str) -> String {
    format!("__ducklake_metadata_{lake}")
}

/// Where the files of a lake are that is attached under this name, by its own word; with a slash at the end.
pub(in crate::engine) fn data_path_of(connection: &Connection, lake: &str) -> Result<String> {
    let metadata = quote(&metadata_of(lake));
    let sql = format!("SELECT value FROM {metadata}.ducklake_metadata WHERE key = 'data_path'");
    first_text(connection, &sql)
}

/// SQLite in the mode of a write-ahead log, which stays with the file. In any other a COMMIT waits for all who read, five seconds,
/// as for an open transaction. Then it fails, and DuckDB's extension (1.5.5) leaves the transaction open and lets go of it, so
/// that nobody can read until the file is closed.
const KEEPS_LOG: &str = "META_JOURNAL_MODE 'WAL'";

/// A database besides the server's own, which clients see under its name.
#[derive(Debug, Clone)]
pub struct AttachedCatalog {
    /// The name.
    pub name: String,
    /// What it is.
    pub kind: CatalogKind,
    /// The file, or how to reach the server; of a DuckLake its metadata, such as `postgres:dbname=lake`.
    pub location: String,
    /// The secret with which the server is reached.
    pub secret: Option<String>,
    /// Refuse every write to it.
    pub read_only: bool,
    /// Whether the server does not start without it.
    pub required: bool,
    /// What is done for it from time to time.
    pub maintenance: Maintenance,
}

impl AttachedCatalog {
    /// Whether other servers may write to it as well.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.kind, CatalogKind::DuckLake { .. })
    }

    /// Whether two names are given to one database.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        (&self.location, &self.secret) == (&other.location, &other.secret)
    }

    /// Where the files of a lake are, by the configuration or by the lake itself; `None` where it is not there to be asked,
    /// or is no lake.
    pub(super) fn data_path(&self, connection: &Connection) -> Result<Option<String>> {
        match &self.kind {
            CatalogKind::DuckLake { data_path: None } if self.is_there(connection)? => {
                data_path_of(connection, &self.name).map(Some)
            }
            kind => Ok(kind.data_path().map(str::to_owned)),
        }
    }

    /// Whether other processes may write to it while this one does, which is never so for a file of DuckDB.
    pub(in crate::engine) fn is_open_to_others(&self) -> bool {
        self.is_shared() && self.duckdb_file().is_none()
    }

    /// Whether servers that share it can wait for each other in its metadata.
    pub(crate) fn has_queue(&self) -> bool {
        self.is_shared() && self.location.starts_with("postgres:")
    }

    /// Whether it is a lake whose metadata are in a file of SQLite, where times are texts.
    pub(in crate::engine) fn is_in_sqlite(&self) -> bool {
        self.is_shared() && self.location.starts_with("sqlite:")
    }

    /// Whether it, or the metadata of a lake, is a file of this machine, and no database of PostgreSQL.
    pub(super) fn is_file(&self) -> bool {
        self.kind != CatalogKind::Postgres && !self.location.starts_with("postgres:")
    }

    /// That file.
    pub(in crate::engine) fn file(&self) -> Option<&Path> {
        self.is_file().then(|| Path::new(self.location.strip_prefix("sqlite:").unwrap_or(&self.location)))
    }

    /// The file of DuckDB that it is, or that has the metadata of a lake.
    pub fn duckdb_file(&self) -> Option<&str> {
        let elsewhere = ["postgres:", "sqlite:"].iter().any(|scheme| self.location.starts_with(scheme));
        match self.kind {
            CatalogKind::DuckDb => Some(&self.location),
            CatalogKind::DuckLake { .. } if !elsewhere => Some(&self.location),
            _ => None,
        }
    }

    /// Whether all that has to be opened for it is known before it is there.
    pub fn may_come_late(&self) -> bool {
        self.is_file() && self.kind != CatalogKind::DuckLake { data_path: None }
    }

    /// Whether it can keep a ledger of keys.
    pub(crate) fn keeps_keys(&self) -> bool {
        matches!(self.kind, CatalogKind::DuckLake { .. } | CatalogKind::DuckDb)
    }

    /// Extensions that have to be loaded first, in this order.
    pub(super) fn extensions(&self) -> impl Iterator<Item = &'static str> {
        let metadata = |scheme: &str| self.location.starts_with(scheme);
        let (remote, first, last) = match &self.kind {
            CatalogKind::DuckLake { data_path } => {
                let remote = data_path.as_ref().is_some_and(|path| path.contains("://"));
                let first = match () {
                    () if metadata("postgres:") => Some(POSTGRES),
                    () if metadata("sqlite:") => Some(SQLITE),
                    () => None,
                };
                (remote, first, Some(DUCKLAKE))
            }
            CatalogKind::DuckDb => (false, None, None),
            CatalogKind::Postgres => (false, Some(POSTGRES), None),
            CatalogKind::Sqlite => (false, Some(SQLITE), None),
        };
        remote.then_some(HTTPFS).into_iter().chain(first).chain(last)
    }

    /// Attaches it, once what a kill may have left of its file is mended.
    ///
    /// # Errors
    /// Whatever DuckDB says; [`Error::NameClash`] when the database has that name, or a schema of it.
    pub(in crate::engine) fn attach(&self, connection: &Connection, read_only: bool) -> Result<()> {
        check_free(connection, &self.name)?;
        if matches!(self.kind, CatalogKind::DuckLake { .. }) {
            connection.execute(&format!("SET GLOBAL ducklake_max_retry_count = {COMMIT_TRIES}"))?;
        }
        if self.secret.is_none() && self.extensions().any(|name| name == POSTGRES) {
            connection.execute(NO_SECRET)?;
        }
        if let Some(file) = self.duckdb_file() {
            let file = Path::new(file);
            database_file::check(file)?;
            log_head::check(file)?;
            if !(read_only || self.read_only) {
                torn_metadata::mend(file)?;
            }
        }
        connection.execute(&self.attach_sql(read_only))?;
        // SQLite's file is opened when it is asked first.
        if self.kind == CatalogKind::Sqlite {
            let tables =
                format!("FROM sqlite_query({}, 'SELECT count(*) FROM sqlite_master')", literal(&self.name));
            if let Err(error) = connection.execute(&tables) {
                self.detach(connection)?;
                return Err(error.into());
            }
        }
        if self.duckdb_file().is_some() {
            let metadata = metadata_of(&self.name);
            let opened = if self.is_shared() { &metadata } else { &self.name };
            if let Err(error) = database_file::check_opened(connection, opened) {
                self.detach(connection)?;
                return Err(error);
            }
        }
        if !(self.is_file() || read_only || self.read_only) {
            warn_unless_english(connection, self);
        }
        Ok(())
    }

    /// Takes it back that it was attached.
    pub(super) fn detach(&self, connection: &Connection) -> Result<()> {
        connection.execute(&format!("DETACH {}", quote(&self.name)))?;
        Ok(())
    }

    /// Whether it is attached.
    pub(crate) fn is_there(&self, connection: &Connection) -> Result<bool> {
        let sql = format!(
            "SELECT count(*)::VARCHAR FROM system.main.duckdb_databases() WHERE database_name = {}",
            literal(&self.name)
        );
        Ok(first_text(connection, &sql)? != "0")
    }

    /// What came of a step on the way to the catalog: done, or, where it is not required, missed in the log.
    ///
    /// # Errors
    /// [`Error::Setup`] for a catalog that is required.
    pub(crate) fn or_missed<T>(&self, step: Result<T>) -> Result<Option<T>> {
        let done = unless_missed(self.required, step, |reason| {
            tracing::warn!(catalog = self.name, %reason, "a catalog cannot be attached");
        });
        done.map_err(setup(format!("catalog {}", self.name)))
    }

    fn attach_sql(&self, read_only: bool) -> String {
        let is_read_only = read_only || self.read_only;
        let mut options = Vec::new();
        let secret = |option: &str| self.secret.as_ref().map(|name| format!("{option} {}", literal(name)));
        let location = match &self.kind {
            CatalogKind::DuckLake { data_path } => {
                options.extend(secret("META_SECRET"));
                // Few rows that are deleted would stay in the metadata, too, and there DuckLake sees no conflict with a merge
                // of their file, or with a delete of many rows of it: what was deleted comes back (DuckDB 1.5.5). Rows that
                // it keeps in PostgreSQL come back changed where they have structs, and a struct of times ends the process
                // that reads it. Groups make inlining needless.
                options.push("DATA_INLINING_ROW_LIMIT 0".into());
                options.extend(data_path.as_ref().map(|path| format!("DATA_PATH {}", literal(path))));
                if self.is_in_sqlite() && !is_read_only {
                    options.push(KEEPS_LOG.into());
                }
                format!("ducklake:{}", self.location)
            }
            // Else DuckDB guesses the type.
            CatalogKind::DuckDb => {
                options.push("TYPE duckdb".into());
                self.location.clone()
            }
            CatalogKind::Postgres => {
                options.push("TYPE postgres".into());
                options.extend(secret("SECRET"));
                self.location.clone()
            }
            CatalogKind::Sqlite => {
                options.push("TYPE sqlite".into());
                self.location.clone()
            }
        };
        if is_read_only {
            options.push("READ_ONLY".into());
        }
        let options = if options.is_empty() { String::new() } else { format!(" ({})", options.join(", ")) };
        format!("ATTACH {} AS {}{options}", literal(&location), quote(&self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog(kind: CatalogKind, location: &str, secret: Option<&str>) -> AttachedCatalog {
        AttachedCatalog {
            name: "lake".into(),
            kind,
            location: location.into(),
            secret: secret.map(str::to_owned),
            read_only: false,
            required: true,
            maintenance: Maintenance::default(),
        }
    }

    #[test]
    fn each_kind_is_attached_in_its_own_way() {
        let lake = CatalogKind::DuckLake { data_path: Some("s3://b/l/".into()) };
        let lake = catalog(lake, "postgres:", Some("pg"));
        assert_eq!(
            lake.attach_sql(true),
            "ATTACH 'ducklake:postgres:' AS \"lake\" (META_SECRET 'pg', DATA_INLINING_ROW_LIMIT 0, \
             DATA_PATH 's3://b/l/', READ_ONLY)"
        );
        let extensions: Vec<_> = lake.extensions().collect();
        assert_eq!(extensions, ["httpfs", "postgres_scanner", "ducklake"]);
        // Readers are not in the way of a commit.
        let lake = catalog(CatalogKind::DuckLake { data_path: None }, "sqlite:/d/l.sqlite", None);
        assert_eq!(
            lake.attach_sql(false),
            "ATTACH 'ducklake:sqlite:/d/l.sqlite' AS \"lake\" (DATA_INLINING_ROW_LIMIT 0, META_JOURNAL_MODE 'WAL')"
        );
        // Deletes that stay in the metadata do not conflict with merges.
        let lake = catalog(CatalogKind::DuckLake { data_path: None }, "/d/l.ducklake", None);
        assert_eq!(
            lake.attach_sql(false),
            "ATTACH 'ducklake:/d/l.ducklake' AS \"lake\" (DATA_INLINING_ROW_LIMIT 0)"
        );
        let postgres = catalog(CatalogKind::Postgres, "host=db", Some("pg"));
        assert_eq!(postgres.attach_sql(false), "ATTACH 'host=db' AS \"lake\" (TYPE postgres, SECRET 'pg')");
        let file = catalog(CatalogKind::DuckDb, "/d/it's.db", None);
        assert_eq!(file.attach_sql(false), "ATTACH '/d/it''s.db' AS \"lake\" (TYPE duckdb)");
        assert_eq!(file.extensions().count(), 0);
    }
}
