//! Answers. Rows leave as they are computed and as the client takes them; a client that goes away drops its body,
//! and with it the query. An error after the first byte breaks the answer off, which every client sees.

use std::collections::VecDeque;

use arrow_array::RecordBatch;
use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};
use serde::Serialize;
use serde_json::json;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{door::Visit, problem::Problem};
use crate::{
    engine::{BatchStream, Error, Outcome, Statement},
    failure::Failure,
    http::format::{Encode, Format},
    statement_log::Entry,
};

/// Rows that are written at once; more would be held in memory as text.
const SLICE_ROWS: usize = 8_192;
/// More values than that are written on a thread that may take its time.
const FEW_VALUES: usize = 2_048;
/// And more bytes.
const FEW_BYTES: usize = 64 << 10;

/// Runs a statement and answers what it gives.
pub(super) async fn to_statement(
    visit: Visit,
    statement: Statement,
    format: Format,
) -> Result<Response, Problem> {
    let mut entry = visit.api.log.begin(&visit.session, "http", &statement.sql);
    match entry.run(visit.session.run_once(statement)).await? {
        Outcome::Rows(rows) => respond(rows, format, entry, visit.open).await,
        Outcome::Changed(rows) => {
            entry.rows(rows);
            json(&json!({ "changed": rows }))
        }
    }
}

/// Rows in a form, as they come. Waits for the first, so that what fails before it is a problem of its own. `open`
/// is kept until the last byte has left.
pub(super) async fn respond(
    rows: BatchStream,
    format: Format,
    mut entry: Entry,
    open: TaskTrackerToken,
) -> Result<Response, Problem> {
    let encoder = format.encoder(&rows.schema()).inspect_err(|failure| entry.failed(&failure.text()))?;
    respond_by(encoder, rows, format, entry, open).await
}

/// The same by an encoder that is there.
pub(super) async fn respond_by(
    encoder: Box<dyn Encode>,
    mut rows: BatchStream,
    format: Format,
    mut entry: Entry,
    open: TaskTrackerToken,
) -> Result<Response, Problem> {
    let first = rows.next().await.inspect(|batch| entry.saw(batch)).transpose()?;
    let answer = Answer {
        rows,
        encoder: Some(encoder),
        waiting: first.map(slices).unwrap_or_default(),
        begun: false,
        entry,
        _open: open,
    };
    let bytes = stream::try_unfold(answer, |mut answer| async {
        let bytes = answer.next().await.inspect_err(|error| {
            answer.entry.failed(error);
            tracing::debug!(%error, "an answer over HTTP breaks off");
        })?;
        Ok::<_, Error>(bytes.map(|bytes| (Bytes::from(bytes), answer)))
    });
    let mut response = Response::new(Body::from_stream(bytes));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    Ok(response)
}

/// A whole answer in JSON.
pub(super) fn json(value: &impl Serialize) -> Result<Response, Problem> {
    let text = serde_json::to_string(value).map_err(|error| Failure::internal(&error))?;
    Ok(([(CONTENT_TYPE, Format::Json.content_type())], text).into_response())
}

/// An answer under way.
struct Answer {
    rows: BatchStream,
    /// Absent once the last row is written.
    encoder: Option<Box<dyn Encode>>,
    waiting: VecDeque<RecordBatch>,
    begun: bool,
    entry: Entry,
    _open: TaskTrackerToken,
}

impl Answer {
    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        // A format may have nothing to say of some rows yet, and an empty chunk would be the end.
        while let Some(encoder) = self.encoder.take() {
            let bytes = self.step(encoder).await?;
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    async fn step(&mut self, mut encoder: Box<dyn Encode>) -> Result<Vec<u8>, Error> {
        let mut bytes = if std::mem::replace(&mut self.begun, true) { Vec::new() } else { encoder.head()? };
        if self.waiting.is_empty() {
            match self.rows.next().await {
                Some(batch) => {
                    self.entry.saw(&batch);
                    self.waiting = slices(batch?);
                }
                None => {
                    bytes.append(&mut encoder.tail()?);
                    self.entry.done();
                    return Ok(bytes);
                }
            }
        }
        if let Some(slice) = self.waiting.pop_front() {
            let (encoder, mut written) = write(encoder, slice).await?;
            self.encoder = Some(encoder);
            if bytes.is_empty() {
                return Ok(written);
            }
            bytes.append(&mut written);
        } else {
            self.encoder = Some(encoder);
        }
        Ok(bytes)
    }
}

/// Writes rows, away from the threads of the network where it takes long.
async fn write(
    mut encoder: Box<dyn Encode>,
    batch: RecordBatch,
) -> Result<(Box<dyn Encode>, Vec<u8>), Error> {
    let few =
        batch.num_rows() * batch.num_columns() <= FEW_VALUES && batch.get_array_memory_size() <= FEW_BYTES;
    if few {
        let bytes = encoder.rows(&batch)?;
        return Ok((encoder, bytes));
    }
    let written = tokio::task::spawn_blocking(move || {
        let bytes = encoder.rows(&batch)?;
        Ok((encoder, bytes))
    });
    written.await.unwrap_or_else(|panic| Err(Error::Internal(panic.to_string())))
}

fn slices(batch: RecordBatch) -> VecDeque<RecordBatch> {
    let rows = batch.num_rows();
    (0..rows).step_by(SLICE_ROWS).map(|at| batch.slice(at, SLICE_ROWS.min(rows - at))).collect()
}
