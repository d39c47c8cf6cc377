//! `make demo`: a server on a fresh database, four loader processes and two reader processes, for 15 seconds.
//!
//! One executable plays every part: without a subcommand it is the director, which starts itself again with
//! the hidden subcommands `server`, `loader` and `reader`. Whoever loses the director ends.

mod crew;
mod director;
mod display;
mod process;
mod server;
mod tally;
mod worker;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crew::Role;
use worker::Assignment;

/// `EX_USAGE` of sysexits.h.
const EXIT_USAGE: u8 = 64;

/// What ends the demo early, as one line for a person.
type Failure = Box<dyn std::error::Error>;

/// Shows four loader processes and two reader processes at work on one fresh DuckDB file.
#[derive(Debug, Parser)]
#[command(name = "merganser-demo", version, disable_help_subcommand = true)]
#[command(override_usage = "merganser-demo [OPTIONS]")]
struct Arguments {
    /// How long to load and query.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    #[command(subcommand)]
    part: Option<Part>,
}

/// The parts that this executable plays for itself.
#[derive(Debug, Subcommand)]
enum Part {
    /// Runs the server on a fresh file until stdin ends.
    #[command(hide = true)]
    Server,
    /// Puts units of events.
    #[command(hide = true)]
    Loader(Assignment),
    /// Runs an aggregate over the events.
    #[command(hide = true)]
    Reader(Assignment),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // When even this cannot be printed, the exit code has to do.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    run(arguments).unwrap_or_else(|error| {
        eprintln!("merganser-demo: {error}");
        ExitCode::FAILURE
    })
}

fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Runtime::new()?;
    let code = runtime.block_on(async {
        match arguments.part {
            None => director::run(arguments.seconds).await,
            Some(Part::Server) => server::keep().await,
            Some(Part::Loader(assignment)) => worker::run(Role::Loader, assignment).await,
            Some(Part::Reader(assignment)) => worker::run(Role::Reader, assignment).await,
        }
    });
    // A read of stdin that is under way never returns: do not wait for it.
    runtime.shutdown_background();
    code
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
