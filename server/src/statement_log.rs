//! One line for each statement when it ends: an id, its kind, rows, bytes, milliseconds and how it ended; and a warning
//! with the text of one that was slow.

use std::{
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arrow_array::RecordBatch;
use futures::{Stream, StreamExt, stream};

use crate::{
    engine::{Class, Error},
    metrics,
    session::SessionError,
    sql::may_hold_secrets,
};

/// Characters of a slow statement's text that the log shows.
const TEXT_SHOWN: usize = 500;

/// Gives out ids and knows what is slow.
pub(crate) struct StatementLog {
    next: AtomicU64,
    slow: Duration,
}

impl StatementLog {
    pub(crate) fn new(slow: Duration) -> Self {
        Self { next: AtomicU64::new(1), slow }
    }

    /// A statement begins.
    pub(crate) fn begin(self: &Arc<Self>, kind: &'static str, text: &str) -> Entry {
        Entry {
            log: Arc::clone(self),
            id: self.next.fetch_add(1, Ordering::Relaxed),
            kind,
            text: (!may_hold_secrets(text)).then(|| text.chars().take(TEXT_SHOWN).collect()),
            started: Instant::now(),
            rows: 0,
            bytes: 0,
            end: None,
        }
    }
}

/// How a statement has ended.
enum End {
    /// It was done.
    Ok,
    /// It failed.
    Error(String),
    /// Somebody put an end to it: its client, or the stop of the server.
    Cancelled(String),
}

/// What says why a statement has ended early.
pub(crate) trait Reason: Display {
    /// Whether that was not the statement's own fault.
    fn is_cancel(&self) -> bool {
        false
    }
}

impl Reason for Error {
    fn is_cancel(&self) -> bool {
        matches!(self, Self::Stopping | Self::Disconnected) || self.class() == Some(Class::Interrupted)
    }
}

impl Reason for SessionError {
    fn is_cancel(&self) -> bool {
        matches!(self, Self::Engine(error) if error.is_cancel())
    }
}

impl Reason for &str {}

/// One statement's line; written when dropped, so that no way out goes without it.
pub(crate) struct Entry {
    log: Arc<StatementLog>,
    id: u64,
    kind: &'static str,
    /// Its beginning, unless it may hold a password.
    text: Option<String>,
    started: Instant,
    rows: u64,
    bytes: u64,
    /// Absent while it goes on; at the end, where nobody has waited for that.
    end: Option<End>,
}

impl Entry {
    /// Counts a batch that goes out, or remembers why none does.
    pub(crate) fn saw(&mut self, batch: &Result<RecordBatch, Error>) {
        match batch {
            Ok(batch) => {
                self.rows += batch.num_rows() as u64;
                self.bytes += batch.get_array_memory_size() as u64;
            }
            Err(error) => self.failed(error),
        }
    }

    /// Counts the rows of a stream, at whose end the statement is done.
    pub(crate) fn follow(
        self,
        rows: impl Stream<Item = Result<RecordBatch, Error>> + Unpin,
    ) -> impl Stream<Item = Result<RecordBatch, Error>> {
        stream::unfold((rows, self), async |(mut rows, mut entry)| match rows.next().await {
            Some(batch) => {
                entry.saw(&batch);
                Some((batch, (rows, entry)))
            }
            None => {
                entry.done();
                None
            }
        })
    }

    /// The statement is done, and has written so many rows.
    pub(crate) fn rows(&mut self, rows: u64) {
        self.rows += rows;
        self.done();
    }

    /// The statement is done, unless it has failed before.
    pub(crate) fn done(&mut self) {
        self.end.get_or_insert(End::Ok);
    }

    /// The size of what was written.
    pub(crate) fn bytes(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// Why the statement failed, or was cancelled.
    pub(crate) fn failed(&mut self, error: &impl Reason) {
        let text = error.to_string();
        self.end = Some(if error.is_cancel() { End::Cancelled(text) } else { End::Error(text) });
    }

    /// Its outcome, as the log and the metrics have it, and why.
    fn outcome(&self) -> (&'static str, Option<&str>) {
        match &self.end {
            Some(End::Ok) => ("ok", None),
            Some(End::Error(why)) => ("error", Some(why)),
            Some(End::Cancelled(why)) => ("cancelled", Some(why)),
            None => ("cancelled", Some("its client did not wait for its end")),
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let elapsed = self.started.elapsed();
        let (outcome, error) = self.outcome();
        metrics::statement_ended(self.kind, outcome, elapsed);
        let milliseconds = elapsed.as_millis() as u64;
        let Self { id, kind, rows, bytes, text, .. } = &*self;
        // DuckDB's messages quote the statement.
        let error = error.map(|error| if text.is_some() { error } else { "(not shown)" });
        let text = text.as_deref().unwrap_or("(not shown: it may hold a password)");
        if elapsed >= self.log.slow {
            tracing::warn!(
                query_id = *id,
                kind,
                rows = *rows,
                bytes = *bytes,
                milliseconds,
                outcome,
                error,
                text,
                "slow statement"
            );
        } else {
            tracing::debug!(
                query_id = *id,
                kind,
                rows = *rows,
                bytes = *bytes,
                milliseconds,
                outcome,
                error,
                "statement"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Arc::new(StatementLog::new(Duration::MAX)).begin("read", "SELECT 1")
    }

    #[test]
    fn what_nobody_waits_for_or_somebody_stops_is_cancelled() {
        assert_eq!(entry().outcome().0, "cancelled");
        let interrupted = Error::Duck { class: Class::Interrupted, message: "INTERRUPT Error".into() };
        for (error, outcome) in [
            (interrupted, "cancelled"),
            (Error::Stopping, "cancelled"),
            (Error::Disconnected, "cancelled"),
            (Error::Timeout(Duration::from_secs(1)), "error"),
            (Error::EngineDown, "error"),
        ] {
            let mut entry = entry();
            entry.failed(&error);
            assert_eq!(entry.outcome(), (outcome, Some(error.to_string().as_str())));
            entry.failed(&SessionError::from(error));
            assert_eq!(entry.outcome().0, outcome);
        }
        let mut entry = entry();
        entry.rows(1);
        assert_eq!(entry.outcome(), ("ok", None));
    }

    /// As that of a stream, which comes after its error.
    #[test]
    fn an_end_after_a_failure_is_no_success() {
        for error in [Error::EngineDown, Error::Stopping] {
            let mut entry = entry();
            entry.saw(&Err(error.clone()));
            let (outcome, _) = entry.outcome();
            entry.done();
            assert_eq!(entry.outcome(), (outcome, Some(error.to_string().as_str())));
        }
    }
}
