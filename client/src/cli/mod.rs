//! The command line: arguments, exit codes, Ctrl-C. Each subcommand has a file of its own.

mod activity;
mod backup;
mod beside;
mod execute;
mod human;
mod jobs;
mod left_open;
mod load;
mod output;
mod pretty;
mod progress;
mod query;
mod source;
mod sql;
mod tables;
mod target;
mod terminal;
mod text;

use std::{
    future::pending,
    io::{self, ErrorKind, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use merganser::{Client, ClientOptions, Credentials, Error, RetryPolicy, TlsOptions, wrong_port};
use tokio::signal::unix::{SignalKind, signal};

/// The command line is wrong: sysexits' EX_USAGE, which no other failure shares.
const EXIT_USAGE: u8 = 64;
/// Ended by Ctrl-C: 128 and the number of SIGINT, as shells report it.
const EXIT_INTERRUPTED: u8 = 130;
/// Ended by SIGTERM, likewise.
const EXIT_TERMINATED: u8 = 143;

/// What the help ends with.
const EXAMPLES: &str = "\
Examples:
  merganser query 'SELECT 42'
  merganser load --table readings 2026.csv
  merganser query 'FROM readings' --output readings.parquet
  merganser load --help

The exit code is 0, 64 where the command line is wrong, 130 and 143 after Ctrl-C and SIGTERM, and else 1.";

/// Query and load a Merganser server.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, arg_required_else_help = true, after_help = EXAMPLES)]
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
    /// Address of the server: grpc://HOST:PORT, or grpc+tls://HOST:PORT
    #[arg(long, global = true, env = "MERGANSER_URL", default_value = "grpc://127.0.0.1:8815")]
    url: String,

    /// User to log in as; the password is asked for on the terminal if it is not given
    #[arg(long, global = true, env = "MERGANSER_USER", value_name = "NAME")]
    user: Option<String>,

    /// Password of the user; better set in the environment, where other users cannot read it
    #[arg(long, global = true, env = "MERGANSER_PASSWORD", hide_env_values = true)]
    password: Option<String>,

    /// Token to use; goes before --user. Better set in the environment
    #[arg(long, global = true, env = "MERGANSER_TOKEN", hide_env_values = true)]
    token: Option<String>,

    /// Authorities to trust for grpc+tls://, in PEM; without it those of the system
    #[arg(long, global = true, env = "MERGANSER_TLS_CA", value_name = "FILE")]
    tls_ca: Option<PathBuf>,

    /// Certificate to show to a server that asks for one, in PEM
    #[arg(long, global = true, env = "MERGANSER_CLIENT_CERT", value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,

    /// Private key of that certificate, in PEM
    #[arg(long, global = true, env = "MERGANSER_CLIENT_KEY", value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one SQL statement and print its rows
    #[command(after_help = query::EXAMPLES)]
    Query(query::QueryArgs),
    /// Run a script of SQL statements as one transaction: all of it, or nothing. Rows are not shown
    #[command(after_help = execute::EXAMPLES)]
    Execute(execute::ExecuteArgs),
    /// Load files into a table: each file whole or not at all, or with --loader as numbered units
    #[command(after_help = load::EXAMPLES)]
    Load(load::LoadArgs),
    /// List the tables and views of the server
    Tables,
    /// Write a copy of the database to a new file on the server's machine, while it is in use
    Backup(backup::BackupArgs),
    /// Tidy up a DuckLake now: merge small files, remove old snapshots and files
    Maintain(jobs::MaintainArgs),
    /// Run a pipeline of the server's configuration now
    Promote(jobs::PromoteArgs),
    /// List the statements that run or wait just now, of all clients
    Statements,
    /// List the sessions of all clients: their transactions, and who has the turn to write
    Sessions,
    /// End a statement of any client
    Cancel(activity::CancelArgs),
    /// End the statements of a session, roll its transactions back, and drop its temporary tables
    CloseSession(activity::CloseSessionArgs),
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
            () = terminated() => ExitCode::from(EXIT_TERMINATED),
        }
    });
    // A read from a terminal or a write to a stalled pipe may never return: do not wait for it.
    runtime.shutdown_background();
    code
}

/// Waits for SIGTERM, as a time limit or the end of a container sends it.
async fn terminated() {
    match signal(SignalKind::terminate()) {
        Ok(mut signals) => {
            signals.recv().await;
        }
        Err(_) => pending().await,
    }
}

async fn execute(cli: Cli) -> Result<ExitCode, Error> {
    let connection = cli.connection;
    let url = connection.url.clone();
    let result = match cli.command {
        Command::Query(args) => query::run(args, connection).await,
        Command::Execute(args) => execute::run(args, connection).await,
        Command::Load(args) => load::run(args, connection).await,
        Command::Tables => tables::run(connection).await,
        Command::Backup(args) => backup::run(args, connection).await,
        Command::Maintain(args) => jobs::maintain(args, connection).await,
        Command::Promote(args) => jobs::promote(args, connection).await,
        Command::Statements => activity::statements(connection).await,
        Command::Sessions => activity::sessions(connection).await,
        Command::Cancel(args) => activity::cancel(args, connection).await,
        Command::CloseSession(args) => activity::close_session(args, connection).await,
    };
    match result {
        // It may never have been a connection to a server like ours.
        Err(error @ Error::Disconnected(_)) => Err(wrong_port(&url).await.unwrap_or(error)),
        result => result,
    }
}

impl Connection {
    async fn open(self) -> Result<Client, Error> {
        Client::connect_with(&self.url, &self.options()?).await
    }

    /// The same, again while nobody answers. Where others answer, it is no use to go on.
    async fn open_trying(self, retry: RetryPolicy) -> Result<Client, Error> {
        let mut is_told = false;
        let waiting = |error: &Error| {
            if !std::mem::replace(&mut is_told, true) {
                terminal::print_trouble(error);
            }
        };
        let client = retry.connect(&self.url, &self.options()?, waiting).await?;
        wrong_port(&self.url).await.map_or(Ok(client), Err)
    }

    fn options(&self) -> Result<ClientOptions, Error> {
        let tls = TlsOptions {
            ca: self.tls_ca.as_deref().map(|file| read("--tls-ca", file)).transpose()?,
            identity: match (&self.client_cert, &self.client_key) {
                (Some(certificate), Some(key)) => {
                    Some((read("--client-cert", certificate)?, read("--client-key", key)?))
                }
                _ => None,
            },
        };
        Ok(ClientOptions { credentials: self.credentials()?, tls, ..ClientOptions::default() })
    }

    fn credentials(&self) -> Result<Option<Credentials>, Error> {
        if let Some(token) = &self.token {
            return Ok(Some(Credentials::Token(token.clone())));
        }
        // A password in the environment alone does not mean that this server wants one.
        let Some(user) = self.user.clone() else { return Ok(None) };
        let password = match &self.password {
            Some(password) => password.clone(),
            None if io::stdin().is_terminal() => rpassword::prompt_password(format!("Password of {user}: "))?,
            None => {
                return Err(Error::Usage("--user needs a password: set MERGANSER_PASSWORD".into()));
            }
        };
        Ok(Some(Credentials::Password { user, password }))
    }
}

fn read(option: &str, file: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(file).map_err(|error| Error::Usage(format!("{option} {}: {error}", file.display())))
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
