//! Merganser's server: Arrow Flight SQL over one DuckDB database.
//!
//! The data path, from the network down:
//!
//! ```text
//!  main      -> config, telemetry, server         assemble, run, shut down in order
//!  flight/      the protocol                      the home of tonic and arrow_flight
//!  http/        the other protocol                the home of axum; rows as JSON, CSV, Arrow, Parquet
//!  session/     what clients leave between calls  names, settings, transactions, prepared statements
//!  sql/         what is asked                     pure functions over SQL text
//!  engine/      DuckDB                            its C API lives here only
//!
//!  a read:   flight::query  -> engine::reader -> engine::coalesce -> flight::stream
//!  a put:    flight::upload -> engine::ingest -> engine::writer (group commit) -> acknowledgement
//!  a write:  flight::update -> engine::turn   -> engine::update
//! ```

pub mod config;
mod counted;
pub mod engine;
mod failure;
mod flight;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod greeting;
pub mod hash_password;
mod http;
mod metrics;
mod network;
mod opening_line;
mod process;
mod readiness;
pub mod server;
mod services;
mod session;
mod sql;
mod statement_log;
pub mod telemetry;

use std::io::IsTerminal;

pub use config::Config;
pub use server::{Server, ServerError};
pub use session::SessionLimits;

/// Resolves at SIGTERM or Ctrl-C, and at SIGHUP where it says that the server's terminal is gone. Of any other SIGHUP, with
/// which servers are told to read their configuration anew, the log says that nothing comes of it.
///
/// # Errors
/// When the process cannot listen for signals.
pub fn stop_signal() -> std::io::Result<impl Future<Output = ()> + Send> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let has_terminal = std::io::stdin().is_terminal();
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = hang_up.recv() => {
                    if has_terminal {
                        return;
                    }
                    tracing::warn!("SIGHUP changes nothing: the configuration is read at the start, so restart the server");
                }
            }
        }
    })
}

/// Lets writes beyond the process's limit on file sizes fail like writes to a full disk, where the signal
/// would end the process. Call it inside a runtime.
///
/// # Errors
/// When the process cannot listen for signals.
pub fn survive_file_limit() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    /// SIGXFSZ, which has this number on every Unix that the server runs on.
    const FILE_LIMIT: i32 = 25;
    // The handler stays when the listener goes.
    signal(SignalKind::from_raw(FILE_LIMIT)).map(drop)
}
