//! `/metrics`, `/healthz` and `/readyz` over HTTP, for Prometheus, orchestrators and load balancers.
//!
//! It answers before the database is open and until the very end of a stop, so that whoever asks learns what
//! the server is doing. There is no log-in: nothing here tells of rows, names or statements.

mod health;
mod metrics;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, routing::get};
use parking_lot::Mutex;
use tokio::{net::TcpListener, sync::oneshot};
use tokio_util::task::AbortOnDropHandle;

use self::metrics::Recorder;
use crate::readiness::Readiness;

/// A client that has not taken its answer by then does not hold up the stop.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Brings up to date what is measured only when somebody asks.
type Sample = Box<dyn Fn() + Send + Sync>;

/// What the handlers share.
#[derive(Clone)]
struct Shared {
    readiness: Readiness,
    recorder: Recorder,
    /// Absent before the server serves and after it has stopped, so that nothing here keeps the engine alive.
    sample: Arc<Mutex<Option<Sample>>>,
}

/// The HTTP server. Dropping it ends it at once.
pub(crate) struct Http {
    address: SocketAddr,
    sample: Arc<Mutex<Option<Sample>>>,
    stop: oneshot::Sender<()>,
    serving: AbortOnDropHandle<()>,
    _upkeep: AbortOnDropHandle<()>,
}

impl Http {
    /// Binds and serves; port 0 picks a free port.
    ///
    /// # Errors
    /// Whatever the system says about the address.
    pub(crate) async fn start(address: SocketAddr, readiness: Readiness) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = Shared { readiness, recorder: Recorder::install(), sample: Arc::default() };
        let sample = Arc::clone(&shared.sample);
        let upkeep = tokio::spawn(shared.recorder.clone().upkeep());
        let routes = Router::new()
            .route("/metrics", get(metrics::answer))
            .route("/healthz", get(health::alive))
            .route("/readyz", get(health::ready))
            .with_state(shared);
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            let serving = axum::serve(listener, routes).with_graceful_shutdown(async { drop(stopped.await) });
            if let Err(error) = serving.await {
                tracing::error!(%error, "metrics and health are no longer served over HTTP");
            }
        });
        tracing::info!(%address, "metrics and health over HTTP");
        let (serving, upkeep) = (AbortOnDropHandle::new(serving), AbortOnDropHandle::new(upkeep));
        Ok(Self { address, sample, stop, serving, _upkeep: upkeep })
    }

    /// The address in use.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What `/metrics` does before it answers.
    pub(crate) fn sample_with(&self, sample: impl Fn() + Send + Sync + 'static) {
        *self.sample.lock() = Some(Box::new(sample));
    }

    /// Takes no more requests, and ends.
    pub(crate) async fn stop(self) {
        *self.sample.lock() = None;
        let _ = self.stop.send(());
        if tokio::time::timeout(LAST_ANSWERS, self.serving).await.is_err() {
            tracing::debug!("a client over HTTP was left in the middle of its answer");
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;
    use crate::readiness::Phase;

    async fn first_line(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.lines().next().unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn readiness_follows_the_phase_and_life_does_not() {
        let readiness = Readiness::starting();
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let http = Http::start(anywhere, readiness.clone()).await.unwrap();
        let ok = "HTTP/1.1 200 OK";
        let not_now = "HTTP/1.1 503 Service Unavailable";
        for (phase, ready) in [
            (Phase::Starting, not_now),
            (Phase::Serving, ok),
            (Phase::Down, not_now),
            (Phase::Serving, ok),
            (Phase::Stopping, not_now),
        ] {
            readiness.enter(phase);
            assert_eq!(first_line(http.address(), "/readyz").await, ready, "{phase:?}");
            assert_eq!(first_line(http.address(), "/healthz").await, ok);
        }
        http.stop().await;
    }
}
