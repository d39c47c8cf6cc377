//! Loaders and readers from inside: one connection, one call after the other, and counters now and then.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::{Duration, Instant},
};

use arrow_array::{RecordBatch, cast::AsArray, types::Int64Type};
use clap::Args;
use futures::TryStreamExt;
use merganser::{Client, TablePath};
use merganser_bench::{events, put};

use crate::{Failure, crew::Role, process::released, tally::Tally};

/// The table that everybody works on.
pub(crate) const TABLE: &str = "events";
/// Rows a put.
pub(crate) const UNIT_ROWS: u64 = 1000;

/// What the readers ask: it goes through every row. The count comes first, for [`count`].
const AGGREGATE: &str =
    "SELECT count(*) AS events, category, avg(value) AS mean FROM events GROUP BY category";
const REPORT_EVERY: Duration = Duration::from_millis(250);
/// An answer that takes longer counts as an error, so that the demo ends whatever happens.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the director tells a worker.
#[derive(Debug, Args)]
pub(crate) struct Assignment {
    /// The server.
    url: String,
    /// How long to work.
    seconds: u64,
    /// Which of its role it is.
    number: i64,
}

/// The part `loader` or `reader`: works until the time is over, a call fails, or the director is gone.
pub(crate) async fn run(role: Role, assignment: Assignment) -> Result<ExitCode, Failure> {
    let work = async {
        match role {
            Role::Loader => load(&assignment).await,
            Role::Reader => read(&assignment).await,
        }
    };
    tokio::select! {
        done = work => done.map(|()| ExitCode::SUCCESS),
        () = released() => Ok(ExitCode::FAILURE),
    }
}

async fn load(assignment: &Assignment) -> Result<(), Failure> {
    let client = Client::connect(&assignment.url).await?;
    let table = TablePath::new(TABLE);
    let unit = events(assignment.number, UNIT_ROWS as usize)?;
    repeat(assignment, async || Ok(put(&client, &table, &unit).await?.rows)).await;
    Ok(())
}

async fn read(assignment: &Assignment) -> Result<(), Failure> {
    let client = Client::connect(&assignment.url).await?;
    let mut seen = 0;
    let aggregate = async || {
        let rows = count(&client, AGGREGATE).await?;
        plausible(seen, rows)?;
        seen = rows;
        Ok(rows)
    };
    repeat(assignment, aggregate).await;
    Ok(())
}

/// A put shows whole or not at all, and what one query has seen, the next one sees too.
fn plausible(before: u64, now: u64) -> Result<(), String> {
    if now < before {
        return Err(format!("a query saw {now} rows after another had seen {before}"));
    }
    if !now.is_multiple_of(UNIT_ROWS) {
        return Err(format!("a query saw part of a put: {now} rows"));
    }
    Ok(())
}

/// Sums the first column of a query that counts.
pub(crate) async fn count(client: &Client, sql: &str) -> Result<u64, Failure> {
    let batches: Vec<RecordBatch> = client.query(sql).await?.try_collect().await?;
    let mut sum = 0;
    for batch in batches {
        let counts = batch.column(0).as_primitive_opt::<Int64Type>().ok_or("a count is no BIGINT")?;
        sum += counts.values().iter().sum::<i64>();
    }
    Ok(u64::try_from(sum)?)
}

/// Makes one call after the other; each tells its rows. The first error ends the work and is reported; a
/// director that no longer listens ends it without a word.
async fn repeat(assignment: &Assignment, mut call: impl AsyncFnMut() -> Result<u64, Failure>) {
    let started = Instant::now();
    let time = Duration::from_secs(assignment.seconds);
    let mut tally = Tally::default();
    let mut reported = started;
    while tally.error.is_none() && started.elapsed() < time {
        let called = Instant::now();
        match tokio::time::timeout(PATIENCE, call()).await {
            Ok(Ok(rows)) => tally.record(rows, called.elapsed()),
            Ok(Err(error)) => tally.error = Some(error.to_string()),
            Err(_) => tally.error = Some(format!("no answer within {PATIENCE:?}")),
        }
        tally.seconds = started.elapsed().as_secs_f64();
        if reported.elapsed() >= REPORT_EVERY {
            if report(&tally).is_err() {
                return;
            }
            reported = Instant::now();
        }
    }
    // Nobody to tell means nobody to tell that to either.
    let _ = report(&tally);
}

/// Prints a line of counters; fails when the director no longer listens.
fn report(tally: &Tally) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    serde_json::to_writer(&mut stdout, tally)?;
    writeln!(stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_see_whole_puts_and_never_fewer() {
        assert_eq!(plausible(0, 0), Ok(()));
        assert_eq!(plausible(1000, 3000), Ok(()));
        assert!(plausible(2000, 1000).is_err());
        assert!(plausible(1000, 1500).is_err());
    }
}
