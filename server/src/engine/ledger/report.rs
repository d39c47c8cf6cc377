//! What `SELECT * FROM merganser_ingest()` shows: a row a loader.

use std::{collections::BTreeMap, sync::Arc};

use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow_select::concat::concat_batches;

use super::{Ledger, Loader, SharedLedger};

/// The columns of [`report`]. Counts of duplicates and failures, and the lag, are since the start of the server;
/// the lag is how long the last unit waited from its last byte to its commit. What is told of the last unit is NULL for a loader
/// that has committed none.
pub(crate) fn report_schema() -> SchemaRef {
    let count = |name| Field::new(name, DataType::UInt64, false);
    let of_last = |name, data_type| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        Field::new("loader", DataType::Utf8, false),
        of_last("last_key", DataType::Utf8),
        of_last("epoch", DataType::UInt64),
        of_last("sequence", DataType::UInt64),
        count("rows"),
        count("commits"),
        count("duplicates"),
        count("failures"),
        Field::new("lag_ms", DataType::Float64, false),
        of_last("last_commit", DataType::UInt64),
        of_last("last_commit_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        of_last("last_table", DataType::Utf8),
        Field::new("catalog", DataType::Utf8, false),
    ]))
}

/// A row a loader and catalog, by their names.
pub(crate) fn report(ledgers: &BTreeMap<String, SharedLedger>) -> RecordBatch {
    let ledgers: Vec<_> = ledgers.iter().map(|(catalog, ledger)| (catalog, ledger.lock())).collect();
    let parts: Vec<_> = ledgers.iter().map(|(catalog, ledger)| rows(catalog, ledger)).collect();
    concat_batches(&report_schema(), &parts).unwrap_or_else(|_| RecordBatch::new_empty(report_schema()))
}

/// A loader by its name, with its refusals. One that has committed nothing is known by these alone.
type Row<'a> = (&'a Arc<str>, Option<&'a Loader>, u64);

fn rows(catalog: &str, ledger: &Ledger) -> RecordBatch {
    let known = ledger.loaders.iter().map(|(name, loader)| (name, Some(&**loader), loader.counts.failures));
    let refused = ledger.refused.iter().map(|(name, failures)| (name, None, failures));
    let mut rows: Vec<Row<'_>> = known.chain(refused).collect();
    rows.sort_by_key(|(name, ..)| Arc::clone(name));
    let numbers = |value: fn(&Loader) -> u64| -> ArrayRef {
        Arc::new(rows.iter().map(|(_, loader, _)| loader.map(value)).collect::<UInt64Array>())
    };
    let counts = |value: fn(&Row<'_>) -> u64| -> ArrayRef {
        Arc::new(rows.iter().map(|row| Some(value(row))).collect::<UInt64Array>())
    };
    let texts = |text: &dyn Fn(&Row<'_>) -> Option<String>| -> ArrayRef {
        Arc::new(rows.iter().map(text).collect::<StringArray>())
    };
    let last_key = |(name, loader, _): &Row<'_>| {
        loader.map(|loader| format!("{name}/{}/{}", loader.epoch, loader.next() - 1))
    };
    let lag = |loader: &Loader| loader.counts.lag.as_secs_f64() * 1e3;
    let lags = rows.iter().map(|(_, loader, _)| Some(loader.map_or(0.0, lag)));
    let at = rows.iter().map(|(_, loader, _)| loader.map(|loader| loader.last.at));
    let columns: Vec<ArrayRef> = vec![
        texts(&|(name, ..)| Some(name.to_string())),
        texts(&last_key),
        numbers(|loader| loader.epoch),
        numbers(|loader| loader.next() - 1),
        counts(|(_, loader, _)| loader.map_or(0, |loader| loader.last.total.rows)),
        counts(|(_, loader, _)| loader.map_or(0, |loader| loader.last.total.units)),
        counts(|(_, loader, _)| loader.map_or(0, |loader| loader.counts.duplicates)),
        counts(|(_, _, failures)| *failures),
        Arc::new(lags.collect::<Float64Array>()),
        numbers(|loader| loader.latest.back().map_or(0, |last| last.commit)),
        Arc::new(at.collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        texts(&|(_, loader, _)| loader.map(|loader| loader.last.table.to_string())),
        texts(&|_| Some(catalog.to_owned())),
    ];
    RecordBatch::try_new(report_schema(), columns).unwrap_or_else(|_| RecordBatch::new_empty(report_schema()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ledger::{Committed, Entry, IngestKey, Total};

    #[test]
    fn a_row_a_loader() {
        let shared = SharedLedger::default();
        let mut ledger = shared.lock();
        for (loader, sequence) in [("b", 1), ("a", 0), ("a", 1)] {
            ledger.record(Entry {
                key: IngestKey { loader: loader.into(), epoch: 3, sequence },
                table: "t".into(),
                committed: Committed { hash: 0, commit: 40 + sequence, rows: 7 },
                at: 1_000_000,
                total: Total { rows: 7 * (sequence + 1), units: sequence + 1 },
            });
        }
        ledger.count_duplicate("a");
        ledger.count_failure(&"aa".into());
        drop(ledger);
        let report = report(&BTreeMap::from([("db".into(), shared)]));
        assert_eq!(report.num_rows(), 3);
        let shown =
            arrow_cast::pretty::pretty_format_batches(&[report.project(&[0, 1, 2, 3, 4, 5, 6, 7]).unwrap()])
                .unwrap()
                .to_string();
        assert!(
            shown.contains("| a      | a/3/1    | 3     | 1        | 14   | 2       | 1          | 0 "),
            "{shown}"
        );
        // One that has committed nothing stands among the others.
        let nothing = report.slice(1, 1);
        let nulls: Vec<_> = nothing.columns().iter().map(|column| column.null_count()).collect();
        assert_eq!(nulls, [0, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 0]);
        assert!(
            shown.contains("| aa     |          |       |          | 0    | 0       | 0          | 1 "),
            "{shown}"
        );
    }
}
