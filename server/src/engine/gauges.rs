//! What the engine can tell about itself at any moment, for those who watch it. Each is cheap: a counter, or
//! one call of the system.

use super::{Engine, answers::first_text, writer::WriterHandle};

impl Engine {
    /// Uploads that wait for the writer or to be merged, or that are being committed.
    pub fn units_queued(&self) -> usize {
        let merges = self.shared.merges.queued();
        merges + self.shared.writer.as_ref().map_or(0, WriterHandle::queued)
    }

    /// Bytes of rows that are on their way into the database.
    pub fn bytes_queued(&self) -> usize {
        self.shared.budget.taken()
    }

    /// Statements that go on although they were stopped.
    pub fn statements_overdue(&self) -> usize {
        self.shared.overdue.count()
    }

    /// Writes that are open beside the writer's: statements, transactions, and uploads that make their table.
    pub fn writes_open(&self) -> usize {
        self.shared.database.writes.count()
    }

    /// The memory limit and the worker threads that DuckDB has, with its defaults; empty while it is down.
    pub fn resources(&self) -> (String, String) {
        let setting = |name: &str| {
            let connection = self.shared.database.connection()?;
            first_text(&connection, &format!("SELECT system.main.current_setting('{name}')::VARCHAR"))
        };
        (setting("memory_limit").unwrap_or_default(), setting("threads").unwrap_or_default())
    }

    /// Bytes in the write-ahead log; 0 for a database in memory.
    pub fn wal_bytes(&self) -> u64 {
        self.shared.database.wal_bytes()
    }

    /// Bytes that this process may still write to the database's disk; `None` for a database in memory, and
    /// where the system does not tell.
    pub fn disk_free_bytes(&self) -> Option<u64> {
        self.shared.database.disk.free()
    }
}
