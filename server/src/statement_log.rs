//! One line for each statement when it ends: an id, its kind, rows, bytes and milliseconds; and a warning
//! with the text of one that was slow.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arrow_array::RecordBatch;

use crate::{engine::Error, metrics, sql::may_hold_secrets};

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
            error: None,
        }
    }
}

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
    error: Option<String>,
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

    /// The rows that were written.
    pub(crate) fn rows(&mut self, rows: u64) {
        self.rows += rows;
    }

    /// The size of what was written.
    pub(crate) fn bytes(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// Why the statement failed.
    pub(crate) fn failed(&mut self, error: &dyn std::fmt::Display) {
        self.error = Some(error.to_string());
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let elapsed = self.started.elapsed();
        metrics::statement_ended(self.kind, self.error.is_some(), elapsed);
        let milliseconds = elapsed.as_millis() as u64;
        let Self { id, kind, rows, bytes, text, error, .. } = self;
        // DuckDB's messages quote the statement.
        let error = error.as_deref().map(|error| if text.is_some() { error } else { "(not shown)" });
        let text = text.as_deref().unwrap_or("(not shown: it may hold a password)");
        if elapsed >= self.log.slow {
            tracing::warn!(
                query_id = *id,
                kind,
                rows = *rows,
                bytes = *bytes,
                milliseconds,
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
                error,
                "statement"
            );
        }
    }
}
