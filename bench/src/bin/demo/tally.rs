//! Counters: of one process, as it prints them and the director reads them, and of all processes of a role.

use std::time::Duration;

use merganser_bench::Latencies;
use serde::{Deserialize, Serialize};

/// What one process has done so far. One JSON line on its stdout.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Seconds since it began.
    pub(crate) seconds: f64,
    /// Puts acknowledged or queries answered.
    pub(crate) calls: u64,
    /// Rows acknowledged, or rows that the queries went through.
    pub(crate) rows: u64,
    /// How long the calls took.
    pub(crate) latencies: Latencies,
    /// The error that ended its work.
    pub(crate) error: Option<String>,
}

impl Tally {
    /// Notes a call that succeeded.
    pub(crate) fn record(&mut self, rows: u64, latency: Duration) {
        self.calls += 1;
        self.rows += rows;
        self.latencies.record(latency);
    }

    /// Calls a second.
    pub(crate) fn calls_per_s(&self) -> f64 {
        self.per_s(self.calls)
    }

    /// Rows a second.
    pub(crate) fn rows_per_s(&self) -> f64 {
        self.per_s(self.rows)
    }

    fn per_s(&self, count: u64) -> f64 {
        if self.seconds > 0.0 { count as f64 / self.seconds } else { 0.0 }
    }
}

/// What several processes have done together.
#[derive(Debug, Default)]
pub(crate) struct Total {
    pub(crate) processes: usize,
    pub(crate) calls: u64,
    pub(crate) rows: u64,
    pub(crate) calls_per_s: f64,
    pub(crate) rows_per_s: f64,
    pub(crate) latencies: Latencies,
    pub(crate) errors: usize,
}

impl<'a> FromIterator<&'a Tally> for Total {
    fn from_iter<I: IntoIterator<Item = &'a Tally>>(tallies: I) -> Self {
        let mut total = Self::default();
        for tally in tallies {
            total.processes += 1;
            total.calls += tally.calls;
            total.rows += tally.rows;
            // Each process has a clock of its own, so the rates add up, not the times.
            total.calls_per_s += tally.calls_per_s();
            total.rows_per_s += tally.rows_per_s();
            total.latencies.merge(&tally.latencies);
            total.errors += usize::from(tally.error.is_some());
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(seconds: f64, calls: u64, error: Option<&str>) -> Tally {
        let mut tally = Tally { seconds, error: error.map(str::to_owned), ..Tally::default() };
        for _ in 0..calls {
            tally.record(1000, Duration::from_millis(2));
        }
        tally
    }

    #[test]
    fn a_total_adds_counts_and_rates() {
        let tallies = [tally(2.0, 10, None), tally(1.0, 4, Some("lost")), Tally::default()];
        let total: Total = tallies.iter().collect();
        assert_eq!((total.processes, total.calls, total.rows, total.errors), (3, 14, 14_000, 1));
        assert_eq!((total.calls_per_s, total.rows_per_s), (9.0, 9_000.0));
        assert_eq!(total.latencies.quantile_ms(0.99).round(), 2.0);
    }
}
