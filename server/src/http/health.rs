//! `/healthz`: the process lives. `/readyz`: it serves.

use axum::{extract::State, http::StatusCode};

use super::Shared;
use crate::readiness::Phase;

/// A process that can say so lives.
pub(super) async fn alive() -> &'static str {
    "alive\n"
}

/// 200 while the server serves, else 503; the text says what it does.
pub(super) async fn ready(State(shared): State<Shared>) -> (StatusCode, &'static str) {
    match shared.readiness.phase() {
        Phase::Serving => (StatusCode::OK, "serving\n"),
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Phase::Down => (StatusCode::SERVICE_UNAVAILABLE, "the engine is down\n"),
        Phase::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
    }
}
