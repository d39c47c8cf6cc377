//! A long stream: one DoPut that carries many units, each with its key, its commit and its acknowledgement. What
//! client and server say to each other is in `proto/merganser.proto`.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use arrow_array::RecordBatch;
use arrow_flight::PutResult;
use arrow_schema::SchemaRef;
use futures::{Stream, StreamExt};
use merganser_proto::IngestUnit;
use prost::Message as _;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::BroadcastStream;
use tonic::{Response, Status};

use super::{
    Answers, Flight, Reply,
    error::{engine_status, session_status},
    ingest::{RowsAsked, acknowledgement, count_refusal},
    update::put_result,
    upload::{Message, Upload},
};
use crate::{
    engine::{Arrived, Error, IngestKey, IngestRequest, Pending},
    session::{Session, SessionError},
    statement_log::{Entry, INGEST},
};

/// Units of one stream that may wait for their commit; then nothing more is read.
const WINDOW: usize = 64;
/// Acknowledgements that may wait for a client that does not read them. Older ones are dropped, because each
/// acknowledges all before it.
const ANSWERS: usize = 1024;

/// Where the units of a stream go.
pub(super) struct Destination {
    pub(super) session: Arc<Session>,
    /// The same for every unit, but for its key.
    pub(super) rows: RowsAsked,
    pub(super) schema: SchemaRef,
}

/// The answers of a stream that is being served. Dropped before it has ended, as by a panic, they end with an error: a
/// client that saw an end without one would believe that all of its units are stored.
struct Served {
    sender: broadcast::Sender<Result<PutResult, Status>>,
    ended: bool,
}

impl Served {
    fn of(sender: broadcast::Sender<Result<PutResult, Status>>) -> Self {
        Self { sender, ended: false }
    }

    /// Ends them, with the reason where the stream has failed.
    fn end(&mut self, outcome: Result<(), Status>) {
        self.ended = true;
        if let Err(status) = outcome {
            let _ = self.sender.send(Err(status));
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if !self.ended {
            let lost = Error::Internal("a long stream was left before it had ended".into());
            self.end(Err(engine_status(lost)));
        }
    }
}

/// A unit that is queued for its commit.
struct Queued {
    key: IngestKey,
    pending: Pending,
    entry: Entry,
}

impl Flight {
    /// Serves a long stream. The answers begin at once, and go on while units are read.
    pub(super) async fn put_units(&self, to: Destination, mut upload: Upload) -> Reply<Answers<PutResult>> {
        if to.rows.request.key.is_some() {
            upload.drain().await;
            return Err(engine_status(Error::BadUnit(
                "a long stream has a key with each unit; leave out the key of the whole".into(),
            )));
        }
        let (answers, listening) = broadcast::channel(ANSWERS);
        let flight = self.clone();
        let span = tracing::Span::current();
        let serving = async move {
            let (queue, queued) = mpsc::channel(WINDOW);
            let mut answers = Served::of(answers);
            let outcome = {
                let reading = flight.read_units(&to, &mut upload, queue);
                let answering = answer_units(queued, &answers.sender);
                tokio::pin!(reading, answering);
                tokio::select! {
                    // What was read before it failed or ended is still answered.
                    read = &mut reading => answering.await.and(read),
                    answered = &mut answering => answered,
                }
            };
            let failed = outcome.is_err();
            answers.end(outcome);
            drop(answers);
            if failed {
                // A client that is still sending would otherwise see a broken pipe in place of the reason.
                upload.drain().await;
            }
        };
        tokio::spawn(tracing::Instrument::instrument(serving, span));
        // An answer that was dropped is acknowledged by those behind it.
        let answers = BroadcastStream::new(listening).filter_map(async |answer| answer.ok());
        Ok(Response::new(Box::pin(answers)))
    }

    /// Reads units and queues them, until the client has no more or the server stops.
    async fn read_units(
        &self,
        to: &Destination,
        upload: &mut Upload,
        queue: mpsc::Sender<Queued>,
    ) -> Result<(), Status> {
        loop {
            let unit = tokio::select! {
                unit = next_unit(upload, &to.schema) => unit.map_err(engine_status).inspect_err(count_refusal)?,
                () = self.stopping.cancelled() => return Err(engine_status(Error::Stopping)),
            };
            let Some(unit) = unit else { return Ok(()) };
            let key = unit.key.clone();
            let mut entry = self.log.begin(&to.session, INGEST, &to.rows.request.table.table);
            let request = IngestRequest { key: Some(key.clone()), ..to.rows.request.clone() };
            let schema = Arc::clone(&to.schema);
            let unit = entry.receive(unit);
            let begun = entry.run(to.session.begin_ingest(&to.rows.transaction, request, schema, unit)).await;
            let pending = begun.map_err(|error| refused(&key, error))?;
            entry.commits();
            // Nobody takes it any more when a unit before it has failed.
            let _ = queue.send(Queued { key, pending, entry }).await;
        }
    }
}

/// Acknowledges units in their order, up to the first that fails.
async fn answer_units(
    mut queued: mpsc::Receiver<Queued>,
    answers: &broadcast::Sender<Result<PutResult, Status>>,
) -> Result<(), Status> {
    let mut units = 0;
    while let Some(Queued { key, pending, mut entry }) = queued.recv().await {
        let ack = pending.committed().await.map_err(SessionError::from);
        let ack = ack.inspect_err(|error| entry.failed(error));
        let ack = ack.map_err(|error| refused(&key, error))?;
        entry.rows(ack.rows);
        entry.bytes(ack.bytes);
        units += 1;
        // Without a client nobody listens, and the units are committed all the same.
        let _ = answers.send(Ok(put_result(&acknowledgement(&ack, Some(&key), units))));
    }
    Ok(())
}

/// The status that ends the stream; it names the unit that it is about.
fn refused(key: &IngestKey, error: SessionError) -> Status {
    let status = session_status(error);
    count_refusal(&status);
    match status.message().split_once(": ") {
        // The errors of keys name it themselves.
        Some((slug, text)) if !text.contains(&key.to_string()) => {
            let message = format!("{slug}: unit {key}: {text}");
            Status::with_metadata(status.code(), message, status.metadata().clone())
        }
        _ => status,
    }
}

/// Reads all units without storing any; for [`super::fuzz`].
#[cfg(feature = "fuzz")]
pub(super) async fn read_all(upload: &mut Upload) -> Result<(), Error> {
    let schema = upload.schema().await?;
    while let Some(mut unit) = next_unit(upload, &schema).await? {
        while unit.next().await.transpose()?.is_some() {}
    }
    Ok(())
}

/// The rows of one unit of a long stream.
struct UnitRows<'a> {
    upload: &'a mut Upload,
    schema: &'a SchemaRef,
    key: IngestKey,
    first: Option<Arrived>,
    more: bool,
}

/// The next unit; `None` at the end of the stream. A loader may rest between two units as long as it
/// likes, but not in the middle of a message.
async fn next_unit<'a>(upload: &'a mut Upload, schema: &'a SchemaRef) -> Result<Option<UnitRows<'a>>, Error> {
    let Some(message) = upload.message().await else { return Ok(None) };
    let Message { rows, metadata } = message?;
    let (key, more) = mark(&metadata)?;
    Ok(Some(UnitRows { upload, schema, key, first: rows, more }))
}

impl Stream for UnitRows<'_> {
    type Item = Result<Arrived, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        if !self.more {
            return Poll::Ready(None);
        }
        let Some(message) = ready!(self.upload.poll_message(context)) else {
            let text = format!("the stream ended inside unit {}; nothing of it was written", self.key);
            return Poll::Ready(Some(Err(Error::BadUnit(text))));
        };
        Poll::Ready(Some(message.and_then(|message| self.accept(message))))
    }
}

impl UnitRows<'_> {
    /// What a message brings. One that is metadata alone comes as a batch without rows: it is a sign of life as well.
    fn accept(&mut self, message: Message) -> Result<Arrived, Error> {
        if let Some(Arrived::NoRoom) = &message.rows {
            return Ok(Arrived::NoRoom);
        }
        let (key, more) = mark(&message.metadata)?;
        if key != self.key {
            return Err(Error::BadUnit(format!(
                "unit {key} begins before unit {} has ended; nothing of either was written",
                self.key
            )));
        }
        self.more = more;
        let nothing = || Arrived::Rows(RecordBatch::new_empty(Arc::clone(self.schema)).into());
        Ok(message.rows.unwrap_or_else(nothing))
    }
}

/// The key of the unit that a message belongs to, and whether more of it follows.
fn mark(metadata: &[u8]) -> Result<(IngestKey, bool), Error> {
    if metadata.is_empty() {
        return Err(Error::BadUnit(
            "a message of a long stream has no IngestUnit in its app_metadata; every one needs the key of its unit"
                .into(),
        ));
    }
    let unit = IngestUnit::decode(metadata)
        .map_err(|_| Error::BadUnit("the app_metadata of a message is no IngestUnit".into()))?;
    Ok((unit.key.parse()?, unit.more))
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[tokio::test]
    async fn answers_that_nobody_ends_end_with_an_error() {
        let (answers, mut listening) = broadcast::channel(ANSWERS);
        let served = Served::of(answers);
        let panicked = tokio::spawn(async move {
            let _served = served;
            panic!("on purpose");
        });
        assert!(panicked.await.is_err());
        let last = listening.recv().await.unwrap().unwrap_err();
        assert_eq!((last.code(), last.message().split(':').next()), (Code::Internal, Some("INTERNAL")));
        assert!(listening.recv().await.is_err());
    }

    #[tokio::test]
    async fn a_stream_that_has_ended_well_tells_no_error() {
        let (answers, mut listening) = broadcast::channel::<Result<PutResult, Status>>(ANSWERS);
        let mut served = Served::of(answers);
        served.end(Ok(()));
        drop(served);
        assert!(matches!(listening.recv().await, Err(broadcast::error::RecvError::Closed)));
    }
}
