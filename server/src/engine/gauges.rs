//! What the engine can tell about itself at any moment, for those who watch it. Each is cheap: a counter, or
//! one call of the system.

use super::{Engine, writer::WriterHandle};

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
