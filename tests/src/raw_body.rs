//! A call whose body a test sends byte by byte.

use std::future::poll_fn;

use arrow_flight::FlightData;
use bytes::Bytes;
use futures::channel::mpsc;
use http_body_util::{BodyExt, StreamBody};
use hyper::{Request, Response, body::Frame};
use prost::Message;
use tokio::task::JoinHandle;
use tonic::{Code, Status, body::Body, client::GrpcService, transport::Channel};

use crate::soon;

/// A call as bytes.
pub struct RawBody {
    frames: mpsc::UnboundedSender<Result<Frame<Bytes>, Status>>,
    answer: JoinHandle<Status>,
}

impl RawBody {
    /// Opens a DoPut on this connection.
    pub fn start(channel: Channel) -> Self {
        Self::to("/arrow.flight.protocol.FlightService/DoPut", channel)
    }

    /// Opens a call of this method.
    pub fn to(path: &str, mut channel: Channel) -> Self {
        let (frames, sent) = mpsc::unbounded();
        let request = Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Body::new(StreamBody::new(sent)))
            .expect("a request");
        let answer = tokio::spawn(async move {
            poll_fn(|context| GrpcService::<Body>::poll_ready(&mut channel, context))
                .await
                .expect("a connection");
            end_of(channel.call(request).await.expect("an answer")).await
        });
        Self { frames, answer }
    }

    /// Sends bytes.
    pub fn send(&self, bytes: Bytes) {
        let _ = self.frames.unbounded_send(Ok(Frame::data(bytes)));
    }

    /// Waits for the end of the answer, while the request goes on.
    pub async fn refusal(self) -> Status {
        soon("the end of the answer", self.answer).await.expect("no panic")
    }

    /// Ends the request; returns the end of the answer.
    pub async fn end(self) -> Status {
        self.frames.close_channel();
        self.refusal().await
    }
}

/// Whether a call ended with this code and slug.
pub fn ended_with(status: &Status, code: Code, slug: &str) -> bool {
    status.code() == code && status.message().split(':').next() == Some(slug)
}

/// A message as it is sent.
pub fn framed(message: &FlightData) -> Bytes {
    let bytes = message.encode_to_vec();
    [&announced(bytes.len())[..], &bytes].concat().into()
}

/// What announces a message of this length.
pub fn announced(length: usize) -> Bytes {
    [&[0][..], &u32::try_from(length).expect("a length").to_be_bytes()].concat().into()
}

/// The status at the end of an answer, whatever comes before.
async fn end_of(answer: Response<Body>) -> Status {
    if let Some(status) = Status::from_header_map(answer.headers()) {
        return status;
    }
    let mut body = answer.into_body();
    while let Some(frame) = body.frame().await {
        if let Some(status) = frame.ok().and_then(|frame| Status::from_header_map(frame.trailers_ref()?)) {
            return status;
        }
    }
    Status::new(Code::Unavailable, "the answer broke off")
}
