//! The server of the demo, from both sides: the director holds a [`Server`]; a process of its own keeps
//! `merganser-server` running, so that the server and its folder are gone even when the director is killed.

use std::{
    io,
    process::{ExitCode, ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::{
    Failure,
    process::{again, beside, released},
};

/// A server that listens on a port of its own.
pub(crate) struct Server {
    keeper: Child,
    /// Held open, because the server may have more to say.
    _output: Lines<BufReader<ChildStdout>>,
    url: String,
}

impl Server {
    /// Starts it and waits until it listens.
    pub(crate) async fn start() -> Result<Self, Failure> {
        let mut keeper = again("server")?.spawn()?;
        let stdout = keeper.stdout.take().ok_or("the server has no stdout")?;
        let mut output = BufReader::new(stdout).lines();
        while let Some(line) = output.next_line().await? {
            if let Some(url) = line.strip_prefix("listening on ") {
                return Ok(Self { keeper, _output: output, url: url.to_owned() });
            }
        }
        Err(format!("the server did not start: {}", keeper.wait().await?).into())
    }

    /// The address, as clients take it.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Has it stopped by SIGTERM and waits for its end, which must be a clean one.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        // Waiting closes the keeper's stdin.
        let status = self.keeper.wait().await?;
        if status.success() { Ok(()) } else { Err(format!("the server ended badly: {status}").into()) }
    }
}

/// The part `server`: runs `merganser-server` on a fresh file until released, and ends with its exit code.
pub(crate) async fn keep() -> Result<ExitCode, Failure> {
    let folder = tempfile::Builder::new().prefix("merganser-demo-").tempdir()?;
    let mut server = Command::new(beside("merganser-server")?)
        .arg("--database")
        .arg(folder.path().join("demo.duckdb"))
        .args(["--listen", "127.0.0.1:0", "--log-level", "error"])
        .stdin(Stdio::null())
        .spawn()?;
    let status = tokio::select! {
        status = server.wait() => status?,
        () = released() => terminate(&mut server).await?,
    };
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Sends SIGTERM and waits.
async fn terminate(server: &mut Child) -> io::Result<ExitStatus> {
    // No id means that it has ended and been waited for.
    let id = server.id().and_then(|id| Pid::from_raw(id as i32));
    if let Some(id) = id {
        kill_process(id, Signal::TERM)?;
    }
    server.wait().await
}
