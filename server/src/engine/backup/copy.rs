//! The copy itself, in one transaction: it reads one snapshot of the database and writes the backup only.
//!
//! `COPY FROM DATABASE` alone is not enough: DuckDB 1.5.5 copies the rows of tables with foreign keys in an
//! order that breaks them. So it copies the schema, with everything that is no row, and the rows follow table
//! by table, each after those that it refers to.

mod tables;

use std::path::Path;

use tables::{Table, tables};

use crate::{
    engine::{Error, Result, answers::first_text, batch_stream::Cancel, error::Class, ffi::Connection},
    sql::{literal, quote},
};

/// How the backup is called while it is attached. `sql::gate` refuses such names to clients.
pub(super) const BACKUP_PREFIX: &str = "__merganser_backup_";

/// What is copied, and the connection for it.
pub(super) struct Source<'a> {
    /// Nobody else's.
    pub(super) connection: &'a Connection,
    /// The name of the database.
    pub(super) catalog: &'a str,
}

impl Source<'_> {
    /// About as many bytes as the backup will have.
    pub(super) fn bytes(&self) -> Result<u64> {
        let sql = format!(
            "SELECT (used_blocks * block_size)::VARCHAR FROM system.main.pragma_database_size() WHERE database_name = {}",
            literal(self.catalog)
        );
        Ok(first_text(self.connection, &sql)?.parse().unwrap_or(0))
    }

    /// Copies everything to a new file, complete and without a write-ahead log, and counts the rows.
    pub(super) fn copy(&self, file: &Path, cancel: &Cancel) -> Result<u64> {
        let random = getrandom::u64().map_err(|error| Error::Internal(error.to_string()))?;
        let copy = Copy { source: self, name: format!("{BACKUP_PREFIX}{random:016x}"), cancel };
        copy.attach(file)?;
        let copied = copy.copy_all();
        if copied.is_err() {
            // After some failures DuckDB has ended the transaction itself.
            let _ = self.connection.execute("ROLLBACK");
        }
        let detached = self.connection.execute(&format!("DETACH {}", copy.name));
        let rows = copied?;
        detached?;
        Ok(rows)
    }
}

/// One copy under way.
struct Copy<'a> {
    source: &'a Source<'a>,
    name: String,
    cancel: &'a Cancel,
}

impl Copy<'_> {
    fn run(&self, sql: &str) -> Result<u64> {
        let connection = self.source.connection;
        self.cancel.while_running(connection.interrupt(), || Ok(connection.execute(sql)?))
    }

    /// Hidden, so that no client's list of databases or tables shows it; in the storage format of the original.
    fn attach(&self, file: &Path) -> Result<()> {
        let version = first_text(
            self.source.connection,
            &format!(
                "SELECT coalesce(rtrim(tags['storage_version'], '+'), 'v1.0.0') FROM system.main.duckdb_databases() \
                 WHERE database_name = {}",
                literal(self.source.catalog)
            ),
        )?;
        self.run(&format!(
            "ATTACH {} AS {} (HIDDEN, TYPE duckdb, STORAGE_VERSION {})",
            literal(&file.to_string_lossy()),
            self.name,
            literal(&version)
        ))?;
        Ok(())
    }

    fn copy_all(&self) -> Result<u64> {
        self.run("BEGIN TRANSACTION")?;
        self.run(&format!("COPY FROM DATABASE {} TO {} (SCHEMA)", quote(self.source.catalog), self.name))?;
        let mut rows = 0;
        for table in tables(self.source.connection, self.source.catalog)? {
            let copied =
                if table.refers_to_itself() { self.copy_rounds(&table)? } else { self.copy_table(&table)? };
            tracing::debug!(table = table.name, rows = copied, "copied a table to the backup");
            rows += copied;
        }
        self.run("COMMIT")?;
        self.run(&format!("CHECKPOINT {}", self.name))?;
        Ok(rows)
    }

    /// The INSERT that takes all rows.
    fn insert(&self, table: &Table) -> String {
        let columns = table.columns();
        format!(
            "INSERT INTO {} ({columns}) SELECT {columns} FROM {} AS original",
            table.in_catalog(&self.name),
            table.in_catalog(self.source.catalog),
        )
    }

    fn copy_table(&self, table: &Table) -> Result<u64> {
        self.run(&self.insert(table))
    }

    /// DuckDB checks a row of a table that refers to itself against the rows of earlier statements only. So
    /// each round takes those whose row above is there.
    fn copy_rounds(&self, table: &Table) -> Result<u64> {
        let backup = table.in_catalog(&self.name);
        let insert = format!("{} WHERE {}", self.insert(table), table.can_be_copied(&backup));
        let mut rows = 0;
        loop {
            match self.run(&insert)? {
                0 => break,
                copied => rows += copied,
            }
        }
        let count = format!("SELECT count(*)::VARCHAR FROM {}", table.in_catalog(self.source.catalog));
        if first_text(self.source.connection, &count)? == rows.to_string() {
            return Ok(rows);
        }
        Err(Error::Duck {
            class: Class::Unsupported,
            message: format!(
                "table {} refers to itself in a way that cannot be copied while the server runs; copy the file with the server stopped",
                table.name
            ),
        })
    }
}
