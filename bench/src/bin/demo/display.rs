//! What a person sees: a line a process while they work, and the table at the end.

use std::{
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};

use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressStyle};

use crate::{
    crew::{Crew, Role, Worker},
    tally::Total,
};

/// How often a line is printed where nothing can move.
const LINE_EVERY: Duration = Duration::from_secs(3);

/// Shows how far the crew is: moving lines on a terminal, otherwise a line every three seconds.
pub(crate) enum Progress {
    /// A line for each worker, in their order.
    Bars(Vec<ProgressBar>),
    /// When the last line was printed.
    Lines { begun: Instant, printed: Instant },
}

impl Progress {
    /// Begins to show a crew that works for so many seconds.
    pub(crate) fn start(crew: &Crew, seconds: u64) -> Self {
        if !stderr().is_terminal() {
            let now = Instant::now();
            return Self::Lines { begun: now, printed: now };
        }
        let bars = MultiProgress::new();
        let bar = |worker: &Worker| {
            let bar = ProgressBar::new(seconds * 1000).with_style(style()).with_prefix(worker.name());
            bars.add(bar)
        };
        Self::Bars(crew.workers().iter().map(bar).collect())
    }

    /// Shows what the crew last told.
    pub(crate) fn show(&mut self, crew: &Crew) {
        match self {
            Self::Bars(bars) => {
                for (bar, worker) in bars.iter().zip(crew.workers()) {
                    bar.set_message(worker_line(worker));
                    bar.set_position((worker.tally.seconds * 1000.0) as u64);
                }
            }
            Self::Lines { begun, printed } => {
                if printed.elapsed() >= LINE_EVERY {
                    *printed = Instant::now();
                    println!("{}", crew_line(crew, begun.elapsed()));
                }
            }
        }
    }
}

impl Drop for Progress {
    /// Leaves the moving lines on the screen as they are.
    fn drop(&mut self) {
        if let Self::Bars(bars) = self {
            bars.iter().for_each(ProgressBar::abandon);
            // They leave the cursor at the end of the last one.
            eprintln!();
        }
    }
}

/// The template is a constant; a broken one would fall back to the default.
fn style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix:9} [{bar:20}] {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

fn worker_line(worker: &Worker) -> String {
    let tally = &worker.tally;
    let (count, per_s, noun) = match worker.role {
        Role::Loader => (tally.rows, tally.rows_per_s(), "rows"),
        Role::Reader => (tally.calls, tally.calls_per_s(), "queries"),
    };
    let failed = tally.error.as_ref().map_or_else(String::new, |error| format!("  failed: {error}"));
    let (count, rate) = (number(count), whole(per_s));
    let p50 = tally.latencies.quantile_ms(0.5);
    format!("{count:>11} {noun:<7} {rate:>9}/s  p50 {p50:>6.1} ms{failed}")
}

fn crew_line(crew: &Crew, elapsed: Duration) -> String {
    let (loaders, readers) = (crew.total(Role::Loader), crew.total(Role::Reader));
    format!(
        "{:>3} s  {} loaders: {} rows, {}/s, p50 {:.1} ms   {} readers: {} queries, {}/s, p50 {:.1} ms",
        elapsed.as_secs(),
        loaders.processes,
        number(loaders.rows),
        whole(loaders.rows_per_s),
        loaders.latencies.quantile_ms(0.5),
        readers.processes,
        number(readers.calls),
        whole(readers.calls_per_s),
        readers.latencies.quantile_ms(0.5),
    )
}

/// The table at the end: a line a role.
pub(crate) fn table(crew: &Crew) -> String {
    let (loaders, readers) = (crew.total(Role::Loader), crew.total(Role::Reader));
    let head = row("", "in all", "a second", "p50", "p99", "errors");
    let loaders = role_row("loaders", &loaders, (loaders.rows, "rows"), "puts");
    let readers = role_row("readers", &readers, (readers.calls, "queries"), "queries");
    format!("{head}\n{loaders}\n{readers}")
}

fn role_row(name: &str, total: &Total, (count, noun): (u64, &str), calls: &str) -> String {
    row(
        &format!("{} {name}", total.processes),
        &format!("{} {noun}", number(count)),
        &format!("{} {calls}", whole(total.calls_per_s)),
        &format!("{:.1} ms", total.latencies.quantile_ms(0.5)),
        &format!("{:.1} ms", total.latencies.quantile_ms(0.99)),
        &total.errors.to_string(),
    )
}

fn row(name: &str, count: &str, rate: &str, p50: &str, p99: &str, errors: &str) -> String {
    format!("{name:<9} {count:>18} {rate:>15} {p50:>10} {p99:>10} {errors:>7}")
}

/// A number with separators: `3,214,000`. As text, because padding does not reach into a `HumanCount`.
pub(crate) fn number(number: u64) -> String {
    HumanCount(number).to_string()
}

fn whole(rate: f64) -> String {
    number(rate.round() as u64)
}
