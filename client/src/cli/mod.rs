//! The command line: arguments, exit codes, Ctrl-C. Each subcommand has a file of its own.

mod human;
mod infer;
mod load;
mod output;
mod pretty;
mod progress;
mod query;
mod source;
mod tables;
mod terminal;

use std::{io::ErrorKind, process::ExitCode};

use clap::{Parser, Subcommand};
use merganser::{Client, ClientOptions, Credentials, Error};

/// The command line is wrong: sysexits' EX_USAGE, which no other failure shares.
const EXIT_USAGE: u8 = 64;
/// Ended by Ctrl-C: 128 and the number of SIGINT, as shells report it.
const EXIT_INTERRUPTED: u8 = 130;

/// Query and load a Merganser server.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    connection: Connection,

    #[command(subcommand)]
    command: Command,
}

/// Where the server is, and who asks.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Connection")]
struct Connection {
    /// Address of the server: grpc://HOST:PORT
    #[arg(long, global = true, env = "MERGANSER_URL", default_value = "grpc://127.0.0.1:8815")]
    url: String,

    /// User to log in as
    #[arg(long, global = true, env = "MERGANSER_USER", value_name = "NAME")]
    user: Option<String>,

    /// Password of the user; better set in the environment, where other users cannot read it
    #[arg(long, global = true, env = "MERGANSER_PASSWORD", hide_env_values = true)]
    password: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one SQL statement and print its rows
    Query(query::QueryArgs),
    /// Load files into a table, each file whole or not at all
    Load(load::LoadArgs),
    /// List the tables and views of the server
    Tables,
}

/// Runs the command line of this process.
pub(crate) fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return answer_usage(&error),
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let code = runtime.block_on(async {
        tokio::select! {
            result = execute(cli) => result.unwrap_or_else(|error| fail(&error)),
            // Leaving drops the open calls and the connection: the server cancels what it was doing.
            Ok(()) = tokio::signal::ctrl_c() => ExitCode::from(EXIT_INTERRUPTED),
        }
    });
    // A read from a terminal or a write to a stalled pipe may never return: do not wait for it.
    runtime.shutdown_background();
    code
}

async fn execute(cli: Cli) -> Result<ExitCode, Error> {
    let connection = cli.connection;
    match cli.command {
        Command::Query(args) => query::run(args, connection).await,
        Command::Load(args) => load::run(args, connection).await,
        Command::Tables => tables::run(connection).await,
    }
}

impl Connection {
    async fn open(self) -> Result<Client, Error> {
        let credentials = match (self.user, self.password) {
            (Some(user), Some(password)) => Some(Credentials { user, password }),
            (Some(_), None) => {
                return Err(Error::Usage("--user needs a password: set MERGANSER_PASSWORD".into()));
            }
            // A password in the environment alone does not mean that this server wants one.
            (None, _) => None,
        };
        let options = ClientOptions { credentials, ..ClientOptions::default() };
        Client::connect_with(&self.url, &options).await
    }
}

/// Prints help, version or what is wrong with the arguments.
fn answer_usage(error: &clap::Error) -> ExitCode {
    // When even this cannot be printed, the exit code has to do.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS }
}

/// Prints an error and tells the exit code that goes with it.
fn fail(error: &Error) -> ExitCode {
    match error {
        // The reader of our output has seen enough, as `head` has after its lines; that is its right.
        Error::Io(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Error::Usage(_) => {
            terminal::print_error(error);
            ExitCode::from(EXIT_USAGE)
        }
        _ => {
            terminal::print_error(error);
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
