//! A DoPut stream: its descriptor, then Arrow data, decoded with hostile bytes in mind.

use std::{
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use arrow_array::RecordBatch;
use arrow_flight::{
    FlightData, FlightDescriptor,
    decode::{DecodedPayload, FlightDataDecoder},
    error::FlightError,
};
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;
use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt, channel::mpsc, stream::BoxStream};
use tonic::{Code, Request, Status, Streaming};

use super::{
    delivered::Delivered,
    dictionaries::{Dictionaries, Dictionary},
    error::{bad_request, engine_status},
    undecodable,
};
use crate::engine::{
    Arrived, Error, Rows, Share, check_expansion, check_names, is_as_schema_says, words_of_decoder,
};

/// How long the rest of a refused upload is read, so that its sender sees the reason.
const DRAIN: Duration = Duration::from_secs(5);
/// Parameters are held in memory; more rows than this belong into an ingest.
const MAX_PARAMETER_ROWS: usize = 1_000_000;
/// The same in bytes.
const MAX_PARAMETER_BYTES: usize = 64 << 20;
/// A descriptor and a schema up to this size need no room: who holds some for long has less left for rows.
const SMALL_BYTES: usize = 1 << 20;

/// An upload whose first message has been read.
pub(super) struct Upload {
    descriptor: FlightDescriptor,
    /// What the client sends,
    messages: BoxStream<'static, Result<FlightData, Status>>,
    /// the way of those messages that hold Arrow data to their decoder; gone once they have ended,
    arrow: Option<mpsc::UnboundedSender<Result<FlightData, FlightError>>>,
    decoder: FlightDataDecoder,
    schema: Option<SchemaRef>,
    dictionaries: Dictionaries,
    /// What messages hold of the memory for uploads, before they were decoded:
    delivered: Delivered,
    /// the one that the decoder has,
    decoding: Option<Share>,
    /// and large ones with descriptor and schema, which are kept.
    kept: Vec<Share>,
    /// A decoder that panicked is not asked again.
    broken: bool,
    first: Option<Message>,
    /// How long the client may send nothing.
    patience: Duration,
}

/// A message after the schema.
pub(super) struct Message {
    /// Its rows; a message may be metadata alone.
    pub(super) rows: Option<Arrived>,
    /// What the client says of them; mostly nothing.
    pub(super) metadata: Bytes,
}

impl Message {
    /// The next message waits for room.
    fn no_room() -> Self {
        Self { rows: Some(Arrived::NoRoom), metadata: Bytes::new() }
    }
}

impl Upload {
    /// Reads the first message, which must have the descriptor.
    pub(super) async fn open(
        request: Request<Streaming<FlightData>>,
        patience: Duration,
    ) -> Result<Self, Status> {
        let delivered = Delivered::of(&request);
        let mut data = request.into_inner();
        let missing = || {
            bad_request(
                "NO_DESCRIPTOR",
                "the first message of a DoPut must have a descriptor, such as the path [\"table\"]",
            )
        };
        let first = within(patience, &delivered, data.message()).await;
        if !matches!(first, Ok(Ok(_))) {
            let _ = tokio::time::timeout(DRAIN, delivered.drain()).await;
        }
        let first = first.map_err(engine_status)?;
        let first =
            first.map_err(|status| undecodable::refused(&status).unwrap_or(status))?.ok_or_else(missing)?;
        let descriptor = first.flight_descriptor.clone().ok_or_else(missing)?;
        let (arrow, decoded) = mpsc::unbounded();
        Ok(Self {
            descriptor,
            messages: futures::stream::iter([Ok(first)]).chain(data).boxed(),
            arrow: Some(arrow),
            decoder: FlightDataDecoder::new(decoded),
            schema: None,
            dictionaries: Dictionaries::default(),
            delivered,
            decoding: None,
            kept: Vec::new(),
            broken: false,
            first: None,
            patience,
        })
    }

    pub(super) fn descriptor(&self) -> &FlightDescriptor {
        &self.descriptor
    }

    /// The schema, which is known once the first message behind it or the end has come.
    pub(super) async fn schema(&mut self) -> Result<SchemaRef, Error> {
        if self.schema.is_none() {
            self.first = self.message_in_time().await?.transpose()?;
        }
        self.schema.clone().ok_or_else(|| Error::BadArrow("the upload ended without a schema".into()))
    }

    /// Whether the client says of its rows which unit they belong to; after [`Upload::schema`].
    pub(super) fn is_long_stream(&self) -> bool {
        self.first.as_ref().is_some_and(|first| !first.metadata.is_empty())
    }

    /// The next message, however long it takes to begin.
    pub(super) async fn message(&mut self) -> Option<Result<Message, Error>> {
        loop {
            match std::future::poll_fn(|context| self.poll_message(context)).await {
                Some(Ok(Message { rows: Some(Arrived::NoRoom), .. })) => {}
                message => return message,
            }
        }
    }

    /// The same, unless it takes too long.
    async fn message_in_time(&mut self) -> Result<Option<Result<Message, Error>>, Error> {
        let (patience, delivered) = (self.patience, self.delivered.clone());
        within(patience, &delivered, self.message()).await
    }

    /// The next message, or that it waits for room.
    pub(super) fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        loop {
            if let Poll::Ready(decoded) = self.poll_decoder(context) {
                return Poll::Ready(decoded);
            }
            if self.arrow.is_none() {
                return Poll::Pending;
            }
            let Poll::Ready(message) = self.messages.poll_next_unpin(context) else {
                let tells = self.delivered.begins_to_wait();
                return if tells { Poll::Ready(Some(Ok(Message::no_room()))) } else { Poll::Pending };
            };
            let room = self.delivered.read();
            match message {
                Some(Ok(alone)) if alone.data_header.is_empty() && !alone.app_metadata.is_empty() => {
                    return Poll::Ready(Some(Ok(Message { rows: None, metadata: alone.app_metadata })));
                }
                // Arrow's C++ client opens an exchange with a message that has the descriptor only.
                Some(Ok(empty)) if is_descriptor_alone(&empty) => self.keep(room),
                Some(message) => {
                    if let Err(error) = self.hold(message.as_ref().ok(), room) {
                        self.broken = true;
                        return Poll::Ready(Some(Err(error)));
                    }
                    if let Some(arrow) = &self.arrow {
                        // The decoder lives as long as this.
                        let _ = arrow.unbounded_send(message.map_err(FlightError::from));
                    }
                }
                None => self.arrow = None,
            }
        }
    }

    /// Keeps what a message on its way to the decoder holds.
    fn hold(&mut self, message: Option<&FlightData>, room: Option<Share>) -> Result<(), Error> {
        match message.and_then(Dictionary::of) {
            // The decoder keeps it, and says nothing of it.
            Some(dictionary) => self.dictionaries.keep(dictionary, room, &self.delivered),
            None => {
                self.decoding = room;
                Ok(())
            }
        }
    }

    fn keep(&mut self, room: Option<Share>) {
        self.kept.extend(room.filter(|room| room.bytes() > SMALL_BYTES));
    }

    /// What the decoder has made of the messages so far.
    fn poll_decoder(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        while !self.broken {
            // Decoding a hostile schema can panic inside the Arrow library.
            let next = AssertUnwindSafe(self.decoder.next()).catch_unwind().poll_unpin(context);
            let Ok(next) = ready!(next) else {
                self.broken = true;
                return Poll::Ready(Some(Err(Error::BadArrow("the message is malformed".into()))));
            };
            let Some(decoded) = next else { return Poll::Ready(None) };
            let decoded = match decoded {
                Ok(decoded) => decoded,
                Err(error) => {
                    let refused = self.delivered.refusal().map(Error::from);
                    return Poll::Ready(Some(Err(refused.unwrap_or_else(|| upload_error(error)))));
                }
            };
            let room = self.decoding.take();
            match decoded.payload {
                DecodedPayload::None => {}
                DecodedPayload::Schema(_) if self.schema.is_some() => {
                    self.broken = true;
                    return Poll::Ready(Some(Err(Error::BadArrow("the upload has a second schema".into()))));
                }
                DecodedPayload::Schema(schema) => {
                    self.keep(room);
                    self.schema = Some(schema);
                }
                DecodedPayload::RecordBatch(batch) => {
                    if !is_as_schema_says(&decoded.inner.data_header, batch.schema_ref()) {
                        self.broken = true;
                        let text = "a record batch has other columns or buffers than the schema says";
                        return Poll::Ready(Some(Err(Error::BadArrow(text.into()))));
                    }
                    if let Err(error) = check_expansion(&batch) {
                        return Poll::Ready(Some(Err(error)));
                    }
                    let metadata = decoded.inner.app_metadata;
                    let rows = Some(Arrived::Rows(Rows { batch, room }));
                    return Poll::Ready(Some(Ok(Message { rows, metadata })));
                }
            }
        }
        Poll::Ready(None)
    }

    /// All rows as one batch of parameters; `None` when there are none to bind.
    pub(super) async fn parameters(&mut self) -> Result<Option<RecordBatch>, Status> {
        let (mut batches, mut rooms) = (Vec::new(), Vec::new());
        let (mut rows, mut bytes) = (0, 0);
        while let Some(message) = self.message_in_time().await.map_err(engine_status)? {
            let Some(Arrived::Rows(Rows { batch, room })) = message.map_err(engine_status)?.rows else {
                continue;
            };
            rooms.extend(room);
            rows += batch.num_rows();
            bytes += batch.get_array_memory_size();
            if rows > MAX_PARAMETER_ROWS || bytes > MAX_PARAMETER_BYTES {
                return Err(bad_request(
                    "TOO_MANY_PARAMETERS",
                    "send so many rows as an ingest, not as parameters",
                ));
            }
            batches.push(batch);
        }
        match batches.first() {
            Some(first) if first.num_columns() > 0 && rows > 0 => {
                check_names(first.schema_ref()).map_err(engine_status)?;
                concat_batches(first.schema_ref(), &batches)
                    .map(Some)
                    .map_err(|error| engine_status(Error::BadArrow(error.to_string())))
            }
            _ => Ok(None),
        }
    }

    /// Reads on without keeping anything, for a bounded time.
    pub(super) async fn drain(&mut self) {
        let rest = async {
            while let Some(Ok(_)) = self.message().await {}
            // What the decoder was not asked for any more.
            while let Some(Ok(_)) = self.messages.next().await {
                drop(self.delivered.read());
            }
            self.delivered.drain().await;
        };
        let _ = tokio::time::timeout(DRAIN, rest).await;
    }
}

/// The rows of an upload, whatever its client says of them.
impl Stream for Upload {
    type Item = Result<Arrived, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match ready!(self.poll_message(context)) {
                Some(Ok(Message { rows: Some(rows), .. })) => return Poll::Ready(Some(Ok(rows))),
                Some(Ok(Message { rows: None, .. })) => {}
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

/// The rows of an upload that is one unit. What names a unit of its own is refused: its key would be lost among the
/// rows, which would then be stored without one.
pub(super) struct OneUnit<'a>(pub(super) &'a mut Upload);

impl Stream for OneUnit<'_> {
    type Item = Result<Arrived, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match ready!(self.0.poll_message(context)).transpose()? {
                Some(Message { metadata, .. }) if !metadata.is_empty() => {
                    return Poll::Ready(Some(Err(Error::BadUnit(
                        "a message has app_metadata and the first one had none; in a long stream every message \
                         needs the key of its unit, elsewhere none may have app_metadata"
                            .into(),
                    ))));
                }
                Some(Message { rows: Some(rows), .. }) => return Poll::Ready(Some(Ok(rows))),
                Some(Message { rows: None, .. }) => {}
                None => return Poll::Ready(None),
            }
        }
    }
}

fn is_descriptor_alone(message: &FlightData) -> bool {
    message.flight_descriptor.is_some() && message.data_header.is_empty() && message.data_body.is_empty()
}

/// Waits for the client, but not for ever. While its next message waits for room, that is not its fault.
async fn within<T>(
    patience: Duration,
    delivered: &Delivered,
    next: impl Future<Output = T>,
) -> Result<T, Error> {
    let mut next = pin!(next);
    loop {
        match tokio::time::timeout(patience, &mut next).await {
            Ok(next) => return Ok(next),
            Err(_) if delivered.waits() => {}
            Err(_) => return Err(Error::Stalled(patience)),
        }
    }
}

fn upload_error(error: FlightError) -> Error {
    match error {
        FlightError::Tonic(status) => match status.code() {
            Code::OutOfRange | Code::ResourceExhausted => Error::MessageTooLarge,
            Code::Internal | Code::InvalidArgument => Error::BadArrow("the message is no Flight data".into()),
            _ => Error::Disconnected,
        },
        FlightError::Arrow(error) => Error::BadArrow(words_of_decoder(&error)),
        // What a record batch is refused for comes as a text.
        other => Error::BadArrow(words_of_decoder(&other)),
    }
}
