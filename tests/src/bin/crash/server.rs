//! The server: the real binary, on one port over all its lives.

use std::{
    env,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::{Failure, numbers::Numbers, unit::BULK_SIZE};

/// Ports that no client is given for its own end of a connection: a client that dials a port of those while no
/// server listens there may end up connected to itself.
const PORTS: std::ops::Range<u64> = 20_000..32_000;
/// A server that is not ready by then never is.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a server is started again and again.
pub(crate) struct Site {
    program: PathBuf,
    database: PathBuf,
    address: SocketAddr,
}

impl Site {
    /// A database in `folder` and a port that is free.
    pub(crate) fn new(
        program: Option<PathBuf>,
        folder: &Path,
        numbers: &mut Numbers,
    ) -> Result<Self, Failure> {
        let program = match program {
            Some(program) => program,
            None => env::current_exe()?.with_file_name("merganser-server"),
        };
        if !program.is_file() {
            return Err(format!("there is no {}: run `make crash`", program.display()).into());
        }
        let port = || (PORTS.start + numbers.below(PORTS.end - PORTS.start)) as u16;
        let address = std::iter::repeat_with(port)
            .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
            .take(100)
            .find(|address| TcpListener::bind(address).is_ok());
        let address = address.ok_or("none of a hundred ports is free")?;
        Ok(Self { program, database: folder.join("crash.duckdb"), address })
    }

    /// Where the server listens, as clients take it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Whether the server, started with this checkpoint size, is writing its log into the database file: it begins
    /// to when the log has that size, and ends with a log that is empty.
    pub(crate) fn checkpoints(&self, size: u64) -> bool {
        let log = |name| self.database.with_extension(name).metadata().map_or(0, |file| file.len());
        // The second log is of what is committed meanwhile.
        log("duckdb.wal") >= size || log("duckdb.wal.checkpoint") > 0
    }

    /// Starts the server, which checkpoints at this size of its log.
    pub(crate) fn start(&self, checkpoint_size: u64) -> Result<Server, Failure> {
        let mut child = Command::new(&self.program)
            .arg("--database")
            .arg(&self.database)
            .args(["--listen", &self.address.to_string()])
            .args(["--checkpoint-size", &format!("{checkpoint_size}B")])
            .args(["--bulk-size", BULK_SIZE, "--log-level", "error"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let output = BufReader::new(child.stdout.take().ok_or("the server has no stdout")?).lines();
        Ok(Server { child, output, started: Instant::now() })
    }
}

/// One life of the server.
pub(crate) struct Server {
    child: Child,
    output: Lines<BufReader<ChildStdout>>,
    started: Instant,
}

impl Server {
    /// Waits until it listens; returns how long that took.
    pub(crate) async fn ready(&mut self) -> Result<Duration, Failure> {
        let line = tokio::time::timeout(PATIENCE, self.output.next_line()).await;
        match line.map_err(|_| "the server was not ready within a minute")?? {
            Some(_) => Ok(self.started.elapsed()),
            None => Err(format!("the server did not start: {}", self.child.wait().await?).into()),
        }
    }

    /// Whether it is still starting after this time.
    pub(crate) async fn still_starts(&mut self, after: Duration) -> Result<bool, Failure> {
        match tokio::time::timeout(after, self.ready()).await {
            Err(_) => Ok(true),
            Ok(ready) => ready.map(|_| false),
        }
    }

    /// SIGKILL: no chance to tidy up.
    pub(crate) async fn kill(mut self) -> Result<(), Failure> {
        Ok(self.child.kill().await?)
    }

    /// SIGTERM; its end must be a clean one.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        let id = self.child.id().and_then(|id| Pid::from_raw(id as i32)).ok_or("the server has ended")?;
        kill_process(id, Signal::TERM)?;
        let status = self.child.wait().await?;
        if status.success() { Ok(()) } else { Err(format!("the server ended badly: {status}").into()) }
    }
}
