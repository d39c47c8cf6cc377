//! Native loaders against a server: each sends a unit, waits for its acknowledgement, and sends the next.

use std::time::{Duration, Instant};

use clap::Parser;
use futures::future::join_all;
use merganser::{Client, Error, TablePath};
use merganser_bench::{Latencies, events, put};

/// Puts units of rows from many loaders at once and prints one JSON line of figures.
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
    /// The table, created when missing.
    #[arg(long, default_value = "events")]
    table: String,
}

const WARM_UP: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Tally {
    puts: u64,
    errors: u64,
    latencies: Latencies,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let begin = Instant::now() + WARM_UP;
    let end = begin + Duration::from_secs_f64(arguments.seconds);
    let loaders = (0..arguments.loaders).map(|loader| load(&arguments, loader, begin, end));
    let mut total = Tally::default();
    for tally in join_all(loaders).await {
        let tally = tally?;
        total.puts += tally.puts;
        total.errors += tally.errors;
        total.latencies.merge(&tally.latencies);
    }
    let puts_per_s = total.puts as f64 / arguments.seconds;
    println!(
        "{}",
        serde_json::json!({
            "puts_per_s": puts_per_s,
            "rows_per_s": puts_per_s * arguments.rows as f64,
            "p50_ms": total.latencies.quantile_ms(0.5),
            "p99_ms": total.latencies.quantile_ms(0.99),
            "errors": total.errors,
        })
    );
    Ok(())
}

/// One loader until the end; only what begins and ends inside the measured time counts.
async fn load(arguments: &Arguments, loader: usize, begin: Instant, end: Instant) -> Result<Tally, Error> {
    let client = Client::connect(&arguments.url).await?;
    let table = TablePath::new(&arguments.table);
    let unit = events(loader as i64, arguments.rows)?;
    let mut tally = Tally::default();
    loop {
        let started = Instant::now();
        if started >= end {
            return Ok(tally);
        }
        let put = put(&client, &table, &unit).await;
        let ended = Instant::now();
        if started < begin || ended > end {
            continue;
        }
        match put {
            Ok(_) => {
                tally.puts += 1;
                tally.latencies.record(ended - started);
            }
            Err(error) => {
                eprintln!("loader {loader}: {error}");
                tally.errors += 1;
            }
        }
    }
}
