//! `make crash`: the server is killed with SIGKILL again and again under 32 loaders with keyed units, and a judge
//! compares what was acknowledged with what the database holds.
//!
//! One executable plays every part but the server: without a subcommand it is the director, which starts the real
//! `merganser-server` and itself again, as loaders and as the judge. The judge is a process of its own, so that
//! nothing that dies or is in doubt has a say in what was promised.

mod crew;
mod director;
mod judge;
mod kept;
mod latest;
mod ledger;
mod loader;
mod moment;
mod numbers;
mod report;
mod server;
mod stream;
mod tally;
mod unit;
mod verdict;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// `EX_USAGE` of sysexits.h.
const EXIT_USAGE: u8 = 64;

/// What ends a part early, as one line for a person.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Kills a server under load, round by round, and counts what was lost, doubled or torn.
#[derive(Debug, Parser)]
#[command(name = "merganser-crash", disable_help_subcommand = true)]
#[command(override_usage = "merganser-crash [OPTIONS]")]
struct Arguments {
    /// How many times to load and kill; there are more until each kind of kill has met its moment.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: u32,
    /// Decides the moments of the kills; by default another one at every run.
    #[arg(long)]
    seed: Option<u64>,
    /// The server's executable [default: merganser-server beside this one].
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
    #[command(subcommand)]
    part: Option<Part>,
}

/// The parts that this executable plays for itself.
#[derive(Debug, Subcommand)]
enum Part {
    /// Puts units, again and again until they are acknowledged.
    #[command(hide = true)]
    Loader(loader::Assignment),
    /// Keeps what was acknowledged, and compares.
    #[command(hide = true)]
    Judge(judge::Bench),
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
        eprintln!("merganser-crash: {error}");
        ExitCode::FAILURE
    })
}

fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Runtime::new()?;
    let code = runtime.block_on(async {
        match arguments.part {
            None => director::run(arguments.rounds, arguments.seed, arguments.server).await,
            Some(Part::Loader(assignment)) => loader::run(assignment).await,
            Some(Part::Judge(bench)) => judge::run(bench).await,
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
