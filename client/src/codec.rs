//! The gRPC codec of an upload that may fail on this side.

use arrow_flight::{FlightData, PutResult};
use prost::Message;
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// Protobuf, but the messages of the request may be errors: tonic's own stubs take streams that can only
/// end, and an error that is met while encoding is what makes a request fail.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PutCodec;

impl Codec for PutCodec {
    type Encode = Result<FlightData, Status>;
    type Decode = PutResult;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for PutCodec {
    type Item = Result<FlightData, Status>;
    type Error = Status;

    fn encode(&mut self, item: Self::Item, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item?.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for PutCodec {
    type Item = PutResult;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<PutResult>, Status> {
        PutResult::decode(buffer).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
