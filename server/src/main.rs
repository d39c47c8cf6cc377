//! The `merganser-server` command.

use std::process::ExitCode;

use merganser_server::{
    Config, Server,
    config::{Command, ConfigError},
    hash_password, stop_signal, telemetry,
};

/// Batches of megabytes are made and freed thousands of times a second; glibc gives each back to the kernel
/// and faults it in again, a quarter of the time of a long read.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `EX_USAGE` of sysexits.h.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let config = match Command::from_process() {
        Ok(Command::Serve(config)) => *config,
        Ok(Command::HashPassword) => return print_hash(),
        Err(ConfigError::CommandLine(error)) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
        Err(error) => return fail(&error, USAGE),
    };
    telemetry::start(&config.log);
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error.as_ref(), 1),
    }
}

#[tokio::main]
async fn run(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    let stop = stop_signal()?;
    let server = Server::start(config).await?;
    println!("listening on {}", server.url()?);
    Ok(server.run(stop).await?)
}

fn print_hash() -> ExitCode {
    match hash_password::from_stdin() {
        Ok(hash) => {
            println!("{hash}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error, 1),
    }
}

fn fail(error: &dyn std::error::Error, code: u8) -> ExitCode {
    eprintln!("merganser-server: {error}");
    ExitCode::from(code)
}
