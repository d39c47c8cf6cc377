//! The only assembler: opens the engine, puts the service on the network, and takes both down in order.

use std::{
    future::{self, Future},
    io,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use arrow_flight::flight_service_server::FlightServiceServer;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::{self, Certificate, Identity, ServerTlsConfig};
use tower::util::{MapRequestLayer, MapResponseLayer};

use crate::{
    config::{Config, Network, Security, Tls},
    engine::{self, Engine},
    flight::{Authenticated, Flight, fail_when_broken_off, let_in, tell_undecodable},
    http::{Api, Cursors, Http},
    metrics,
    network::{self, Places},
    opening_line, process,
    readiness::{Phase, Readiness},
    services,
    session::{Authenticator, Sessions},
    statement_log::StatementLog,
};

/// HTTP/2 flow control: how much a client may send before it waits. A stream whose message waits for room keeps what it
/// was sent, so several of them must fit into the window of their connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Larger frames mean fewer of them for uploads; 16 KiB is HTTP/2's default. Each stream may keep one beside its window.
const FRAME_BYTES: u32 = 64 << 10;
/// How often idle sessions and transactions are looked for.
const SWEEP: Duration = Duration::from_secs(1);

/// How long clients may take to hear that their reads were cut off.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// `EX_DATAERR` of sysexits.h: starting again will not help.
const DAMAGED: u8 = 65;
/// `EX_SOFTWARE` of sysexits.h: starting again will.
const LOST: u8 = 70;

/// Why the server did not start or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The database cannot be opened.
    #[error("cannot open the database {database}: {reason}")]
    Open {
        /// The file as it was given.
        database: String,
        /// DuckDB's reason.
        reason: engine::Error,
    },
    /// The write-ahead log is damaged, so that the database cannot be opened. Nothing was touched.
    #[error(
        "cannot open the database {database}: its write-ahead log {database}.wal cannot be replayed: {reason}\n\
         Nothing was changed. Either restore a backup of the database, or move {database}.wal out of the way and \
         start again: then the database is as of its last checkpoint, and everything committed since is lost. Keep \
         a copy of both files."
    )]
    WriteAheadLog {
        /// The file as it was given.
        database: String,
        /// DuckDB's reason.
        reason: String,
    },
    /// The database failed while the server ran, and cannot be opened again in this process.
    #[error("the database failed and cannot be opened again in this process: {0}; start the server again")]
    Lost(String),
    /// A task that sessions need has panicked.
    #[error("a task of the server has ended that it cannot do without: {0}; start the server again")]
    Panicked(String),
    /// Rows are still being appended, although that was stopped; of them nothing is committed.
    #[error(
        "rows are being appended to a table that DuckDB does not stop computing for; nothing of them is committed"
    )]
    AppendsOn,
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {reason}")]
    Bind {
        /// The address as it was given.
        address: SocketAddr,
        /// The system's reason.
        reason: io::Error,
    },
    /// The system has no random numbers, without which nobody can be told apart.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
    /// The transport failed.
    #[error("the server failed: {0}")]
    Transport(#[from] transport::Error),
}

impl ServerError {
    /// The exit code of a process that ends by this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::WriteAheadLog { .. } => DAMAGED,
            Self::Lost(_) | Self::Panicked(_) | Self::AppendsOn => LOST,
            Self::Open { .. } | Self::Bind { .. } | Self::Random(_) | Self::Transport(_) => 1,
        }
    }
}

/// A server that is open and bound, and serves once it is run.
pub struct Server {
    engine: Engine,
    authenticator: Arc<Authenticator>,
    readiness: Readiness,
    http: Option<Http>,
    listener: TcpListener,
    sessions: Arc<Sessions>,
    /// One line a statement, whatever the protocol.
    log: Arc<StatementLog>,
    /// The places of connections to `listener`.
    places: Places,
    config: Config,
}

impl Server {
    /// Opens the database, then binds. The order means that a port that answers is a server that works; only
    /// metrics and health answer before.
    ///
    /// # Errors
    /// [`ServerError::Open`], [`ServerError::WriteAheadLog`], [`ServerError::Bind`].
    pub async fn start(config: Config) -> Result<Self, ServerError> {
        // A log may take long to replay.
        process::started_at();
        let readiness = Readiness::starting();
        let http = match config.network.http {
            Some(address) => {
                let started = Http::start(address, &config, readiness.clone()).await;
                Some(started.map_err(|reason| ServerError::Bind { address, reason })?)
            }
            None => None,
        };
        let authenticator = Arc::new(authenticator(&config.security).map_err(ServerError::Random)?);
        let options = config.engine.clone();
        let database = options.path.as_ref().map_or(":memory:".into(), |path| path.display().to_string());
        let engine = Engine::open(options).map_err(|reason| match reason {
            engine::Error::WalUnreadable(reason) => ServerError::WriteAheadLog { database, reason },
            reason => ServerError::Open { database, reason },
        })?;
        let address = config.network.listen;
        let listener =
            TcpListener::bind(address).await.map_err(|reason| ServerError::Bind { address, reason })?;
        warn_of_risks(&config);
        let server = Self {
            sessions: Arc::new(Sessions::new(engine.clone(), config.sessions)),
            log: Arc::new(StatementLog::new(engine.activity(), config.log.slow_query)),
            places: Places::new(config.network.max_connections),
            engine,
            authenticator,
            readiness,
            http,
            listener,
            config,
        };
        // From here on connections are taken, though they may wait for `run`.
        server.serve_http().map_err(ServerError::Random)?;
        let url = server.url().map_err(|reason| ServerError::Bind { address, reason })?;
        opening_line::write(&server.config, &server.engine, &url, server.http_address());
        server.engine.start_jobs();
        server.engine.await_missing();
        server.readiness.enter(Phase::Serving);
        Ok(server)
    }

    /// The address in use; tells the port when 0 was asked for.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Where the API, metrics and health are served over HTTP, if anywhere.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(Http::address)
    }

    /// The address as clients write it.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn url(&self) -> io::Result<String> {
        let scheme = if self.config.security.tls.is_some() { "grpc+tls" } else { "grpc" };
        Ok(format!("{scheme}://{}", self.address()?))
    }

    /// The engine under the server.
    pub fn engine(&self) -> Engine {
        self.engine.clone()
    }

    /// Serves until `stop` is ready; then accepts nothing new, lets requests under way finish within the
    /// drain time, commits what the writer holds, and checkpoints.
    ///
    /// # Errors
    /// [`ServerError::Transport`]; [`ServerError::Lost`] and [`ServerError::Panicked`], after which threads may still hang in the engine, so
    /// that the process had better end at once.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) -> Result<(), ServerError> {
        let network = &self.config.network;
        let (sessions, places) = (Arc::clone(&self.sessions), self.places.clone());
        let (closed, closings) = mpsc::unbounded_channel();
        let mut upkeep = JoinSet::new();
        upkeep.spawn(Arc::clone(&sessions).sweep(SWEEP));
        upkeep.spawn(Arc::clone(&sessions).end_with(closings));
        upkeep.spawn(Arc::clone(&sessions).let_go_when_down());
        let door = &self.authenticator;
        let log = Arc::clone(&self.log);
        let stopping = CancellationToken::new();
        let flight =
            Flight::new(self.engine.clone(), Arc::clone(&sessions), log, Arc::clone(door), stopping.clone());
        let flight = FlightServiceServer::new(flight)
            .max_decoding_message_size(network.max_message_bytes)
            .max_encoding_message_size(usize::MAX);
        let (reporter, health) = services::health(self.readiness.clone()).await;
        let (reflection, older_reflection) = services::reflection();
        let (drain, draining) = oneshot::channel::<()>();
        let (engine, largest) = (self.engine.clone(), network.max_message_bytes);
        let serving = builder(network, self.config.security.tls.as_ref())?
            .layer(MapResponseLayer::new(tell_undecodable))
            .layer(MapRequestLayer::new(fail_when_broken_off))
            .layer(MapRequestLayer::new(move |request| let_in(&engine, largest, request)))
            .add_service(Authenticated::new(flight, door))
            .add_service(Authenticated::new(reflection, door))
            .add_service(Authenticated::new(older_reflection, door))
            // A load balancer that asks for health has no user.
            .add_service(health)
            .serve_with_incoming_shutdown(
                network::accept(self.listener, places, network.begin_within, closed),
                async { drop(draining.await) },
            );
        tokio::pin!(serving);
        let mut stopped_at = None;
        let served = tokio::select! {
            served = &mut serving => served,
            reason = reporter.follow(self.engine.condition()) => return Err(ServerError::Lost(reason)),
            reason = first_panic(&mut upkeep) => return Err(ServerError::Panicked(reason)),
            () = stop => {
                tracing::info!("stopping: no new connections");
                stopped_at = Some(Instant::now());
                reporter.clone().stopping().await;
                stopping.cancel();
                let _ = drain.send(());
                let drained = async { tokio::join!(&mut serving, drained(self.http.as_ref())) };
                tokio::pin!(drained);
                match tokio::time::timeout(network.drain_timeout, &mut drained).await {
                    Ok((served, ())) => served,
                    Err(_) => {
                        let reads = self.engine.reads_in_progress();
                        tracing::warn!(reads, "requests were still under way at the end of the drain time");
                        self.engine.cut_off_reads();
                        self.engine.cut_off_appends();
                        let told = tokio::time::timeout(LAST_WORDS, drained).await;
                        told.map_or(Ok(()), |(served, ())| served)
                    }
                }
            }
        };
        sessions.close_all();
        let stopped_at = stopped_at.unwrap_or_else(Instant::now);
        shut_down(&self.engine, stopped_at + network.drain_timeout).await?;
        if let Some(http) = self.http {
            http.stop().await;
        }
        tracing::info!("stopped");
        Ok(served?)
    }

    /// Opens the API and the metrics over HTTP.
    fn serve_http(&self) -> Result<(), getrandom::Error> {
        let Some(http) = &self.http else { return Ok(()) };
        let places = [self.places.clone(), http.places()];
        metrics::built(opening_line::VERSION, self.engine.duckdb_version());
        http.sample_with(sample(self.engine.clone(), Arc::clone(&self.sessions), places));
        http.serve(Api {
            engine: self.engine.clone(),
            cursors: Cursors::new(self.config.engine.read_concurrency)?,
            sessions: Arc::clone(&self.sessions),
            authenticator: Arc::clone(&self.authenticator),
            log: Arc::clone(&self.log),
        });
        Ok(())
    }
}

/// Shuts the engine down. What still appends at the deadline is cut off: its client may have gone long ago.
async fn shut_down(engine: &Engine, deadline: Instant) -> Result<(), ServerError> {
    let ending = engine.shutdown();
    tokio::pin!(ending);
    if tokio::time::timeout_at(deadline, &mut ending).await.is_ok() {
        return Ok(());
    }
    engine.cut_off_appends();
    tokio::select! {
        () = ending => Ok(()),
        () = engine.an_append_does_not_end() => Err(ServerError::AppendsOn),
    }
}

/// Waits until one of the tasks has panicked; for ever, while none has.
async fn first_panic(tasks: &mut JoinSet<()>) -> String {
    while let Some(ended) = tasks.join_next().await {
        if let Err(panic) = ended {
            return panic.to_string();
        }
    }
    future::pending().await
}

/// Waits until no request over HTTP is under way.
async fn drained(http: Option<&Http>) {
    if let Some(http) = http {
        http.drained().await;
    }
}

/// Lets in whom the configuration names.
fn authenticator(security: &Security) -> Result<Authenticator, getrandom::Error> {
    let users = security.users.iter().map(|user| (user.name.clone(), user.password.clone()));
    let certificates = security.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    Authenticator::new(users, certificates, security.token_idle)
}

/// What is measured when somebody asks for the metrics.
fn sample(engine: Engine, sessions: Arc<Sessions>, places: [Places; 2]) -> impl Fn() + Send + Sync {
    move || {
        metrics::now(&metrics::QUEUE_UNITS, engine.units_queued() as u64);
        metrics::now(&metrics::QUEUE_BYTES, engine.bytes_queued() as u64);
        metrics::now(&metrics::BULK_UPLOADS, engine.bulk_uploads_in_progress() as u64);
        metrics::now(&metrics::READS, engine.reads_in_progress() as u64);
        metrics::now(&metrics::STATEMENTS_OVERDUE, engine.statements_overdue() as u64);
        metrics::now(&metrics::SESSIONS, sessions.count() as u64);
        metrics::now(&metrics::CONNECTIONS, places.iter().map(Places::taken).sum::<usize>() as u64);
        metrics::now(&metrics::WAL_BYTES, engine.wal_bytes());
        metrics::now(&metrics::START_SECONDS, process::start_seconds());
        if let Some(bytes) = process::resident_bytes() {
            metrics::now(&metrics::RESIDENT_BYTES, bytes);
        }
        if let Some(free) = engine.disk_free_bytes() {
            metrics::now(&metrics::DISK_FREE_BYTES, free);
        }
    }
}

/// The transport with its limits.
fn builder(network: &Network, tls: Option<&Tls>) -> Result<transport::Server, transport::Error> {
    let builder = transport::Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES)
        .max_concurrent_streams(network.max_streams)
        .http2_keepalive_interval(Some(network.keepalive.silence))
        .http2_keepalive_timeout(Some(network.keepalive.answer_within));
    let Some(tls) = tls else { return Ok(builder) };
    let identity = Identity::from_pem(&tls.certificate, &tls.key);
    let config = ServerTlsConfig::new().identity(identity).timeout(network.begin_within);
    builder.tls_config(match &tls.client_ca {
        Some(authority) => config.client_ca_root(Certificate::from_pem(authority)),
        None => config,
    })
}

/// What is allowed, but had better be known.
fn warn_of_risks(config: &Config) {
    let security = &config.security;
    if !security.readable_secrets.is_empty() {
        tracing::warn!(
            secrets = security.readable_secrets.join(", "),
            "statements can read the files that hold values of secrets: set read_directories, which says what they may read"
        );
    }
    let reachable = |address: SocketAddr| !address.ip().is_loopback();
    if config.network.http.is_some_and(reachable) {
        tracing::warn!("metrics and health over HTTP can be read by whoever can connect");
    }
    if !reachable(config.network.listen) && !config.network.http.is_some_and(reachable) {
        return;
    }
    if security.tls.is_none() {
        tracing::warn!("nothing is encrypted: rows and passwords can be read on their way");
    }
    if security.users.is_empty() && security.tls.as_ref().is_none_or(|tls| tls.client_ca.is_none()) {
        tracing::warn!("there are no users: whoever can connect can do whatever DuckDB can");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_told_and_one_that_ends_is_not() {
        let mut tasks = JoinSet::new();
        tasks.spawn(async {});
        tasks.spawn(future::pending());
        tasks.spawn(async {
            tokio::task::yield_now().await;
            panic!("a test");
        });
        assert!(first_panic(&mut tasks).await.contains("panicked"));
        assert_eq!(tasks.len(), 1, "the others go on");
    }
}
