//! A result as a stream of record batches.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use arrow_array::RecordBatch;
use arrow_flight::{
    FlightInfo, Ticket,
    decode::{DecodedPayload, FlightDataDecoder},
};
use arrow_schema::{Schema, SchemaRef};
use futures::{Stream, StreamExt, TryStreamExt};

use crate::{Error, client::Flight};

/// The rows of one statement, in the order the server computes them.
///
/// The first batches arrive while the server still computes the last. The server waits while nobody
/// reads; dropping the stream before its end cancels the query.
pub struct RowStream {
    schema: SchemaRef,
    affected_rows: Option<i64>,
    bytes: u64,
    /// Gone once the result has ended or failed.
    messages: Option<FlightDataDecoder>,
}

impl RowStream {
    /// Redeems the ticket of `info` and waits for the schema, which comes before any row.
    pub(crate) async fn open(flight: Flight, info: FlightInfo) -> Result<Self, Error> {
        let mut rows = Self {
            schema: Arc::new(Schema::empty()),
            affected_rows: u64::try_from(info.total_records).is_ok().then_some(info.total_records),
            bytes: 0,
            messages: None,
        };
        if let Some(ticket) = ticket(info)? {
            rows.read_schema(flight, ticket).await?;
        }
        Ok(rows)
    }

    /// Names and types of the columns; no columns at all after a statement that returns no rows.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Whether the statement returns rows at all, be it none this time.
    pub fn has_columns(&self) -> bool {
        !self.schema.fields().is_empty()
    }

    /// How many rows a statement without result changed; none when the server cannot tell, and after a
    /// query.
    pub fn affected_rows(&self) -> Option<i64> {
        self.affected_rows.filter(|_| !self.has_columns())
    }

    /// Bytes of Arrow data received so far.
    pub fn bytes_received(&self) -> u64 {
        self.bytes
    }

    async fn read_schema(&mut self, mut flight: Flight, ticket: Ticket) -> Result<(), Error> {
        let messages = flight.do_get(ticket).await?.into_inner();
        let mut messages = FlightDataDecoder::new(messages.map_err(Into::into));
        while let Some(message) = messages.try_next().await? {
            match message.payload {
                DecodedPayload::Schema(schema) => {
                    self.schema = schema;
                    self.messages = Some(messages);
                    return Ok(());
                }
                DecodedPayload::None => {}
                DecodedPayload::RecordBatch(_) => break,
            }
        }
        Err(Error::Protocol("the result does not begin with its schema".into()))
    }
}

/// The one ticket of a result; none when the FlightInfo already tells that there is nothing to fetch.
fn ticket(info: FlightInfo) -> Result<Option<Ticket>, Error> {
    // Empty bytes stand for a schema that is not known yet; a schema without columns is an answer.
    let announced = !info.schema.is_empty();
    let mut endpoints = info.endpoint.clone();
    if announced && info.try_decode_schema()?.fields().is_empty() {
        return Ok(None);
    }
    match (endpoints.pop(), endpoints.is_empty()) {
        (None, _) => Ok(None),
        (Some(endpoint), true) => endpoint
            .ticket
            .map(Some)
            .ok_or_else(|| Error::Protocol("the endpoint of the result has no ticket".into())),
        (Some(_), false) => Err(Error::Protocol(
            "the result is spread over several endpoints, which Merganser never does".into(),
        )),
    }
}

impl Stream for RowStream {
    type Item = Result<RecordBatch, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let Some(messages) = &mut self.messages else {
                return Poll::Ready(None);
            };
            let Some(message) = ready!(messages.poll_next_unpin(context)) else {
                self.messages = None;
                return Poll::Ready(None);
            };
            let message = match message {
                Ok(message) => message,
                Err(error) => {
                    self.messages = None;
                    return Poll::Ready(Some(Err(error.into())));
                }
            };
            self.bytes += message.inner.data_body.len() as u64;
            match message.payload {
                DecodedPayload::RecordBatch(batch) => return Poll::Ready(Some(Ok(batch))),
                DecodedPayload::None => {}
                DecodedPayload::Schema(_) => {
                    self.messages = None;
                    let error = Error::Protocol("the result changes its schema midway".into());
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

impl fmt::Debug for RowStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowStream")
            .field("schema", &self.schema)
            .field("affected_rows", &self.affected_rows)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use arrow_flight::FlightEndpoint;
    use arrow_schema::{DataType, Field};

    use super::*;

    fn endpoint() -> FlightEndpoint {
        FlightEndpoint::new().with_ticket(Ticket::new("t"))
    }

    fn columns() -> Schema {
        Schema::new(vec![Field::new("a", DataType::Int32, true)])
    }

    #[test]
    fn a_result_is_fetched_unless_it_is_known_to_be_empty() {
        let unknown = FlightInfo::new().with_endpoint(endpoint());
        assert!(ticket(unknown).unwrap().is_some());
        let rows = FlightInfo::new().with_endpoint(endpoint());
        assert!(ticket(rows.try_with_schema(&columns()).unwrap()).unwrap().is_some());
        let none = FlightInfo::new().with_endpoint(endpoint());
        assert!(ticket(none.try_with_schema(&Schema::empty()).unwrap()).unwrap().is_none());
        assert!(ticket(FlightInfo::new()).unwrap().is_none());
    }

    #[test]
    fn more_than_one_endpoint_is_refused_rather_than_read_in_part() {
        let two = FlightInfo::new().with_endpoint(endpoint()).with_endpoint(endpoint());
        assert!(matches!(ticket(two), Err(Error::Protocol(_))));
    }
}
