//! The HTTP API (see [`api`]), and `/metrics`, `/healthz` and `/readyz` for Prometheus, orchestrators and load
//! balancers.
//!
//! It answers before the database is open and until the very end of a stop, so that whoever asks learns what
//! the server is doing. Metrics and health need no log-in: nothing there tells of rows, names or statements.

mod api;
mod format;
mod health;
mod listener;
mod metrics;
mod patient;
mod tls;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, routing::get};
use parking_lot::Mutex;
use tokio::{net::TcpListener, sync::oneshot};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use self::{api::Limits, listener::Terms, metrics::Recorder};
use crate::{config::Config, network::Places, readiness::Readiness};
pub(crate) use api::{Api, Cursors};

/// A client that has not taken its answer by then does not hold up the stop.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Brings up to date what is measured only when somebody asks.
type Sample = Box<dyn Fn() + Send + Sync>;

/// What the handlers share.
#[derive(Clone)]
struct Shared {
    readiness: Readiness,
    recorder: Recorder,
    limits: Limits,
    /// Names of this server, of which the configuration knows.
    hosts: Arc<[String]>,
    /// Absent before the server serves and after it has stopped, so that nothing here keeps the engine alive.
    sample: Arc<Mutex<Option<Sample>>>,
    /// Likewise.
    api: Arc<Mutex<Option<Arc<Api>>>>,
    /// Requests to the API that are under way.
    open: TaskTracker,
}

/// The HTTP server. Dropping it ends it at once.
pub(crate) struct Http {
    address: SocketAddr,
    places: Places,
    shared: Shared,
    stop: oneshot::Sender<()>,
    serving: AbortOnDropHandle<()>,
    _upkeep: AbortOnDropHandle<()>,
}

impl Http {
    /// Binds and serves; port 0 picks a free port.
    ///
    /// # Errors
    /// Whatever the system says about the address.
    pub(crate) async fn start(
        address: SocketAddr,
        config: &Config,
        readiness: Readiness,
    ) -> io::Result<Self> {
        let (network, patience) = (&config.network, config.engine.stall_timeout);
        let tls = config.security.tls.as_ref().map(tls::acceptor).transpose()?;
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = Shared {
            readiness,
            recorder: Recorder::install(),
            limits: Limits { body_bytes: network.max_message_bytes, body_time: patience },
            hosts: network.http_hosts.as_slice().into(),
            sample: Arc::default(),
            api: Arc::default(),
            open: TaskTracker::new(),
        };
        let terms = Terms { routes: routes(&shared), tls, begin_within: network.begin_within, patience };
        let places = Places::new(network.max_connections);
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = listener::serve(listener, places.clone(), terms, async { drop(stopped.await) });
        let serving = AbortOnDropHandle::new(tokio::spawn(serving));
        let upkeep = AbortOnDropHandle::new(tokio::spawn(shared.recorder.clone().upkeep()));
        tracing::info!(%address, "serving over HTTP");
        Ok(Self { address, places, shared, stop, serving, _upkeep: upkeep })
    }

    /// The address in use.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The places of its connections.
    pub(crate) fn places(&self) -> Places {
        self.places.clone()
    }

    /// Serves the API from now on.
    pub(crate) fn serve(&self, api: Api) {
        *self.shared.api.lock() = Some(Arc::new(api));
    }

    /// What `/metrics` does before it answers.
    pub(crate) fn sample_with(&self, sample: impl Fn() + Send + Sync + 'static) {
        *self.shared.sample.lock() = Some(Box::new(sample));
    }

    /// Waits until no request to the API is under way. New ones are refused by then, because the server stops.
    pub(crate) async fn drained(&self) {
        self.shared.open.close();
        self.shared.open.wait().await;
        // Their queries would run on.
        if let Some(api) = &*self.shared.api.lock() {
            api.cursors.clear();
        }
    }

    /// Takes no more requests, and ends.
    pub(crate) async fn stop(self) {
        *self.shared.sample.lock() = None;
        *self.shared.api.lock() = None;
        let _ = self.stop.send(());
        if tokio::time::timeout(LAST_ANSWERS, self.serving).await.is_err() {
            tracing::debug!("a client over HTTP was left in the middle of its answer");
        }
    }
}

/// Everything that there is.
fn routes(shared: &Shared) -> Router {
    Router::new()
        .route("/metrics", get(metrics::answer))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .merge(api::routes(shared))
        .fallback(api::no_such_path)
        .method_not_allowed_fallback(api::no_such_method)
        .with_state(shared.clone())
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;
    use crate::{
        config::{Keepalive, Log, LogFormat, Network, Security},
        readiness::Phase,
    };

    const ANYWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    fn config() -> Config {
        Config {
            engine: crate::engine::Options::default(),
            sessions: crate::session::SessionLimits::default(),
            network: Network {
                listen: ANYWHERE,
                max_message_bytes: 1 << 20,
                max_connections: 16,
                begin_within: Duration::from_secs(10),
                http: Some(ANYWHERE),
                http_hosts: Vec::new(),
                max_streams: 16,
                keepalive: Keepalive::default(),
                drain_timeout: Duration::from_secs(1),
            },
            security: Security::default(),
            log: Log { format: LogFormat::Text, level: "info".into(), slow_query: Duration::from_secs(1) },
        }
    }

    async fn first_line(address: SocketAddr, asked: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{asked} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.lines().next().unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn readiness_follows_the_phase_and_life_does_not() {
        let readiness = Readiness::starting();
        let http = Http::start(ANYWHERE, &config(), readiness.clone()).await.unwrap();
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
            assert_eq!(first_line(http.address(), "GET /readyz").await, ready, "{phase:?}");
            assert_eq!(first_line(http.address(), "GET /healthz").await, ok);
        }
        http.stop().await;
    }

    #[tokio::test]
    async fn the_api_is_not_there_before_the_server_serves_nor_after() {
        let readiness = Readiness::starting();
        let http = Http::start(ANYWHERE, &config(), readiness.clone()).await.unwrap();
        for phase in [Phase::Starting, Phase::Serving, Phase::Down, Phase::Stopping] {
            readiness.enter(phase);
            let line = first_line(http.address(), "GET /v1/tables").await;
            assert_eq!(line, "HTTP/1.1 503 Service Unavailable", "{phase:?}");
        }
        http.stop().await;
    }
}
