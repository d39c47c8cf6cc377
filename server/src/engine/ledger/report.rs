//! What `SELECT * FROM merganser_ingest()` shows: a row a loader.

use std::{collections::BTreeMap, sync::Arc};

use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow_select::concat::concat_batches;

use super::{Ledger, Loader, SharedLedger};

/// The columns of [`report`]. Counts of duplicates and failures, and the lag, are since the start of the server;
/// the lag is how long the last unit waited from its last byte to its commit.
pub(crate) fn report_schema() -> SchemaRef {
    let count = |name| Field::new(name, DataType::UInt64, false);
    Arc::new(Schema::new(vec![
        Field::new("loader", DataType::Utf8, false),
        Field::new("last_key", DataType::Utf8, false),
        count("epoch"),
        count("sequence"),
        count("rows"),
        count("commits"),
        count("duplicates"),
        count("failures"),
        Field::new("lag_ms", DataType::Float64, false),
        count("last_commit"),
        Field::new("last_commit_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        Field::new("last_table", DataType::Utf8, false),
        Field::new("catalog", DataType::Utf8, false),
    ]))
}

/// A row a loader and catalog, by their names.
pub(crate) fn report(ledgers: &BTreeMap<String, SharedLedger>) -> RecordBatch {
    let ledgers: Vec<_> = ledgers.iter().map(|(catalog, ledger)| (catalog, ledger.lock())).collect();
    let parts: Vec<_> = ledgers.iter().map(|(catalog, ledger)| rows(catalog, ledger)).collect();
    concat_batches(&report_schema(), &parts).unwrap_or_else(|_| RecordBatch::new_empty(report_schema()))
}

fn rows(catalog: &str, ledger: &Ledger) -> RecordBatch {
    let mut loaders: Vec<_> = ledger.loaders.iter().collect();
    loaders.sort_by_key(|(name, _)| Arc::clone(name));
    let counts = |value: fn(&Loader) -> u64| -> ArrayRef {
        Arc::new(loaders.iter().map(|(_, loader)| Some(value(loader))).collect::<UInt64Array>())
    };
    let texts = |text: &dyn Fn(&str, &Loader) -> String| -> ArrayRef {
        Arc::new(loaders.iter().map(|(name, loader)| Some(text(name, loader))).collect::<StringArray>())
    };
    let lag = |loader: &Loader| loader.counts.lag.as_secs_f64() * 1e3;
    let at = loaders.iter().map(|(_, loader)| Some(loader.last.at)).collect::<TimestampMicrosecondArray>();
    let columns: Vec<ArrayRef> = vec![
        texts(&|name, _| name.to_owned()),
        texts(&|name, loader| format!("{name}/{}/{}", loader.epoch, loader.next() - 1)),
        counts(|loader| loader.epoch),
        counts(|loader| loader.next() - 1),
        counts(|loader| loader.last.total.rows),
        counts(|loader| loader.last.total.units),
        counts(|loader| loader.counts.duplicates),
        counts(|loader| loader.counts.failures),
        Arc::new(loaders.iter().map(|(_, loader)| Some(lag(loader))).collect::<Float64Array>()),
        counts(|loader| loader.latest.back().map_or(0, |last| last.commit)),
        Arc::new(at.with_timezone("UTC")),
        texts(&|_, loader| loader.last.table.to_string()),
        texts(&|_, _| catalog.to_owned()),
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
        drop(ledger);
        let report = report(&BTreeMap::from([("db".into(), shared)]));
        assert_eq!(report.num_rows(), 2);
        let shown =
            arrow_cast::pretty::pretty_format_batches(&[report.project(&[0, 1, 2, 3, 4, 5, 6, 7]).unwrap()])
                .unwrap()
                .to_string();
        assert!(
            shown.contains("| a      | a/3/1    | 3     | 1        | 14   | 2       | 1          | 0 "),
            "{shown}"
        );
    }
}
