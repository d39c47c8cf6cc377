//! Units with a key, sent as any client could send them.

use arrow_flight::{FlightData, flight_service_client::FlightServiceClient};
use futures::{Stream, TryStreamExt};
use merganser::IngestAck;
use prost::Message;
use tonic::{Request, Status, transport::Channel};

/// The header that carries a unit's key.
const KEY: &str = "x-merganser-ingest-key";

/// Sends one upload under a key `loader/epoch/sequence`; returns the acknowledgement.
///
/// # Errors
/// What the server or the transport answers; INTERNAL for an answer that is no acknowledgement, INVALID_ARGUMENT
/// for a key that fits into no header.
pub async fn put_keyed(
    flight: &FlightServiceClient<Channel>,
    key: &str,
    messages: impl Stream<Item = FlightData> + Send + 'static,
) -> Result<IngestAck, Status> {
    let mut request = Request::new(messages);
    let key = key.parse().map_err(|_| Status::invalid_argument("the key fits into no header"))?;
    request.metadata_mut().insert(KEY, key);
    let answers = flight.clone().do_put(request).await?.into_inner();
    let answers: Vec<_> = answers.try_collect().await?;
    let answer = answers.last().ok_or_else(|| Status::internal("an upload without an answer"))?;
    IngestAck::decode(&answer.app_metadata[..])
        .map_err(|_| Status::internal("an answer that is no acknowledgement"))
}
