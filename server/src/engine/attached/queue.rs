//! Whose turn it is among several servers that write to one DuckLake.
//!
//! The ledger's fence alone keeps keys apart, but the server that has just committed always has a head start for
//! the next commit, so that another one may be late for ever. Where the lake's metadata is in PostgreSQL, servers
//! wait in the fair queue of an advisory lock instead. It is only a courtesy: whoever does not get it in time goes
//! ahead without.

use crate::{
    engine::{database::Pooled, lake::metadata_of},
    sql::literal,
};

/// What the lock is called; PostgreSQL wants a number.
const LOCK: &str = "hashtext('merganser ingest')";
/// A server that stands still must not stop the others.
const PATIENCE: &str = "5s";

/// A place in the queue of the servers.
pub(super) struct Queue {
    connection: Pooled,
    metadata: String,
}

/// The turn, until dropped.
pub(super) struct QueueTurn<'a> {
    queue: &'a Queue,
}

impl Queue {
    pub(super) fn new(connection: Pooled, catalog: &str) -> Self {
        Self { connection, metadata: metadata_of(catalog) }
    }

    /// Waits for the turn.
    pub(super) fn take(&self) -> QueueTurn<'_> {
        let ask = |sql: &str| {
            let ask = format!("FROM postgres_query({}, {})", literal(&self.metadata), literal(sql));
            self.connection.execute(&ask)
        };
        let taken = self
            .connection
            .execute("BEGIN TRANSACTION")
            .and_then(|_| ask(&format!("SELECT set_config('lock_timeout', '{PATIENCE}', true)")))
            .and_then(|_| ask(&format!("SELECT pg_advisory_xact_lock({LOCK})::text")));
        if let Err(error) = taken {
            tracing::debug!(%error, "went ahead without a turn among the servers");
        }
        QueueTurn { queue: self }
    }
}

impl Drop for QueueTurn<'_> {
    fn drop(&mut self) {
        // After a failure there may be no transaction any more.
        let _ = self.queue.connection.execute("ROLLBACK");
    }
}
