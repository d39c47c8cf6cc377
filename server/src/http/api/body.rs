//! The body of a request, within its limits.

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::{Limits, problem::Problem};
use crate::failure::Kind;

/// All of a body.
///
/// # Errors
/// One that is too large, comes too slowly, or breaks off.
pub(super) async fn read(body: Body, limits: Limits) -> Result<Bytes, Problem> {
    let whole = Limited::new(body, limits.body_bytes).collect();
    match tokio::time::timeout(limits.body_time, whole).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            Kind::BadRequest,
            "MESSAGE_TOO_LARGE",
            &format!("the body is larger than {} bytes", limits.body_bytes),
        )),
        Ok(Err(_)) => Err(Problem::bad_request("DISCONNECTED", "the request broke off")),
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            Kind::BadRequest,
            "STALLED",
            &format!("the body did not come within {:?}", limits.body_time),
        )),
    }
}

/// The media type of a body, in lower case and without parameters; empty when none is given.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
