//! The `merganser-server` command.

use std::{process::ExitCode, time::Duration};

use merganser_server::{
    Config, Server, ServerError,
    config::{Command, ConfigError},
    hash_password, stop_signal, survive_file_limit, telemetry,
};
use tokio::runtime::{Builder, Runtime};

/// Batches of megabytes are made and freed thousands of times a second; glibc gives each back to the kernel
/// and faults it in again, a quarter of the time of a long read.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `EX_USAGE` of sysexits.h.
const USAGE: u8 = 64;
/// How long threads may take to end after a server that ended well.
const LAST_THREADS: Duration = Duration::from_secs(10);

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
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, 1),
    };
    let code = match runtime.block_on(run(config)) {
        Ok(()) => 0,
        Err(error) => report(error.as_ref(), error.downcast_ref().map_or(1, ServerError::exit_code)),
    };
    // Returning would wait for threads without end, and one may hang in a database that has failed.
    runtime.shutdown_timeout(if code == 0 { LAST_THREADS } else { Duration::ZERO });
    std::process::exit(code.into())
}

/// DuckDB plans on our threads, and recurses as deep as a statement nests: up to a thousand steps
/// (`max_expression_depth`), for which a usual stack of 2 MiB is too small. What is not used costs nothing.
fn runtime() -> std::io::Result<Runtime> {
    const STACK_BYTES: usize = 32 << 20;
    Builder::new_multi_thread().enable_all().thread_stack_size(STACK_BYTES).build()
}

async fn run(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    let stop = stop_signal()?;
    survive_file_limit()?;
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
    ExitCode::from(report(error, code))
}

fn report(error: &dyn std::error::Error, code: u8) -> u8 {
    eprintln!("merganser-server: {error}");
    code
}
