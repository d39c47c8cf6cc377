//! Backups of the server's database.

use crate::{Client, Error};

impl Client {
    /// Makes the server write a copy of its database, as of now, to a new file on its own machine; loaders and
    /// queries go on meanwhile. Tells how many rows it holds. Dropping the call cancels it.
    ///
    /// # Errors
    /// [`Error::Server`] with the reason: `file` is no absolute path or exists, there is no room, or the server
    /// is read-only. Then there is no file.
    pub async fn backup(&self, file: &str) -> Result<u64, Error> {
        let rows = self.execute(&format!("BACKUP DATABASE TO '{}'", file.replace('\'', "''"))).await?;
        Ok(u64::try_from(rows).unwrap_or_default())
    }
}
