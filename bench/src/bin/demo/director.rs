//! The course of the demo.

use std::process::ExitCode;

use merganser::Client;
use merganser_bench::COLUMNS;

use crate::{
    Failure,
    crew::{Crew, Role, Worker},
    display::{self, Progress, number},
    server::Server,
    worker::{TABLE, UNIT_ROWS, count},
};

/// Ended by Ctrl-C: 128 and the number of SIGINT, as shells report it.
const EXIT_INTERRUPTED: u8 = 130;

const NEXT: &str = r#"
Next:
  make serve                                       a server on merganser.duckdb
  target/release/merganser query "SELECT 1 + 1"    ask it, in another terminal
  README.md, "Ten lines from Python"               load and query from a script"#;

/// The part without a subcommand: starts everybody, watches, checks, and stops everybody.
pub(crate) async fn run(seconds: u64) -> Result<ExitCode, Failure> {
    let server = Server::start().await?;
    let outcome = tokio::select! {
        outcome = perform(server.url(), seconds) => Some(outcome),
        signal = tokio::signal::ctrl_c() => signal.map(|()| None)?,
    };
    // The server goes down cleanly whatever happened.
    let stopped = server.stop().await;
    let Some(outcome) = outcome else {
        eprintln!("merganser-demo: interrupted");
        return stopped.map(|()| ExitCode::from(EXIT_INTERRUPTED));
    };
    all_well([outcome, stopped])?;
    println!("the server stopped on SIGTERM with exit code 0\n{NEXT}");
    Ok(ExitCode::SUCCESS)
}

/// Everything that went wrong, a line each.
fn all_well(results: impl IntoIterator<Item = Result<(), Failure>>) -> Result<(), Failure> {
    let failures: Vec<_> =
        results.into_iter().filter_map(Result::err).map(|error| error.to_string()).collect();
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").into()) }
}

/// Everything between the start and the end of the server.
async fn perform(url: &str, seconds: u64) -> Result<(), Failure> {
    let client = Client::connect(url).await?;
    client.execute(&format!("CREATE TABLE {TABLE} ({COLUMNS})")).await?;
    let mut crew = Crew::start(url, seconds)?;
    println!("{}\n", headline(&crew, url, seconds));
    let mut progress = Progress::start(&crew, seconds);
    crew.follow(|crew| progress.show(crew)).await?;
    drop(progress);
    println!("\n{}\n", display::table(&crew));
    all_well(crew.workers().iter().map(outcome))?;
    compare(crew.total(Role::Loader).rows, count(&client, &format!("SELECT count(*) FROM {TABLE}")).await?)
}

fn headline(crew: &Crew, url: &str, seconds: u64) -> String {
    format!(
        "{} loader processes put {} rows at a time into a fresh DuckDB file,\n\
         {} reader processes query it, for {seconds} seconds; server: {url}",
        crew.total(Role::Loader).processes,
        number(UNIT_ROWS),
        crew.total(Role::Reader).processes,
    )
}

/// Whether a worker ended because of an error.
fn outcome(worker: &Worker) -> Result<(), Failure> {
    worker.tally.error.as_ref().map_or(Ok(()), |error| Err(format!("{}: {error}", worker.name()).into()))
}

/// The check that matters: what was acknowledged is there, and nothing else.
fn compare(acknowledged: u64, counted: u64) -> Result<(), Failure> {
    let told = format!("acknowledged {} rows, counted {}", number(acknowledged), number(counted));
    if acknowledged != counted {
        return Err(told.into());
    }
    println!("{told}");
    Ok(())
}
