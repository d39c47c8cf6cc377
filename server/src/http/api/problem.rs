//! Failures as `application/problem+json` (RFC 9457), with our slug as a member of its own.

use axum::{
    body::Body,
    http::{
        HeaderValue, Method, Response, StatusCode, Uri,
        header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::IntoResponse,
};
use serde::Serialize;

use crate::failure::{Failure, Kind};

const PROBLEM: &str = "application/problem+json";
const CHALLENGE: &str = r#"Basic realm="merganser""#;

/// A failure with its HTTP status.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    failure: Failure,
}

impl Problem {
    /// One that HTTP has a status of its own for.
    pub(super) fn new(status: StatusCode, kind: Kind, slug: &'static str, text: &str) -> Self {
        Self { status, failure: Failure::new(kind, slug, text) }
    }

    /// By which programs tell it.
    #[cfg(test)]
    pub(super) fn slug(&self) -> &'static str {
        self.failure.slug()
    }

    /// A request that makes no sense.
    pub(super) fn bad_request(slug: &'static str, text: &str) -> Self {
        Failure::new(Kind::BadRequest, slug, text).into()
    }
}

/// What a client reads.
#[derive(Serialize)]
struct Told<'a> {
    r#type: &'static str,
    title: Option<&'static str>,
    status: u16,
    detail: &'a str,
    slug: &'static str,
}

/// Whatever becomes a [`Failure`] becomes a problem, with the status of its kind.
impl<F: Into<Failure>> From<F> for Problem {
    fn from(failure: F) -> Self {
        let failure = failure.into();
        Self { status: status(failure.kind()), failure }
    }
}

fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::BadRequest => StatusCode::BAD_REQUEST,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::AlreadyExists | Kind::Precondition | Kind::Aborted => StatusCode::CONFLICT,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Exhausted => StatusCode::TOO_MANY_REQUESTS,
        Kind::Cancelled | Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::TooLong => StatusCode::GATEWAY_TIMEOUT,
        Kind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        Kind::Unknown | Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let Self { status, failure } = self;
        let told = Told {
            r#type: "about:blank",
            title: status.canonical_reason(),
            status: status.as_u16(),
            detail: failure.text(),
            slug: failure.slug(),
        };
        // Texts and a number always have a form in JSON.
        let body = serde_json::to_string(&told).unwrap_or_default();
        let mut response = (status, [(CONTENT_TYPE, PROBLEM)], body).into_response();
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(after) = failure.retry_after() {
            // The header knows whole seconds only.
            headers.insert(RETRY_AFTER, after.as_secs().max(1).into());
        }
        if failure.kind() == Kind::Unauthenticated {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
        }
        response
    }
}

/// A path that leads nowhere.
pub(crate) async fn no_such_path(uri: Uri) -> Problem {
    Failure::new(Kind::NotFound, "NO_SUCH_PATH", &format!("there is nothing at {}", uri.path())).into()
}

/// A method that the path does not know; `Allow` tells those that it does.
pub(crate) async fn no_such_method(method: Method, uri: Uri) -> Problem {
    let text = format!("{} does not take {method}", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, Kind::Unsupported, "METHOD_NOT_ALLOWED", &text)
}
