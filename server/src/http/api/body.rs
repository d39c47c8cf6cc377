//! The body of a request, within its limits and within the memory that there is for what comes in.

use std::time::Instant;

use axum::{
    body::{Body, Bytes, HttpBody},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
};
use bytes::BytesMut;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::{Limits, door::Visit, problem::Problem};
use crate::{engine::Reservation, failure::Kind};

/// So much of a statement and its parameters needs no room: uploads that take all of it keep nobody from asking.
const SMALL_BYTES: usize = 64 << 10;

/// All of a body, and the memory that it takes.
pub(super) struct Whole {
    pub(super) bytes: Bytes,
    pub(super) room: Reservation,
}

/// A statement, or parameters.
///
/// # Errors
/// Of a body that is too large, comes too slowly, breaks off, or finds no room.
pub(super) async fn read(visit: &Visit, body: Body) -> Result<Whole, Problem> {
    read_beside(visit, body, SMALL_BYTES).await
}

/// Rows, which need room from their first byte on.
///
/// # Errors
/// Those of [`read`].
pub(super) async fn read_rows(visit: &Visit, body: Body) -> Result<Whole, Problem> {
    read_beside(visit, body, 0).await
}

/// Reads a body of which so many bytes need no room. While it waits for room, nothing is read of it; that time is not
/// its sender's.
async fn read_beside(visit: &Visit, body: Body, mut small: usize) -> Result<Whole, Problem> {
    let Limits { body_bytes, body_time } = visit.limits;
    // What says that it is too large need not come to be refused.
    if body.size_hint().lower() > body_bytes as u64 {
        return Err(too_large(body_bytes));
    }
    let mut room = visit.api.engine.reservation(visit.connection.0);
    let (mut body, mut bytes, mut left) = (Limited::new(body, body_bytes), BytesMut::new(), body_time);
    loop {
        let begun = Instant::now();
        let frame = match tokio::time::timeout(left, body.frame()).await {
            Ok(None) => return Ok(Whole { bytes: bytes.freeze(), room }),
            Ok(Some(frame)) => frame.map_err(|error| refusal(&*error, body_bytes))?,
            Err(_) => return Err(stalled(visit.limits)),
        };
        left = left.saturating_sub(begun.elapsed());
        let Ok(data) = frame.into_data() else { continue };
        let beside = small.min(data.len());
        small -= beside;
        room.hold(data.len() - beside).await?;
        bytes.extend_from_slice(&data);
    }
}

fn refusal(error: &(dyn std::error::Error + Send + Sync + 'static), body_bytes: usize) -> Problem {
    if error.is::<LengthLimitError>() {
        return too_large(body_bytes);
    }
    Problem::bad_request("DISCONNECTED", "the request broke off")
}

fn too_large(body_bytes: usize) -> Problem {
    let text = format!("the body is larger than {body_bytes} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, Kind::BadRequest, "MESSAGE_TOO_LARGE", &text)
}

fn stalled(limits: Limits) -> Problem {
    let text = format!("the body did not come within {:?}", limits.body_time);
    Problem::new(StatusCode::REQUEST_TIMEOUT, Kind::BadRequest, "STALLED", &text)
}

/// The media type of a body, in lower case and without parameters; empty when none is given.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
