//! The real binary, as a process of its own.

use std::{
    ffi::OsStr,
    path::Path,
    process::{ExitStatus, Stdio},
};

use arrow_flight::flight_service_client::FlightServiceClient;
use merganser::Client;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};
use tonic::transport::{Channel, Endpoint};

use crate::soon;

/// The server as a process of its own, killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    url: String,
}

impl Process {
    /// Starts the binary `program` and waits for the line that says that it is ready.
    ///
    /// A test names the binary by `env!("CARGO_BIN_EXE_merganser-server-under-test")`, which cargo tells
    /// to integration tests only.
    pub async fn start(program: impl AsRef<OsStr>, database: &Path, options: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(Self::arguments(database)).args(options);
        Self::run(command).await
    }

    /// What [`Process::start`] passes: for a command that runs the server by way of another program.
    pub fn arguments(database: &Path) -> Vec<&OsStr> {
        let fixed = ["--listen", "127.0.0.1:0", "--log-level", "error"].map(OsStr::new);
        [OsStr::new("--database"), database.as_os_str()].into_iter().chain(fixed).collect()
    }

    /// Runs a command that becomes the server, and waits for the line that says that it is ready.
    ///
    /// # Panics
    /// When it ends before, or says anything else.
    pub async fn run(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("a program to run");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = soon("the server is ready", lines.next_line()).await.expect("readable text");
        let line = line.expect("a server that starts");
        let url = line.strip_prefix("listening on ").expect("the line that says where").to_owned();
        Self { child, url }
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.child.id().expect("a process that nobody has waited for")
    }

    /// What of its memory is in use just now, in bytes.
    ///
    /// # Panics
    /// When it has ended.
    pub fn resident_bytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its resident memory");
        let kilobytes: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kilobytes << 10
    }

    /// A bare connection, for what our own client would never send.
    pub async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(self.url.replacen("grpc", "http", 1)).expect("an address");
        soon("a connection", endpoint.connect()).await.expect("a connection")
    }

    /// A client of its own connection.
    pub async fn client(&self) -> Client {
        Client::connect(&self.url).await.expect("a server that listens")
    }

    /// The stub of the Flight service on a connection of its own.
    pub async fn flight(&self) -> FlightServiceClient<Channel> {
        FlightServiceClient::new(self.channel().await)
    }

    /// SIGKILL: no chance to tidy up.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("a process to kill");
    }

    /// SIGTERM; returns how the process ended.
    pub async fn terminate(self) -> ExitStatus {
        let id = self.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().await.expect("kill");
        assert!(sent.success());
        self.ended().await
    }

    /// Waits until it ends by itself; returns how.
    pub async fn ended(mut self) -> ExitStatus {
        soon("the server ends", self.child.wait()).await.expect("a process to wait for")
    }
}
