//! All units of a loader over one stream.

use std::time::Instant;

use merganser::{Client, Error, Loader, LoaderOptions, RetryPolicy};
use merganser_bench::events;

use crate::{Arguments, Span, Tally};

/// One loader until the end. What counts is what is acknowledged inside the measured time; latencies are not
/// taken, since a unit waits for those before it.
pub(crate) async fn load(
    arguments: &Arguments,
    name: String,
    loader: usize,
    span: Span,
) -> Result<Tally, Error> {
    let client = Client::connect(&arguments.url).await?;
    let table = arguments.table.clone();
    let unit = events(loader as i64, arguments.rows).map_err(|error| Error::Usage(error.to_string()))?;
    // A stream that breaks would spoil the figure, so it ends the run.
    let options = LoaderOptions { retry: RetryPolicy::NEVER, ..LoaderOptions::new(name) };
    let mut stream = Loader::open(&client, &table, options).await?;
    let mut before = None;
    while Instant::now() < span.end {
        stream.send(vec![unit.clone()]).await?;
        if before.is_none() && Instant::now() >= span.begin {
            before = Some(stream.acknowledged().units);
        }
    }
    let acknowledged = stream.acknowledged().units;
    stream.finish().await?;
    let puts = acknowledged - before.unwrap_or(acknowledged);
    Ok(Tally { puts, ..Tally::default() })
}
