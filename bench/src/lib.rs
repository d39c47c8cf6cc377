//! What the load generator, the in-process baseline and the demo share: the event table of every workload,
//! how a unit of it is put, and how latencies are summed up.

use std::{sync::Arc, time::Duration};

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use futures::stream;
use hdrhistogram::Histogram;
use merganser::{Client, Error, IngestAck, IngestMode, TablePath};
use serde::{Deserialize, Serialize};

/// The event table's columns, as SQL.
pub const COLUMNS: &str = "batch_id BIGINT, timestamp VARCHAR, value DOUBLE, category VARCHAR";

const CATEGORIES: [&str; 5] = ["click", "error", "purchase", "search", "view"];

/// The event table's columns, as Arrow.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("batch_id", DataType::Int64, true),
        Field::new("timestamp", DataType::Utf8, true),
        Field::new("value", DataType::Float64, true),
        Field::new("category", DataType::Utf8, true),
    ]))
}

/// One unit of events: a millisecond and a pseudo-random value a row.
///
/// # Errors
/// Never for a row count that fits memory.
pub fn events(batch_id: i64, rows: usize) -> Result<RecordBatch, ArrowError> {
    events_of(std::iter::repeat_n(batch_id, rows))
}

/// Events with a number each: a millisecond and a pseudo-random value a row.
///
/// # Errors
/// Never for a row count that fits memory.
pub fn events_of(batch_ids: impl IntoIterator<Item = i64>) -> Result<RecordBatch, ArrowError> {
    let ids: Vec<i64> = batch_ids.into_iter().collect();
    let rows = || ids.iter().enumerate();
    let stamp = |(row, id): (usize, &i64)| {
        let (seconds, millis) = (row / 1000 % 60, row % 1000);
        format!("2026-01-01T00:{:02}:{seconds:02}.{millis:03}", id.rem_euclid(60))
    };
    let mixed = |(row, id): (usize, &i64)| (row as u64 + *id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let value = |row| mixed(row) as f64 / u64::MAX as f64 * 1000.0;
    let category = |row| CATEGORIES[(mixed(row) >> 32) as usize % CATEGORIES.len()];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(ids.clone())),
        Arc::new(StringArray::from_iter_values(rows().map(stamp))),
        Arc::new(Float64Array::from_iter_values(rows().map(value))),
        Arc::new(StringArray::from_iter_values(rows().map(category))),
    ];
    RecordBatch::try_new(schema(), columns)
}

/// Puts one unit into a table, which is created when missing, and waits for the acknowledgement.
///
/// # Errors
/// Those of [`Client::ingest`].
pub async fn put(client: &Client, table: &TablePath, unit: &RecordBatch) -> Result<IngestAck, Error> {
    let batches = stream::iter([Ok::<_, Error>(unit.clone())]);
    client.ingest(table, IngestMode::CreateOrAppend, unit.schema(), batches).await
}

/// Latencies in microseconds, up to a minute, to three digits. Serialised as pairs of a latency and how
/// often it occurred.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    #[allow(clippy::expect_used, reason = "the bounds are constants that the library accepts")]
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, 60_000_000, 3).expect("valid bounds"))
    }
}

impl Latencies {
    /// Adds one.
    pub fn record(&mut self, latency: Duration) {
        self.0.saturating_record(latency.as_micros() as u64);
    }

    /// Adds all of another's.
    pub fn merge(&mut self, other: &Self) {
        // Both have the same bounds, so adding cannot fail.
        let _ = self.0.add(&other.0);
    }

    /// A quantile in milliseconds.
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1000.0
    }
}

impl From<Latencies> for Vec<(u64, u64)> {
    fn from(latencies: Latencies) -> Self {
        let recorded = latencies.0.iter_recorded();
        recorded.map(|value| (value.value_iterated_to(), value.count_at_value())).collect()
    }
}

impl From<Vec<(u64, u64)>> for Latencies {
    fn from(pairs: Vec<(u64, u64)>) -> Self {
        let mut latencies = Self::default();
        for (micros, count) in pairs {
            latencies.0.saturating_record_n(micros, count);
        }
        latencies
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_survive_being_sent() {
        let mut latencies = Latencies::default();
        for millis in [1, 2, 2, 3, 4_000] {
            latencies.record(Duration::from_millis(millis));
        }
        let sent = serde_json::to_string(&latencies).unwrap();
        let received: Latencies = serde_json::from_str(&sent).unwrap();
        for quantile in [0.0, 0.5, 0.99, 1.0] {
            assert_eq!(received.quantile_ms(quantile), latencies.quantile_ms(quantile));
        }
    }
}
