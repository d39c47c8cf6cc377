//! Native loaders against a server. Each sends a unit, waits for its acknowledgement, and sends the next; or sends
//! its units over one stream, as many on their way as the window lets.

mod puts;
mod streams;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use futures::future::join_all;
use merganser::{Error, TablePath};
use merganser_bench::Latencies;

/// Sends units of rows from many loaders at once and prints one JSON line of figures.
#[derive(Debug, Parser)]
struct Arguments {
    /// The server.
    #[arg(long, default_value = "grpc://127.0.0.1:8815")]
    url: String,
    /// Loaders, each with a connection of its own.
    #[arg(long, default_value_t = 8)]
    loaders: usize,
    /// Rows a unit.
    #[arg(long, default_value_t = 1000)]
    rows: usize,
    /// How long to measure, after one second of warming up.
    #[arg(long, default_value_t = 8.0)]
    seconds: f64,
    /// The table, created when missing; also catalog.schema.table.
    #[arg(long, default_value = "events")]
    table: TablePath,
    /// Give every unit a key.
    #[arg(long)]
    keyed: bool,
    /// Send the units of a loader over one stream, without waiting for each. They always have keys.
    #[arg(long, conflicts_with = "upsert")]
    stream: bool,
    /// Update or insert by the column batch_id, with values drawn from so many. The table has all of them before
    /// the measurement begins.
    #[arg(long, value_name = "VALUES")]
    upsert: Option<u32>,
}

const WARM_UP: Duration = Duration::from_secs(1);

/// What counts: what happens between the two moments.
#[derive(Clone, Copy, Debug)]
struct Span {
    begin: Instant,
    end: Instant,
}

/// What one loader did in the measured time.
#[derive(Debug, Default)]
struct Tally {
    puts: u64,
    errors: u64,
    latencies: Latencies,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    if let Some(values) = arguments.upsert {
        puts::fill(&arguments, values).await?;
    }
    // The ledger remembers loaders, so every run has its own.
    let run = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
    let begin = Instant::now() + WARM_UP;
    let span = Span { begin, end: begin + Duration::from_secs_f64(arguments.seconds) };
    let loaders = (0..arguments.loaders).map(|loader| {
        let (arguments, name) = (&arguments, format!("loadgen-{run}-{loader}"));
        async move {
            if arguments.stream {
                streams::load(arguments, name, loader, span).await
            } else {
                puts::load(arguments, name, loader, span).await
            }
        }
    });
    let tallies = join_all(loaders).await.into_iter().collect::<Result<Vec<_>, Error>>()?;
    println!("{}", figures(&arguments, &tallies));
    Ok(())
}

fn figures(arguments: &Arguments, tallies: &[Tally]) -> serde_json::Value {
    let mut latencies = Latencies::default();
    tallies.iter().for_each(|tally| latencies.merge(&tally.latencies));
    let puts_per_s = tallies.iter().map(|tally| tally.puts).sum::<u64>() as f64 / arguments.seconds;
    serde_json::json!({
        "puts_per_s": puts_per_s,
        "rows_per_s": puts_per_s * arguments.rows as f64,
        "p50_ms": latencies.quantile_ms(0.5),
        "p99_ms": latencies.quantile_ms(0.99),
        "max_ms": latencies.quantile_ms(1.0),
        "slowest_loader_puts": tallies.iter().map(|tally| tally.puts).min(),
        "fastest_loader_puts": tallies.iter().map(|tally| tally.puts).max(),
        "errors": tallies.iter().map(|tally| tally.errors).sum::<u64>(),
    })
}
