//! A DoPut stream: its descriptor, then Arrow data, decoded with hostile bytes in mind.

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use arrow_array::RecordBatch;
use arrow_flight::{FlightData, FlightDescriptor, decode::FlightRecordBatchStream, error::FlightError};
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;
use futures::{FutureExt, Stream, StreamExt};
use tonic::{Code, Status, Streaming};

use super::error::{bad_request, engine_status};
use crate::engine::Error;

/// How long the rest of a refused upload is read, so that its sender sees the reason.
const DRAIN: Duration = Duration::from_secs(5);
/// Parameters are held in memory; more rows than this belong into an ingest.
const MAX_PARAMETER_ROWS: usize = 1_000_000;
/// The same in bytes.
const MAX_PARAMETER_BYTES: usize = 64 << 20;

/// An upload whose first message has been read.
pub(super) struct Upload {
    descriptor: FlightDescriptor,
    batches: FlightRecordBatchStream,
    /// A decoder that panicked is not asked again.
    broken: bool,
    first: Option<RecordBatch>,
    /// How long the client may send nothing.
    patience: Duration,
}

impl Upload {
    /// Reads the first message, which must have the descriptor.
    pub(super) async fn open(mut data: Streaming<FlightData>, patience: Duration) -> Result<Self, Status> {
        let missing = || {
            bad_request(
                "NO_DESCRIPTOR",
                "the first message of a DoPut must have a descriptor, such as the path [\"table\"]",
            )
        };
        let first = within(patience, data.message()).await.map_err(engine_status)??.ok_or_else(missing)?;
        let descriptor = first.flight_descriptor.clone().ok_or_else(missing)?;
        let all = futures::stream::iter([Ok(first)]).chain(data).map(|data| data.map_err(FlightError::from));
        Ok(Self {
            descriptor,
            batches: FlightRecordBatchStream::new_from_flight_data(all),
            broken: false,
            first: None,
            patience,
        })
    }

    pub(super) fn descriptor(&self) -> &FlightDescriptor {
        &self.descriptor
    }

    /// The schema, which is known once the first batch or the end has come.
    pub(super) async fn schema(&mut self) -> Result<SchemaRef, Error> {
        if self.batches.schema().is_none() {
            self.first = within(self.patience, self.next()).await?.transpose()?;
        }
        self.batches
            .schema()
            .cloned()
            .ok_or_else(|| Error::BadArrow("the upload ended without a schema".into()))
    }

    /// All rows as one batch of parameters; `None` when there are none to bind.
    pub(super) async fn parameters(&mut self) -> Result<Option<RecordBatch>, Status> {
        let mut batches = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        while let Some(batch) = within(self.patience, self.next()).await.map_err(engine_status)? {
            let batch = batch.map_err(engine_status)?;
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
                concat_batches(first.schema_ref(), &batches)
                    .map(Some)
                    .map_err(|error| engine_status(Error::BadArrow(error.to_string())))
            }
            _ => Ok(None),
        }
    }

    /// Reads on without keeping anything, for a bounded time.
    pub(super) async fn drain(&mut self) {
        let rest = async { while let Some(Ok(_)) = self.next().await {} };
        let _ = tokio::time::timeout(DRAIN, rest).await;
    }
}

impl Stream for Upload {
    type Item = Result<RecordBatch, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        if self.broken {
            return Poll::Ready(None);
        }
        // Decoding a hostile schema can panic inside the Arrow library.
        let next = AssertUnwindSafe(self.batches.next()).catch_unwind().poll_unpin(context);
        match next {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(next)) => Poll::Ready(next.map(|batch| batch.map_err(upload_error))),
            Poll::Ready(Err(_)) => {
                self.broken = true;
                Poll::Ready(Some(Err(Error::BadArrow("the message is malformed".into()))))
            }
        }
    }
}

/// Waits for the client, but not for ever.
async fn within<T>(patience: Duration, next: impl Future<Output = T>) -> Result<T, Error> {
    tokio::time::timeout(patience, next).await.map_err(|_| Error::Stalled(patience))
}

fn upload_error(error: FlightError) -> Error {
    match error {
        FlightError::Tonic(status) => match status.code() {
            Code::OutOfRange | Code::ResourceExhausted => Error::MessageTooLarge,
            Code::Internal | Code::InvalidArgument => Error::BadArrow("the message is no Flight data".into()),
            _ => Error::Disconnected,
        },
        FlightError::Arrow(error) => Error::BadArrow(error.to_string()),
        other => Error::BadArrow(other.to_string()),
    }
}
