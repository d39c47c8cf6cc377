//! A copy of the database as a file of its own, made while everybody goes on.
//!
//! DuckDB copies it itself, from one snapshot into a second file that it has attached. The database's own file
//! is never opened or read in another way: that would drop its lock, and a copy of a file that changes is none.

mod copy;
mod target;

use std::sync::Arc;

use self::target::Target;
use super::{
    Engine, Error, Execution, Outcome, Result,
    batch_stream::{Cancel, CancelOnDrop},
    database::Database,
    delivery::cancelled,
    disk::free_bytes,
    error::Class,
};

impl Engine {
    /// Writes a backup to `file`, on the server's machine, and tells how many rows it holds. It is a read: it
    /// takes one of their places and no turn. It has no time limit. One that fails or whose caller goes away
    /// leaves no file.
    ///
    /// # Errors
    /// A file that exists or cannot be written, no room on its disk, and whatever DuckDB says;
    /// [`Error::ReadOnly`], [`Error::ReadBusy`].
    pub(super) async fn backup(&self, file: String, execution: &Execution) -> Result<Outcome> {
        if self.read_only() {
            return Err(Error::ReadOnly);
        }
        let permit = self.read_permit().await?;
        let cancel = CancelOnDrop::default();
        execution.begins(&cancel.0);
        let job = Job {
            file,
            database: Arc::clone(&self.shared.database),
            own: self.shared.options.path.clone(),
            reserve: self.shared.options.disk_reserve_bytes,
            cancel: cancel.0.clone(),
        };
        self.blocking(move || {
            let _permit = permit;
            job.run().map(Outcome::Changed)
        })
        .await
    }
}

/// One backup on its thread.
struct Job {
    file: String,
    database: Arc<Database>,
    /// The file of the database itself.
    own: Option<std::path::PathBuf>,
    /// Bytes that stay free on the disk.
    reserve: u64,
    cancel: Cancel,
}

impl Job {
    fn run(self) -> Result<u64> {
        let target = Target::new(&self.file, self.own.as_deref())?;
        let connection = self.database.private_connection()?;
        connection.forgive();
        let source = copy::Source { connection: &connection, catalog: &self.database.catalog };
        // What is in the write-ahead log is not in the file yet.
        let needed = source.bytes()?.saturating_add(self.database.wal_bytes()).saturating_add(self.reserve);
        if free_bytes(target.part()).is_some_and(|free| free < needed) {
            return Err(Error::Duck {
                class: Class::DiskFull,
                message: "there is no room for the backup".into(),
            });
        }
        let rows = source.copy(target.part(), &self.cancel).map_err(|error| target.name_failure(error))?;
        // What is cancelled leaves nothing, even where it was as good as done.
        if self.cancel.is_cancelled() {
            return Err(cancelled());
        }
        target.publish()?;
        tracing::info!(rows, "wrote a backup");
        Ok(rows)
    }
}
