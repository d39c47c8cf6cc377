//! The sending half of a DoPut, built so that an upload which fails midway never looks finished.
//!
//! A server takes the end of the request stream for the end of the data, and commits. Some servers,
//! tonic's among them, even take a cancelled call for that. A source that fails, or a caller that leaves,
//! must therefore make the request itself fail, which resets the stream with an error.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use arrow_flight::{FlightData, PutResult, error::FlightError};
use futures::{FutureExt, Stream, StreamExt};
use prost::Message;
use tokio::sync::oneshot;
use tonic::{IntoStreamingRequest, Status, Streaming, client::Grpc, codegen::http::uri::PathAndQuery};

use crate::{Error, client::Transport, codec::PutCodec};

const DO_PUT: &str = "/arrow.flight.protocol.FlightService/DoPut";

/// Sends `data` by DoPut and returns what the server acknowledges. When `data` fails, or when the future
/// is dropped before it is done, the upload fails on the server.
pub(crate) async fn put<M, S>(transport: Transport, data: S) -> Result<M, Error>
where
    M: Message + Default + 'static,
    S: Stream<Item = Result<FlightData, FlightError>> + Unpin + Send + 'static,
{
    let (failure, failed) = oneshot::channel();
    let (_caller, abandoned) = oneshot::channel();
    let upload = Upload { data, abandoned, failure: Some(failure) };
    // A task of its own, because dropping the call would cancel it instead of letting it fail.
    let call = tokio::spawn(do_put(transport, upload));
    // The reason on this side comes first: it is the cause of whatever becomes of the call.
    tokio::select! {
        biased;
        Ok(error) = failed => Err(error.into()),
        acknowledged = call => acknowledged.map_err(io::Error::from)?,
    }
}

async fn do_put<M, S>(transport: Transport, upload: Upload<S>) -> Result<M, Error>
where
    M: Message + Default,
    S: Stream<Item = Result<FlightData, FlightError>> + Unpin + Send + 'static,
{
    acknowledgement(open(transport, upload).await?).await
}

/// Opens a DoPut whose request may fail on this side, and returns the answers to come.
pub(crate) async fn open<S>(transport: Transport, request: S) -> Result<Streaming<PutResult>, Status>
where
    S: Stream<Item = Result<FlightData, Status>> + Send + 'static,
{
    let mut grpc = Grpc::new(transport);
    grpc.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
    let path = PathAndQuery::from_static(DO_PUT);
    let answers = grpc.streaming(request.into_streaming_request(), path, PutCodec).await?;
    Ok(answers.into_inner())
}

/// Reads the single acknowledgement of a DoPut, and on to the status that confirms it.
pub(crate) async fn acknowledgement<M: Message + Default>(
    mut answers: Streaming<PutResult>,
) -> Result<M, Error> {
    let mut acknowledged = None;
    while let Some(answer) = answers.message().await? {
        acknowledged = Some(answer);
    }
    let answer =
        acknowledged.ok_or_else(|| Error::Protocol("the server did not acknowledge the upload".into()))?;
    M::decode(answer.app_metadata)
        .map_err(|error| Error::Protocol(format!("the acknowledgement cannot be decoded: {error}")))
}

/// The request stream: what the source yields, until it fails or nobody waits for the answer any more.
struct Upload<S> {
    data: S,
    /// Resolves when the caller is gone.
    abandoned: oneshot::Receiver<Infallible>,
    /// Takes the reason to the caller, since the request stream can only say that there is one.
    failure: Option<oneshot::Sender<FlightError>>,
}

impl<S> Stream for Upload<S>
where
    S: Stream<Item = Result<FlightData, FlightError>> + Unpin,
{
    type Item = Result<FlightData, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.abandoned.poll_unpin(context).is_ready() {
            return Poll::Ready(Some(Err(Status::aborted("the upload was abandoned"))));
        }
        match ready!(self.data.poll_next_unpin(context)) {
            Some(Ok(data)) => Poll::Ready(Some(Ok(data))),
            None => Poll::Ready(None),
            Some(Err(error)) => {
                if let Some(failure) = self.failure.take() {
                    // A caller that is gone needs no reason.
                    let _ = failure.send(error);
                }
                Poll::Ready(Some(Err(Status::aborted("the source failed"))))
            }
        }
    }
}
