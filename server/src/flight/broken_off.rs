//! Requests that break off.
//!
//! tonic takes a request stream that its client cancels (RST_STREAM with CANCEL) for one that has ended
//! well. An upload that is cut off would then be committed in part. So the error of a request's body is
//! given another code before tonic sees it.

use http::Request;
use http_body_util::BodyExt;
use tonic::{Status, body::Body};

/// Makes a request whose body fails look failed, whatever the reason.
pub(crate) fn fail_when_broken_off(request: Request<Body>) -> Request<Body> {
    request
        .map(|body| Body::new(body.map_err(|_| Status::unavailable("DISCONNECTED: the request broke off"))))
}
