//! How long statements may run, and how old the snapshot of a read may become.
//!
//! An old snapshot keeps what has been updated, deleted or dropped since from being checkpointed, so that the
//! write-ahead log grows. Reads therefore have a limit of their own beside that of every statement.

use std::{future, time::Duration};

use super::{
    Engine, Error, Result, activity,
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
        activity::begins(cancel);
        cancel.watch(&self.shared.overdue, holds);
        let options = &self.shared.options;
        let limit = match (options.query_timeout, options.read_age) {
            (timeout, Some(age)) if timeout.is_none_or(|timeout| age < timeout) => {
                Some((age, Error::ReadTooOld(age)))
            }
            _ => self.timeout(),
        };
        let cut_off = self.shared.reads_end.clone().cancelled_owned();
        stop_when(cancel, async {
            tokio::select! {
                reason = over(limit) => reason,
                () = cut_off => Error::Stopping,
            }
        });
    }

    /// Stops all statements that read, because the server does not wait for them any longer: their clients are told so.
    /// Of those that write nobody could tell what becomes of them.
    pub fn cut_off_reads(&self) {
        self.shared.reads_end.cancel();
    }

    /// Stops any other statement once its time is over.
    pub(super) fn limit_write(&self, cancel: &Cancel) {
        activity::begins(cancel);
        cancel.watch(&self.shared.overdue, Holds::Other);
        let timeout = self.timeout();
        if timeout.is_some() {
            stop_when(cancel, over(timeout));
        }
    }

    /// How long a statement may run, and why it is stopped then.
    fn timeout(&self) -> Option<(Duration, Error)> {
        self.shared.options.query_timeout.map(|timeout| (timeout, Error::Timeout(timeout)))
    }

    /// The turn for a statement that writes, once there is room for it on the disk and in the write-ahead log.
    pub(super) async fn writing_turn(&self, sql: &str, kind: Kind) -> Result<(TurnPermit, OpenWrite)> {
        let database = &self.shared.database;
        self.check_disk(sql)?;
        database.writes.admitted().await?;
        let mut turn = self.shared.turn.take().await?;
        turn.writes(sql::written(sql));
        // It may have waited for long.
        database.writes.admitted().await?;
        Ok((turn, database.writes.open(kind)))
    }

    /// Refuses what would fill the disk. What makes room is let through, as long as there is any.
    pub(super) fn check_disk(&self, sql: &str) -> Result<()> {
        self.check_checkpoint(sql)?;
        if sql::makes_room(sql) { Ok(()) } else { self.shared.database.disk.check(STATEMENT_BYTES) }
    }

    /// Refuses a CHECKPOINT for which there is no room. DuckDB makes one in a transaction that only reads as well.
    pub(super) fn check_checkpoint(&self, sql: &str) -> Result<()> {
        if sql::checkpoints(sql) { self.shared.database.check_checkpoints() } else { Ok(()) }
    }
}

/// The reason, once the time is over; never where there is no limit.
async fn over(limit: Option<(Duration, Error)>) -> Error {
    let Some((time, reason)) = limit else { return future::pending().await };
    tokio::time::sleep(time).await;
    reason
}

/// Stops the statement when there is a reason, unless it has ended.
fn stop_when(cancel: &Cancel, reason: impl Future<Output = Error> + Send + 'static) {
    let (ended, cancel) = (cancel.token(), cancel.downgrade());
    tokio::spawn(async move {
        if let Some(reason) = ended.run_until_cancelled(reason).await
            && let Some(cancel) = cancel.upgrade()
        {
            cancel.stop_because(reason);
        }
    });
}
