//! A server in this process.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use arrow_flight::flight_service_client::FlightServiceClient;
use merganser::{Client, ClientOptions, Error};
use merganser_server::{
    Config, Server, ServerError, SessionLimits,
    config::{Keepalive, Log, LogFormat, Network, Security},
    engine::{Engine, Options},
};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::transport::{Channel, Endpoint};

use crate::{soon, until};

/// A database file in a folder of its own, both gone when it is dropped.
pub struct DatabaseFile {
    path: PathBuf,
    _folder: Option<TempDir>,
}

impl DatabaseFile {
    /// A place for a database, with nothing there yet.
    #[allow(clippy::new_without_default, reason = "it makes a folder on disk")]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the database");
        Self { path: Self::within(folder.path()).path, _folder: Some(folder) }
    }

    /// A place for a database in a folder that somebody else takes away.
    pub fn within(folder: &Path) -> Self {
        let path = folder.canonicalize().expect("its real path");
        Self { path: path.join("test.duckdb"), _folder: None }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Two instances over one file in one process would destroy it, and the lock does not keep a process
    /// from itself: so a file is opened again only when none of our descriptors is left on it.
    async fn closed(&self) {
        until("the database file is closed", async || !is_open(&self.path)).await;
    }
}

fn is_open(file: &Path) -> bool {
    let descriptors = fs::read_dir("/proc/self/fd").expect("the list of open files");
    descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).any(|open| open == file)
}

/// A server that runs in this process until [`shutdown`](Self::shutdown), or until the test ends.
pub struct TestServer {
    address: SocketAddr,
    http: Option<SocketAddr>,
    scheme: &'static str,
    engine: Engine,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), ServerError>>,
    file: DatabaseFile,
}

impl TestServer {
    /// Over a fresh file, with the defaults.
    pub async fn start() -> Self {
        Self::with(|_| ()).await
    }

    /// Over a fresh file, with some options changed.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::open(DatabaseFile::new(), change).await
    }

    /// Over a file that is there, with some options changed.
    pub async fn open(file: DatabaseFile, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            engine: Options { path: Some(file.path().to_owned()), ..Options::default() },
            sessions: SessionLimits::default(),
            network: Network {
                listen: SocketAddr::from(([127, 0, 0, 1], 0)),
                max_message_bytes: 64 << 20,
                max_connections: 4096,
                begin_within: Duration::from_secs(10),
                http: None,
                http_hosts: Vec::new(),
                max_streams: 1024,
                keepalive: Keepalive::default(),
                drain_timeout: Duration::from_secs(30),
            },
            security: Security::default(),
            log: Log { format: LogFormat::Text, level: "info".into(), slow_query: Duration::from_secs(60) },
        };
        change(&mut config);
        let scheme = if config.security.tls.is_some() { "grpc+tls" } else { "grpc" };
        let server = Server::start(config).await.expect("the server starts");
        let (stop, stopped) = oneshot::channel();
        Self {
            address: server.address().expect("the server is bound"),
            http: server.http_address(),
            scheme,
            engine: server.engine(),
            stop,
            running: tokio::spawn(server.run(async { drop(stopped.await) })),
            file,
        }
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it serves metrics and health over HTTP, if anywhere.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http
    }

    /// The file under it.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The engine under it. A clone that outlives the server keeps the file open.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Our own client, on a connection of its own; to the server that makes it another loader.
    pub async fn client(&self) -> Client {
        let url = self.address.to_string();
        let connected = soon("a connection", Client::connect(&url)).await;
        connected.expect("a connection")
    }

    /// Our own client with options of the test's own, such as a password.
    ///
    /// # Errors
    /// Those of the client.
    pub async fn connect(&self, options: &ClientOptions) -> Result<Client, Error> {
        let url = format!("{}://localhost:{}", self.scheme, self.address.port());
        soon("a connection", Client::connect_with(&url, options)).await
    }

    /// A bare connection, for what our own client would never send.
    pub async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).expect("an address");
        soon("a connection", endpoint.connect()).await.expect("a connection")
    }

    /// The stub of the Flight service on a connection of its own.
    pub async fn flight(&self) -> FlightServiceClient<Channel> {
        FlightServiceClient::new(self.channel().await)
    }

    /// Waits until no read runs or streams.
    pub async fn no_reads_left(&self) {
        until("every read has given its place back", async || self.engine.reads_in_progress() == 0).await;
    }

    /// Waits until so many uploads are under way that were too large to be collected.
    pub async fn bulk_uploads(&self, count: usize) {
        let under_way = async || self.engine.bulk_uploads_in_progress() == count;
        until("the bulk uploads begin or end", under_way).await;
    }

    /// Tells the server to stop, as SIGTERM does, waits until it has, and gives the file back.
    ///
    /// # Panics
    /// When it ends with an error, or leaves the file open.
    pub async fn shutdown(self) -> DatabaseFile {
        let _ = self.stop.send(());
        soon("the server stops", self.running)
            .await
            .expect("the server does not panic")
            .expect("the server ends well");
        drop(self.engine);
        self.file.closed().await;
        self.file
    }
}
