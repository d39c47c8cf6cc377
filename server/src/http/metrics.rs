//! `/metrics`: everything that [`crate::metrics`] knows, in Prometheus' text format.

use std::{sync::OnceLock, time::Duration};

use axum::{extract::State, http::header::CONTENT_TYPE, response::IntoResponse};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::Shared;
use crate::{
    metrics::{self, READY, SIZES, TIMES},
    readiness::Phase,
};

/// Version 0.0.4 is the one that every scraper reads.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Values are put into their buckets so often; until then each takes memory of its own.
const UPKEEP: Duration = Duration::from_secs(5);

/// From a small commit on a fast disk to a long query.
const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0];
/// From a unit of one row to the largest group.
const COUNTS: [f64; 10] = [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16_384.0, 65_536.0, 262_144.0];

/// A process has one recorder, also when several servers run in it.
static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// The recorder of this process, if there is one.
#[derive(Clone)]
pub(super) struct Recorder(Option<PrometheusHandle>);

impl Recorder {
    /// Begins to record.
    pub(super) fn install() -> Self {
        Self(RECORDER.get_or_init(build).clone())
    }

    /// Sorts what was recorded into buckets, for ever.
    pub(super) async fn upkeep(self) {
        let Self(Some(handle)) = self else { return };
        let mut clock = tokio::time::interval(UPKEEP);
        loop {
            clock.tick().await;
            handle.run_upkeep();
        }
    }
}

/// Nothing is recorded where the buckets or another recorder prevent it; the log says so.
fn build() -> Option<PrometheusHandle> {
    let with_buckets = || {
        let mut builder = PrometheusBuilder::new();
        for metric in TIMES {
            builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.into()), &SECONDS)?;
        }
        for metric in SIZES {
            builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.into()), &COUNTS)?;
        }
        builder.install_recorder()
    };
    match with_buckets() {
        Ok(handle) => {
            metrics::describe();
            Some(handle)
        }
        Err(error) => {
            tracing::error!(%error, "nothing is measured");
            None
        }
    }
}

/// Measures what is measured on demand, and tells everything.
pub(super) async fn answer(State(shared): State<Shared>) -> impl IntoResponse {
    metrics::now(&READY, u64::from(shared.readiness.phase() == Phase::Serving));
    if let Some(sample) = &*shared.sample.lock() {
        sample();
    }
    let text = shared.recorder.0.map_or_else(String::new, |handle| handle.render());
    ([(CONTENT_TYPE, TEXT)], text)
}
