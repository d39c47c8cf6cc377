//! How long statements may run, and how old the snapshot of a read may become.
//!
//! An old snapshot keeps what has been updated, deleted or dropped since from being checkpointed, so that the
//! write-ahead log grows. Reads therefore have a limit of their own beside that of every statement.

use std::time::Duration;

use super::{
    Engine, Error, Result,
    batch_stream::Cancel,
    open_writes::{Kind, OpenWrite},
    overdue::Holds,
    turn::TurnPermit,
};
use crate::sql;

/// What a statement writes is not known before it has; so much is asked for.
const STATEMENT_BYTES: u64 = 1 << 20;

impl Engine {
    /// Stops a statement that reads once its time is over, or its snapshot too old.
    pub(super) fn limit_read(&self, cancel: &Cancel) {
        self.limit_snapshot(cancel, Holds::Read);
    }

    /// The same for what only plans a statement.
    pub(super) fn limit_plan(&self, cancel: &Cancel) {
        self.limit_snapshot(cancel, Holds::Plan);
    }

    fn limit_snapshot(&self, cancel: &Cancel, holds: Holds) {
        cancel.watch(&self.shared.overdue, holds);
        let options = &self.shared.options;
        match (options.query_timeout, options.read_age) {
            (timeout, Some(age)) if timeout.is_none_or(|timeout| age < timeout) => {
                stop_after(cancel, age, Error::ReadTooOld(age));
            }
            _ => self.limit(cancel),
        }
    }

    /// Stops any other statement once its time is over.
    pub(super) fn limit_write(&self, cancel: &Cancel) {
        cancel.watch(&self.shared.overdue, Holds::Other);
        self.limit(cancel);
    }

    fn limit(&self, cancel: &Cancel) {
        if let Some(timeout) = self.shared.options.query_timeout {
            stop_after(cancel, timeout, Error::Timeout(timeout));
        }
    }

    /// The turn for a statement that writes, once there is room for it on the disk and in the write-ahead log.
    pub(super) async fn writing_turn(&self, sql: &str, kind: Kind) -> Result<(TurnPermit, OpenWrite)> {
        let database = &self.shared.database;
        self.check_disk(sql)?;
        database.writes.admitted().await?;
        let turn = self.shared.turn.take().await?;
        // It may have waited for long.
        database.writes.admitted().await?;
        Ok((turn, database.writes.open(kind)))
    }

    /// Refuses what would fill the disk. What makes room is let through, as long as there is any.
    pub(super) fn check_disk(&self, sql: &str) -> Result<()> {
        let database = &self.shared.database;
        if sql::mentions(sql, "checkpoint") {
            return database.check_checkpoint(0);
        }
        if sql::makes_room(sql) { Ok(()) } else { database.disk.check(STATEMENT_BYTES) }
    }
}

/// Stops the statement for `reason` once its time is over, unless it has ended.
fn stop_after(cancel: &Cancel, time: Duration, reason: Error) {
    let (ended, cancel) = (cancel.token(), cancel.downgrade());
    tokio::spawn(async move {
        let expired = tokio::time::timeout(time, ended.cancelled()).await.is_err();
        if let Some(cancel) = cancel.upgrade().filter(|_| expired) {
            cancel.stop_because(reason);
        }
    });
}
