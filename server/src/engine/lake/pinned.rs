//! What a transaction in a lake rests on, and DuckLake frees too early.
//!
//! DuckLake (1.5.5) keeps what it knows of a lake's tables in a cache of the instance, an entry a version of the schema, and
//! holds an entry that a statement has used until that statement ends. What a transaction has made refers to its entry until
//! COMMIT, which then reads memory that was freed, if the entry has gone from the cache meanwhile: because snapshots
//! expired, because memory was short, or because somebody else loaded the same version at the same time
//! (<https://github.com/duckdb/ducklake/issues/1248>). The process dies, or the wrong schema is written down.

use super::Connection;
use crate::sql::{INTERNAL_PREFIX, quote};

/// Schemas of lakes that stay in memory until this is dropped. For as long as a transaction that makes or changes tables.
#[derive(Default)]
pub(crate) struct PinnedSchemas {
    /// A statement that is planned holds what it has used, and where none is run there is no end of one that lets go.
    planned_on: Option<Connection>,
}

impl PinnedSchemas {
    /// Adds the newest schema of a lake, which is attached under this name. What fails in that is for the transaction
    /// itself to tell.
    pub(crate) fn pin(&mut self, connection: &Connection, lake: &str) {
        if self.planned_on.is_none() {
            self.planned_on = connection.beside().ok();
        }
        let Some(beside) = &self.planned_on else { return };
        beside.forgive();
        // There is no such table; the look for it is what it takes.
        let look = format!("FROM {}.{INTERNAL_PREFIX}.{INTERNAL_PREFIX}", quote(lake));
        let _ = beside.extract(&look).and_then(|statements| statements.prepare(0).map(drop));
    }
}
