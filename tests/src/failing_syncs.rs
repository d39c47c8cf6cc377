//! A disk that fails at a moment of the test's choice.

use std::{process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::{Process, soon};

/// Makes the next sync to disk of each of a server's threads fail, as strace does it, until it is ended or dropped.
#[derive(Debug)]
pub struct FailingSyncs {
    strace: Child,
}

impl FailingSyncs {
    /// From now on.
    ///
    /// # Panics
    /// Where strace is not installed, or not allowed to trace.
    pub async fn begin(server: &Process) -> Self {
        Self::begin_after(server, Duration::ZERO).await
    }

    /// The same for syncs that take so long before they fail, so that somebody comes to wait meanwhile.
    ///
    /// # Panics
    /// As [`FailingSyncs::begin`].
    pub async fn begin_after(server: &Process, delay: Duration) -> Self {
        let fault = format!("inject=fsync,fdatasync:error=EIO:delay_enter={}:when=1", delay.as_micros());
        let mut strace = Command::new("strace")
            .args(["-f", "-e", "trace=fsync,fdatasync", "-e", &fault])
            .args(["-p", &server.id().to_string()])
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("strace, which scripts/system-tools installs");
        let mut lines = BufReader::new(strace.stderr.take().expect("piped")).lines();
        let first = soon("strace is attached", lines.next_line()).await.expect("text").expect("a line");
        assert!(first.contains("attached"), "{first}");
        // What it writes later must not fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { strace }
    }

    /// Lets go of the server.
    ///
    /// # Panics
    /// When strace does not end.
    pub async fn end(mut self) {
        let id = self.strace.id().expect("a process").to_string();
        let sent = Command::new("kill").args(["-INT", &id]).status().await.expect("kill");
        assert!(sent.success());
        soon("strace lets go", self.strace.wait()).await.expect("a process to wait for");
    }
}
