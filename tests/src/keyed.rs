//! Units with keys, as any client would send them: one put with a header, or many on a long stream.

use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_flight::{FlightData, PutResult, flight_service_client::FlightServiceClient};
use futures::{Stream, StreamExt, TryStreamExt, channel::mpsc, stream};
use merganser::{Error, IngestAck};
use merganser_proto::IngestUnit;
use prost::Message;
use tonic::{Request, Status, Streaming, transport::Channel};

use crate::{messages, soon};

/// Sends one unit with a key.
///
/// # Errors
/// What the server answers.
pub async fn put_keyed(
    flight: &FlightServiceClient<Channel>,
    table: &str,
    key: &str,
    batches: Vec<RecordBatch>,
) -> Result<IngestAck, Error> {
    put_with(flight, &[("x-merganser-ingest-key", key)], messages(table, batches)).await
}

/// Sends one unit, given as its messages, with headers.
///
/// # Errors
/// What the server answers.
///
/// # Panics
/// When it answers nothing.
pub async fn put_with(
    flight: &FlightServiceClient<Channel>,
    headers: &[(&'static str, &str)],
    messages: Vec<FlightData>,
) -> Result<IngestAck, Error> {
    let mut request = Request::new(stream::iter(messages));
    for (name, value) in headers {
        request.metadata_mut().insert(*name, value.parse().expect("ASCII"));
    }
    let answers = soon("an answer", flight.clone().do_put(request)).await?.into_inner();
    let answers: Vec<PutResult> = soon("the end of the answers", answers.try_collect()).await?;
    Ok(decoded(answers.last().expect("one answer")))
}

/// Sends one unit with headers, message by message as they come. It waits for the answer for as long as that takes.
///
/// # Errors
/// What the server or the transport answers; INTERNAL for an answer that is no acknowledgement, INVALID_ARGUMENT
/// for a value that fits into no header.
pub async fn put_streamed(
    flight: &FlightServiceClient<Channel>,
    headers: &[(&'static str, &str)],
    messages: impl Stream<Item = FlightData> + Send + 'static,
) -> Result<IngestAck, Status> {
    let mut request = Request::new(messages);
    for (name, value) in headers {
        let value =
            value.parse().map_err(|_| Status::invalid_argument("a value that fits into no header"))?;
        request.metadata_mut().insert(*name, value);
    }
    let answers: Vec<_> = flight.clone().do_put(request).await?.into_inner().try_collect().await?;
    let answer = answers.last().ok_or_else(|| Status::internal("an upload without an answer"))?;
    IngestAck::decode(&*answer.app_metadata)
        .map_err(|_| Status::internal("an answer that is no acknowledgement"))
}

fn decoded(answer: &PutResult) -> IngestAck {
    IngestAck::decode(&*answer.app_metadata).expect("an acknowledgement")
}

/// A long stream that a test feeds by hand.
pub struct LongStream {
    messages: Option<mpsc::UnboundedSender<FlightData>>,
    answers: Streaming<PutResult>,
}

impl LongStream {
    /// Opens one to a table, and sends its first unit: the server answers once it has seen that.
    ///
    /// # Errors
    /// What the server answers at once.
    pub async fn start(
        flight: &FlightServiceClient<Channel>,
        table: &str,
        key: &str,
        unit: RecordBatch,
    ) -> Result<Self, Status> {
        let (send, sent) = mpsc::unbounded();
        let mut first = messages(table, vec![unit]);
        first.last_mut().expect("rows").app_metadata = mark(key, false);
        first.into_iter().for_each(|message| drop(send.unbounded_send(message)));
        let answers = soon("a long stream", flight.clone().do_put(sent)).await?.into_inner();
        Ok(Self { messages: Some(send), answers })
    }

    /// Sends a unit of one message.
    pub fn send(&self, key: &str, unit: RecordBatch) {
        self.send_part(key, unit, false);
    }

    /// Sends a message of a unit; `more` follow or not.
    pub fn send_part(&self, key: &str, rows: RecordBatch, more: bool) {
        let mut part = messages("t", vec![rows]).pop().expect("rows");
        part.app_metadata = mark(key, more);
        self.send_raw(part);
    }

    /// Sends a message without rows.
    pub fn send_mark(&self, key: &str) {
        self.send_raw(FlightData { app_metadata: mark(key, false), ..FlightData::default() });
    }

    /// Sends any message.
    pub fn send_raw(&self, message: FlightData) {
        if let Some(messages) = &self.messages {
            let _ = messages.unbounded_send(message);
        }
    }

    /// Waits for the next acknowledgement.
    ///
    /// # Errors
    /// The error that ends the stream.
    ///
    /// # Panics
    /// When the stream ends well.
    pub async fn acknowledged(&mut self) -> Result<IngestAck, Error> {
        let answer = soon("an acknowledgement", self.answers.next()).await.expect("an answer, not the end");
        Ok(decoded(&answer?))
    }

    /// Whether an acknowledgement is there, or comes within a moment.
    pub async fn is_silent_for(&mut self, moment: Duration) -> bool {
        tokio::time::timeout(moment, self.answers.next()).await.is_err()
    }

    /// Says that no more units follow, and waits for the end of the answers.
    ///
    /// # Errors
    /// The error that ends the stream.
    pub async fn finish(mut self) -> Result<Vec<IngestAck>, Error> {
        self.messages = None;
        let answers: Vec<PutResult> = soon("the end of the answers", self.answers.try_collect()).await?;
        Ok(answers.iter().map(decoded).collect())
    }
}

/// What says of a message which unit it belongs to.
pub fn mark(key: &str, more: bool) -> bytes::Bytes {
    IngestUnit { key: key.to_owned(), more }.encode_to_vec().into()
}
