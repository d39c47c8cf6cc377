//! Jobs of the server, run on demand.

use crate::{Client, Error};

impl Client {
    /// Makes the server tidy up a lake now: inlined rows are flushed, small files merged, old snapshots and files
    /// removed. Tells how many rows, files and snapshots that concerned. Dropping the call does not stop it.
    ///
    /// # Errors
    /// [`Error::Server`] with the reason: there is no such lake, or another server is at it.
    pub async fn maintain(&self, catalog: &str) -> Result<u64, Error> {
        self.run_job(&format!("MAINTAIN CATALOG {}", quoted(catalog))).await
    }

    /// Makes the server run a pipeline now. Tells how many rows it moved. Dropping the call does not stop it.
    ///
    /// # Errors
    /// As [`Client::maintain`].
    pub async fn run_pipeline(&self, pipeline: &str) -> Result<u64, Error> {
        self.run_job(&format!("RUN PIPELINE {}", quoted(pipeline))).await
    }

    async fn run_job(&self, sql: &str) -> Result<u64, Error> {
        let changed = self.execute(sql).await?;
        Ok(u64::try_from(changed).unwrap_or_default())
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
