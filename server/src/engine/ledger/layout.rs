//! A unit as a row of the ledger's table.
//!
//! What DuckDB looks for has columns of its own. The rest is one text, JSON, because each column of a table costs every
//! commit some hundredths of a millisecond, however few its rows are.

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
};

use arrow_array::{
    ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array,
    cast::AsArray,
    types::{TimestampMicrosecondType, UInt64Type},
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};

use super::{Committed, Entry, IngestKey, Total};
use crate::engine::{Error, Result};

/// The table's columns, as SQL.
pub(super) const COLUMNS: [(&str, &str); 5] = [
    ("loader", "VARCHAR"),
    ("sequence", "UBIGINT"),
    ("commit_id", "UBIGINT"),
    ("committed_at", "TIMESTAMP WITH TIME ZONE"),
    ("unit", "VARCHAR"),
];

/// A row that is no loader's, because each has a name.
pub(super) const NOBODYS: &str = concat!(
    r#"('', 0, 0, system.main.now(), '{"epoch":0,"table":"","rows":0,"hash":"00000000000000000000000000000000","#,
    r#""total_rows":0,"total_units":0}')"#
);

/// What is in the last column.
#[derive(Serialize, Deserialize)]
struct Unit<'a> {
    epoch: u64,
    #[serde(borrow)]
    table: Cow<'a, str>,
    rows: u64,
    /// 32 hexadecimal digits.
    #[serde(borrow)]
    hash: Cow<'a, str>,
    total_rows: u64,
    total_units: u64,
}

impl Unit<'_> {
    fn of(entry: &Entry) -> Unit<'_> {
        Unit {
            epoch: entry.key.epoch,
            table: Cow::Borrowed(&entry.table),
            rows: entry.committed.rows,
            hash: Cow::Owned(format!("{:032x}", entry.committed.hash)),
            total_rows: entry.total.rows,
            total_units: entry.total.units,
        }
    }
}

fn schema() -> SchemaRef {
    static SCHEMA: OnceLock<SchemaRef> = OnceLock::new();
    let field = |(name, sql): (&str, &str)| {
        let data_type = match sql {
            "VARCHAR" => DataType::Utf8,
            "UBIGINT" => DataType::UInt64,
            _ => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        };
        Field::new(name, data_type, true)
    };
    Arc::clone(SCHEMA.get_or_init(|| Arc::new(Schema::new(COLUMNS.map(field).to_vec()))))
}

/// Entries as rows of the table.
pub(super) fn rows(entries: &[Entry]) -> RecordBatch {
    let numbers = |value: fn(&Entry) -> u64| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(entries.iter().map(value)))
    };
    let loaders = StringArray::from_iter_values(entries.iter().map(|entry| &entry.key.loader));
    let at = TimestampMicrosecondArray::from_iter_values(entries.iter().map(|entry| entry.at));
    // Numbers and texts are all that it is made of, so that nothing can fail.
    let units = entries.iter().map(|entry| serde_json::to_string(&Unit::of(entry)).unwrap_or_default());
    let columns: Vec<ArrayRef> = vec![
        Arc::new(loaders),
        numbers(|entry| entry.key.sequence),
        numbers(|entry| entry.committed.commit),
        Arc::new(at.with_timezone("UTC")),
        Arc::new(StringArray::from_iter_values(units)),
    ];
    // The schema is made of the same list of columns.
    RecordBatch::try_new(schema(), columns).unwrap_or_else(|_| RecordBatch::new_empty(schema()))
}

/// The rows of the table as entries. Loaders and tables repeat, so their names are shared where they follow each
/// other.
///
/// # Errors
/// [`Error::Internal`] when a row is not one that this server has written.
pub(super) fn entries(batch: &RecordBatch) -> impl Iterator<Item = Result<Entry>> + use<'_> {
    let text = |column: usize| batch.column(column).as_string::<i32>();
    let (loaders, units) = (text(0), text(4));
    let number = |column: usize, row: usize| batch.column(column).as_primitive::<UInt64Type>().value(row);
    let at = batch.column(3).as_primitive::<TimestampMicrosecondType>();
    let mut before: (Arc<str>, Arc<str>) = ("".into(), "".into());
    (0..batch.num_rows()).map(move |row| {
        let (unit, hash) = read(units.value(row))?;
        if *before.0 != *loaders.value(row) {
            before.0 = loaders.value(row).into();
        }
        if *before.1 != *unit.table {
            before.1 = unit.table.as_ref().into();
        }
        Ok(Entry {
            key: IngestKey { loader: Arc::clone(&before.0), epoch: unit.epoch, sequence: number(1, row) },
            table: Arc::clone(&before.1),
            committed: Committed { hash, commit: number(2, row), rows: unit.rows },
            at: at.value(row),
            total: Total { rows: unit.total_rows, units: unit.total_units },
        })
    })
}

/// A unit and its hash.
fn read(text: &str) -> Result<(Unit<'_>, u128)> {
    let strange = |error: &dyn std::fmt::Display| {
        Error::Internal(format!("the ledger has a row that this server cannot read: {error}"))
    };
    let unit: Unit<'_> = serde_json::from_str(text).map_err(|error| strange(&error))?;
    let hash = u128::from_str_radix(&unit.hash, 16).map_err(|error| strange(&error))?;
    Ok((unit, hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(hash: u128, table: &str) -> Entry {
        Entry {
            key: IngestKey { loader: "a \"b\"".into(), epoch: u64::MAX, sequence: 7 },
            table: table.into(),
            committed: Committed { hash, commit: 9, rows: u64::MAX },
            at: 1_700_000_000_000_000,
            total: Total { rows: 12, units: 3 },
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let written = [entry(0, "m.main.t"), entry(u128::MAX, "m.\"ä\\\n\".t"), entry(1 << 64, "m.main.t")];
        let read: Vec<_> = entries(&rows(&written)).collect::<Result<_>>().unwrap();
        assert_eq!(read, written);
    }

    #[test]
    fn a_row_of_someone_else_is_an_error() {
        for text in
            ["", "{}", r#"{"epoch":1,"table":"t","rows":1,"hash":"x","total_rows":1,"total_units":1}"#]
        {
            assert!(matches!(read(text), Err(Error::Internal(_))), "{text}");
        }
    }
}
