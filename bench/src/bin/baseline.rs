//! DuckDB in process, from one thread: units appended as Arrow chunks, several a commit. The most that the
//! server's writer could reach.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Parser;
use merganser_bench::{COLUMNS, events};
use merganser_server::engine::in_process::InProcess;

/// Appends units of rows in groups and prints one JSON line of figures.
#[derive(Debug, Parser)]
struct Arguments {
    /// The database file, which must not exist.
    #[arg(long)]
    database: PathBuf,
    /// Rows a unit.
    #[arg(long, default_value_t = 1000)]
    rows: usize,
    /// Units a commit.
    #[arg(long, default_value_t = 8)]
    units_per_commit: usize,
    /// How long to measure, after one second of warming up.
    #[arg(long, default_value_t = 8.0)]
    seconds: f64,
}

const WARM_UP: Duration = Duration::from_secs(1);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let group: Vec<_> = (0..arguments.units_per_commit)
        .map(|unit| events(unit as i64, arguments.rows))
        .collect::<Result<_, _>>()?;
    let database = InProcess::open(&arguments.database, "events", COLUMNS, &group[0])?;
    let begin = Instant::now() + WARM_UP;
    let end = begin + Duration::from_secs_f64(arguments.seconds);
    let mut units = 0;
    while Instant::now() < end {
        let counts = Instant::now() >= begin;
        database.commit(&group)?;
        if counts && Instant::now() <= end {
            units += arguments.units_per_commit;
        }
    }
    println!("{}", serde_json::json!({ "units_per_s": units as f64 / arguments.seconds }));
    Ok(())
}
