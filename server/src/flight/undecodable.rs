//! Messages that are no protobuf. tonic answers them by itself, as a fault of the server and without a slug.

use http::Response;
use tonic::{Code, Status, body::Body};

use super::error::bad_request;

/// How tonic begins what it says of such a message.
const UNDECODABLE: &str = "failed to decode Protobuf message";

/// Tells a client that its request cannot be read.
pub(crate) fn tell_undecodable(response: Response<Body>) -> Response<Body> {
    match Status::from_header_map(response.headers()).and_then(|status| refused(&status)) {
        Some(refused) => refused.into_http(),
        None => response,
    }
}

/// What is said of such a message instead; `None` of any other failure.
pub(super) fn refused(status: &Status) -> Option<Status> {
    if status.code() != Code::Internal || !status.message().starts_with(UNDECODABLE) {
        return None;
    }
    Some(match status.message().contains("FlightDescriptor.path") {
        true => bad_request("BAD_NAME", "a part of the path is no text in UTF-8"),
        false => bad_request(
            "BAD_MESSAGE",
            "the message is not what the call takes, or a text in it is not in UTF-8",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_be_decoded_is_told_otherwise() {
        let of = |status: Status| {
            refused(&status).map(|status| status.message().split(':').next().map(str::to_owned))
        };
        let path = "failed to decode Protobuf message: FlightDescriptor.path: invalid string value";
        assert_eq!(of(Status::internal(path)), Some(Some("BAD_NAME".into())));
        let other = "failed to decode Protobuf message: invalid varint";
        assert_eq!(of(Status::internal(other)), Some(Some("BAD_MESSAGE".into())));
        assert_eq!(of(Status::internal("INTERNAL: something else")), None);
        assert_eq!(of(Status::unavailable(other)), None);
    }
}
