//! DuckDB without a server, for benchmarks: its appender, as a program would use it, fed with the writer's chunks, and no
//! network, queue or thread between. What the writer reaches is measured against this.

use std::path::Path;

use arrow_array::RecordBatch;

use super::{
    Options, Result,
    ffi::{Appender, ArrowImport, Connection, Database, slices},
};

/// A database that one thread appends to.
pub struct InProcess {
    connection: Connection,
    import: ArrowImport,
    table: String,
}

impl InProcess {
    /// Opens a file with the server's checkpoint size, creates `table` with `columns` (SQL), and gets
    /// ready to append batches of `template`'s schema.
    ///
    /// # Errors
    /// Whatever DuckDB says.
    pub fn open(path: &Path, table: &str, columns: &str, template: &RecordBatch) -> Result<Self> {
        let checkpoint = format!("{}B", Options::default().checkpoint_bytes);
        let database = Database::open(Some(path), &[("checkpoint_threshold", checkpoint)])?;
        let connection = database.connect()?;
        connection.execute(&format!("CREATE TABLE {table} ({columns})"))?;
        let import = ArrowImport::new(&connection, template.schema_ref())?;
        Ok(Self { connection, import, table: table.to_owned() })
    }

    /// Appends batches and commits them in one transaction.
    ///
    /// # Errors
    /// Whatever DuckDB says.
    pub fn commit(&self, batches: &[RecordBatch]) -> Result<()> {
        self.connection.execute("BEGIN TRANSACTION")?;
        let appender = Appender::open(&self.connection, ("", "", &self.table), None)?;
        for slice in batches.iter().flat_map(slices) {
            appender.append(&self.import.chunk(&slice)?)?;
        }
        appender.flush()?;
        drop(appender);
        self.connection.execute("COMMIT")?;
        Ok(())
    }
}
