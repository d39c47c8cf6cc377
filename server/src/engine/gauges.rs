//! What the engine can tell about itself at any moment, for those who watch it. Each is cheap: a counter, or
//! one call of the system.

use std::path::Path;

use super::Engine;

impl Engine {
    /// Uploads that wait for the writer, or that it is committing.
    pub fn units_queued(&self) -> usize {
        self.shared.writer.as_ref().map_or(0, |writer| self.shared.options.queue_units - writer.free_slots())
    }

    /// Bytes of rows that are on their way into the database.
    pub fn bytes_queued(&self) -> usize {
        self.shared.budget.taken()
    }

    /// Bytes in the write-ahead log; 0 for a database in memory.
    pub fn wal_bytes(&self) -> u64 {
        self.shared.database.wal_bytes()
    }

    /// Bytes that this process may still write to the database's disk; `None` for a database in memory, and
    /// where the system does not tell.
    pub fn disk_free_bytes(&self) -> Option<u64> {
        free_bytes(self.shared.options.path.as_deref()?)
    }
}

/// Bytes that this process may still write to the disk of a file, which need not exist yet.
pub(super) fn free_bytes(file: &Path) -> Option<u64> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}
