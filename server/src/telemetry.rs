//! The log, on standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Starts logging. Called once, by `main`.
pub fn start(log: &Log) {
    // A line for every HTTP/2 frame helps nobody who asks for debug; what is given comes later and wins.
    let filter = EnvFilter::new(format!("h2=info,hyper_util=info,tower=info,{}", log.level));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    match log.format {
        LogFormat::Text => lines.with_target(false).init(),
        LogFormat::Json => lines.json().init(),
    }
}
