//! The protocol's side of [`crate::fuzz`].

use std::time::Duration;

use arrow_flight::{FlightData, FlightDescriptor};
use futures::StreamExt;
use http_body_util::Full;
use prost::{Message, bytes::Bytes};
use tonic::{
    Request, Status, Streaming,
    codec::{DecodeBuf, Decoder},
};

use super::{
    asked::Asked,
    ticket::Codec,
    units,
    upload::{OneUnit, Upload},
};

/// As the server's default.
const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// Bytes that are all there keep nobody waiting.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn ticket(bytes: &[u8]) -> bool {
    let bytes = Bytes::copy_from_slice(bytes);
    let codec = Codec::default();
    let _ = codec.polled(&bytes);
    let _ = codec.renew(&bytes);
    let _ = Asked::of(&FlightDescriptor::new_cmd(bytes.clone()));
    let path = bytes.split(|byte| *byte == b'/').map(|part| String::from_utf8_lossy(part).into_owned());
    let _ = Asked::of(&FlightDescriptor::new_path(path.collect()));
    codec.read(&bytes).is_ok()
}

pub(crate) fn upload(bytes: &[u8]) -> bool {
    let body = Full::new(Bytes::copy_from_slice(bytes));
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else {
        return false;
    };
    runtime.block_on(async {
        let data = Streaming::new_request(FlightDataDecoder, body, None, Some(MAX_MESSAGE_BYTES));
        let Ok(mut upload) = Upload::open(Request::new(data), PATIENCE).await else { return false };
        let _ = Asked::of(upload.descriptor());
        if upload.schema().await.is_err() {
            return false;
        }
        if upload.is_long_stream() {
            return units::read_all(&mut upload).await.is_ok();
        }
        let mut unit = OneUnit(&mut upload);
        while let Some(batch) = unit.next().await {
            if batch.is_err() {
                return false;
            }
        }
        true
    })
}

/// Reads messages as tonic's generated code does.
struct FlightDataDecoder;

impl Decoder for FlightDataDecoder {
    type Item = FlightData;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<FlightData>, Status> {
        FlightData::decode(bytes).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
