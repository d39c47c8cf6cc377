//! A request a unit.

use std::time::Instant;

use arrow_array::RecordBatch;
use futures::stream;
use merganser::{Client, Error, IngestAck, IngestKey, IngestMode, IngestOptions, Merge, TablePath};
use merganser_bench::{events, events_of};

use crate::{Arguments, Span, Tally};

/// One loader until the end; only what begins and ends inside the measured time counts.
pub(crate) async fn load(
    arguments: &Arguments,
    name: String,
    loader: usize,
    span: Span,
) -> Result<Tally, Error> {
    let client = Client::connect(&arguments.url).await?;
    let table = arguments.table.clone();
    let mut units = units(arguments, loader)?.into_iter().cycle();
    let mut options = IngestOptions::default();
    if arguments.upsert.is_some() {
        options.merge = Some(Merge { keys: vec!["batch_id".into()], ..Merge::default() });
    }
    let mut tally = Tally::default();
    let mut sequence = 1;
    while let Some(unit) = units.next().filter(|_| Instant::now() < span.end) {
        options.key = arguments.keyed.then(|| IngestKey::new(&name, 1, sequence));
        let started = Instant::now();
        let put = put(&client, &table, &options, unit).await;
        let ended = Instant::now();
        sequence += u64::from(put.is_ok());
        if started < span.begin {
            continue;
        }
        match put {
            Ok(_) => {
                // One that comes late has taken its time, and is none of those of the span.
                tally.puts += u64::from(ended <= span.end);
                tally.latencies.record(ended - started);
            }
            Err(error) => {
                eprintln!("loader {loader}: {error}");
                tally.errors += 1;
            }
        }
    }
    Ok(tally)
}

/// Makes the table that upserts go to, with a row for each value.
pub(crate) async fn fill(arguments: &Arguments, values: u32) -> Result<(), Error> {
    let client = Client::connect(&arguments.url).await?;
    let all = events_of((0..values).map(i64::from)).map_err(usage)?;
    let options = IngestOptions { mode: IngestMode::Replace, ..IngestOptions::default() };
    put(&client, &arguments.table, &options, all).await?;
    Ok(())
}

/// What a loader sends in turn: one unit of its own number, or units of drawn values that differ.
fn units(arguments: &Arguments, loader: usize) -> Result<Vec<RecordBatch>, Error> {
    const DIFFERENT: usize = 16;
    let Some(values) = arguments.upsert else {
        return Ok(vec![events(loader as i64, arguments.rows).map_err(usage)?]);
    };
    let drawn = |unit: usize| {
        let from = (loader * DIFFERENT + unit) * arguments.rows;
        // A multiplication by an odd number spreads numbers that follow each other.
        let mixed = move |row: usize| (row as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let draw = move |row: usize| ((mixed(row) * u64::from(values)) >> 32) as i64;
        events_of((from..from + arguments.rows).map(draw)).map_err(usage)
    };
    (0..DIFFERENT).map(drawn).collect()
}

async fn put(
    client: &Client,
    table: &TablePath,
    options: &IngestOptions,
    unit: RecordBatch,
) -> Result<IngestAck, Error> {
    let schema = unit.schema();
    client.ingest_with(table, options, schema, stream::iter([Ok::<_, Error>(unit)])).await
}

fn usage(error: arrow_schema::ArrowError) -> Error {
    Error::Usage(error.to_string())
}
