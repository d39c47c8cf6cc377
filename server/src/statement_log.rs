//! One line for each statement when it ends: an id, its kind, rows, bytes, milliseconds and how it ended; and a warning
//! with the text of one that was slow.

use std::{fmt::Display, sync::Arc, time::Duration};

use arrow_array::RecordBatch;
use futures::{Stream, StreamExt, stream};

use crate::{
    engine::{Activity, Arrived, Caller, Class, Error, NOT_SHOWN, Registered, State},
    metrics,
    session::{Session, SessionError},
    sql::may_hold_secrets,
};

/// Characters of a slow statement's text that the log shows.
const TEXT_LOGGED: usize = 500;
/// Bytes of a statement's text that are shown while it runs.
const TEXT_SHOWN: usize = 4_096;
/// The kind of an upload, whose rows come before anything runs.
pub(crate) const INGEST: &str = "ingest";
/// That of a statement of which a client asks what it would give.
const PLAN: &str = "plan";

/// Knows what runs and what is slow.
pub(crate) struct StatementLog {
    activity: Arc<Activity>,
    slow: Duration,
}

impl StatementLog {
    /// Everybody sees in `activity` what has begun and not ended.
    pub(crate) fn new(activity: Arc<Activity>, slow: Duration) -> Self {
        Self { activity, slow }
    }

    /// A statement begins in a session.
    pub(crate) fn begin(self: &Arc<Self>, session: &Session, kind: &'static str, text: &str) -> Entry {
        self.begin_for(session.caller(), kind, text)
    }

    /// Plans a statement, which everybody sees meanwhile, and an operator may end. It has no line of its own.
    pub(crate) async fn plan<T, E: From<Error>>(
        &self,
        session: &Session,
        text: &str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.activity.begin(session.caller(), PLAN, shown(text), State::Running).run(work).await
    }

    fn begin_for(self: &Arc<Self>, caller: Caller, kind: &'static str, text: &str) -> Entry {
        let shown = shown(text);
        let state = if kind == INGEST { State::Receiving } else { State::Running };
        let statement = self.activity.begin(caller, kind, shown, state);
        Entry { log: Arc::clone(self), statement, bytes: 0, end: None }
    }
}

/// As much of a text as anybody may see.
fn shown(text: &str) -> Option<Box<str>> {
    if may_hold_secrets(text) {
        return None;
    }
    let end = (0..=TEXT_SHOWN.min(text.len())).rev().find(|&at| text.is_char_boundary(at));
    Some(text[..end.unwrap_or(0)].into())
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
        matches!(self, Self::Stopping | Self::Disconnected | Self::EndedByOperator)
            || self.class() == Some(Class::Interrupted)
    }
}

impl Reason for SessionError {
    fn is_cancel(&self) -> bool {
        matches!(self, Self::Engine(error) if error.is_cancel())
    }
}

impl Reason for &str {}

/// One statement's line; written when dropped, so that no way out goes without it. Until then everybody sees that it
/// runs.
pub(crate) struct Entry {
    log: Arc<StatementLog>,
    statement: Registered,
    bytes: u64,
    /// Absent while it goes on; at the end, where nobody has waited for that.
    end: Option<End>,
}

impl Entry {
    /// Does what the statement asks for; or gives the news that an operator has ended it. Why it has failed is kept for
    /// its line.
    pub(crate) async fn run<T, E: From<Error> + Reason>(
        &mut self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.statement.run(work).await.inspect_err(|error| self.failed(error))
    }

    /// Counts the rows of an upload as they come.
    pub(crate) fn receive<S: Stream<Item = Result<Arrived, Error>> + Unpin + Send>(
        &self,
        rows: S,
    ) -> impl Stream<Item = Result<Arrived, Error>> + Unpin + Send + use<S> {
        let statement = Arc::clone(&self.statement);
        rows.inspect(move |arrived| {
            if let Ok(Arrived::Rows(rows)) = arrived {
                statement.add_rows(rows.batch.num_rows() as u64);
            }
        })
    }

    /// An upload is complete: from here on it is committed or refused, and nobody ends it.
    pub(crate) fn commits(&self) {
        self.statement.set_state(State::Committing);
    }

    /// Counts a batch that goes out, or remembers why none does.
    pub(crate) fn saw(&mut self, batch: &Result<RecordBatch, Error>) {
        match batch {
            Ok(batch) => {
                self.statement.add_rows(batch.num_rows() as u64);
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
        self.statement.set_rows(rows);
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
        let statement = &self.statement;
        let elapsed = statement.started().elapsed();
        let (outcome, error) = self.outcome();
        let (query_id, kind, rows, bytes) = (statement.id(), statement.kind(), statement.rows(), self.bytes);
        metrics::statement_ended(kind, outcome, elapsed);
        let milliseconds = elapsed.as_millis() as u64;
        let Caller { session, user, .. } = statement.caller();
        let user = user.as_deref();
        // DuckDB's messages quote the statement.
        let error = error.map(|error| if statement.text().is_some() { error } else { "(not shown)" });
        if elapsed >= self.log.slow {
            let text: String = statement.text().unwrap_or(NOT_SHOWN).chars().take(TEXT_LOGGED).collect();
            tracing::warn!(
                query_id,
                session,
                user,
                kind,
                rows,
                bytes,
                milliseconds,
                outcome,
                error,
                text,
                "slow statement"
            );
        } else {
            tracing::debug!(
                query_id,
                session,
                user,
                kind,
                rows,
                bytes,
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
        Arc::new(StatementLog::new(Arc::default(), Duration::MAX)).begin_for(
            Caller::default(),
            "read",
            "SELECT 1",
        )
    }

    #[test]
    fn what_nobody_waits_for_or_somebody_stops_is_cancelled() {
        assert_eq!(entry().outcome().0, "cancelled");
        let interrupted = Error::Duck { class: Class::Interrupted, message: "INTERRUPT Error".into() };
        for (error, outcome) in [
            (interrupted, "cancelled"),
            (Error::Stopping, "cancelled"),
            (Error::Disconnected, "cancelled"),
            (Error::EndedByOperator, "cancelled"),
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
