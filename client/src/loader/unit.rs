//! One unit, as it goes over the wire. It is kept encoded until it is acknowledged: sending it again costs nothing.

use arrow_array::RecordBatch;
use arrow_flight::{FlightData, FlightDescriptor, encode::FlightDataEncoderBuilder};
use arrow_schema::SchemaRef;
use futures::{TryStreamExt, stream};
use merganser_proto::IngestUnit;
use prost::Message;

use crate::{
    Error, IngestKey,
    ingest::{checked, schema_of},
    split::Splitter,
};

#[derive(Debug)]
pub(super) struct Unit {
    pub(super) key: IngestKey,
    pub(super) schema: SchemaRef,
    pub(super) rows: u64,
    pub(super) bytes: usize,
    pub(super) messages: Vec<FlightData>,
}

impl Unit {
    /// Encodes the rows of one unit.
    pub(super) async fn encode(key: IngestKey, batches: Vec<RecordBatch>) -> Result<Self, Error> {
        let schema = schema_of(&batches)?;
        let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        let splitter = Splitter::new(&schema);
        let mut pieces = Vec::with_capacity(batches.len());
        for batch in batches {
            pieces.extend(splitter.split(checked(Ok::<_, Error>(batch), &schema)?).into_iter().map(Ok));
        }
        let encoder = FlightDataEncoderBuilder::new()
            .with_schema(schema.clone())
            .with_max_flight_data_size(splitter.encoder_limit())
            .build(stream::iter(pieces));
        let mut messages: Vec<FlightData> = encoder.try_collect().await?;
        // The first is the schema, which the stream has sent already.
        messages.drain(..1);
        if messages.is_empty() {
            messages.push(FlightData::new());
        }
        let last = messages.len() - 1;
        for (index, message) in messages.iter_mut().enumerate() {
            let unit = IngestUnit { key: key.to_string(), more: index < last };
            message.app_metadata = unit.encode_to_vec().into();
        }
        let bytes = messages.iter().map(|message| message.data_header.len() + message.data_body.len()).sum();
        Ok(Self { key, schema, rows, bytes, messages })
    }
}

/// The message that opens a stream: where the rows go, and their columns.
pub(super) async fn opening(schema: &SchemaRef, target: FlightDescriptor) -> Result<FlightData, Error> {
    let encoder = FlightDataEncoderBuilder::new()
        .with_schema(schema.clone())
        .with_flight_descriptor(Some(target))
        .build(stream::empty());
    let messages: Vec<FlightData> = encoder.try_collect().await?;
    let first = messages.into_iter().next();
    first.ok_or_else(|| Error::Protocol("the columns cannot be encoded".to_owned()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array};

    use super::*;

    fn batch(rows: i64) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        RecordBatch::try_from_iter([("a", column)]).unwrap()
    }

    async fn marks(batches: Vec<RecordBatch>) -> (u64, Vec<(bool, bool)>) {
        let unit = Unit::encode(IngestKey::new("a", 1, 7), batches).await.unwrap();
        let marks = unit.messages.iter().map(|message| {
            let mark = IngestUnit::decode(message.app_metadata.clone()).unwrap();
            assert_eq!(mark.key, "a/1/7");
            (message.data_header.is_empty(), mark.more)
        });
        (unit.rows, marks.collect())
    }

    #[tokio::test]
    async fn every_message_has_the_key_and_only_the_last_ends_the_unit() {
        assert_eq!(marks(vec![batch(3)]).await, (3, vec![(false, false)]));
        assert_eq!(marks(vec![batch(3), batch(4)]).await, (7, vec![(false, true), (false, false)]));
        let (rows, marks) = marks(vec![batch(1_000_000)]).await;
        assert_eq!((rows, marks.len()), (1_000_000, 4));
    }

    #[tokio::test]
    async fn a_unit_without_rows_is_its_key_alone() {
        assert_eq!(marks(vec![batch(0)]).await, (0, vec![(true, false)]));
        let none = Unit::encode(IngestKey::new("a", 1, 7), Vec::new()).await;
        assert!(matches!(none, Err(Error::Usage(_))));
    }
}
