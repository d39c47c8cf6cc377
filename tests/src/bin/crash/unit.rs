//! What a loader sends: units whose every row follows from loader, sequence and position, so that the judge knows
//! what must be there without being told.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_flight::FlightData;
use merganser_tests::messages;

use crate::{Failure, numbers::mixed};

/// Where all units go, small ones and bulk uploads alike.
pub(crate) const TABLE: &str = "units";
/// Its columns.
pub(crate) const COLUMNS: &str = "loader BIGINT, sequence BIGINT, part BIGINT, value BIGINT";
/// Loaders in all.
pub(crate) const LOADERS: u64 = 32;
/// One loader in so many sends units that are larger than [`BULK_SIZE`].
pub(crate) const BULK_EVERY: u64 = 8;
/// The server's option `bulk-size`: above a small unit's 32 KB, below a large unit's 640 KB.
pub(crate) const BULK_SIZE: &str = "128KiB";
/// Rows of a unit.
const ROWS: u64 = 1_000;
/// Rows of a unit that is a bulk upload.
const BULK_ROWS: u64 = 20_000;
/// Rows of a message.
const MESSAGE_ROWS: u64 = 2_000;

/// One unit of one loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) loader: u64,
    /// From 1, without gaps.
    pub(crate) sequence: u64,
}

/// What a unit adds up to in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) rows: i64,
    pub(crate) parts: i64,
    pub(crate) values: i64,
}

impl Unit {
    /// As the server takes it. Nobody takes over from a loader here, so there is one epoch.
    pub(crate) fn key(self) -> String {
        format!("loader-{}/1/{}", self.loader, self.sequence)
    }

    /// Whether it is sent as a bulk upload.
    pub(crate) fn is_bulk(self) -> bool {
        is_bulk(self.loader)
    }

    /// Rows of it.
    pub(crate) fn rows(self) -> u64 {
        if self.is_bulk() { BULK_ROWS } else { ROWS }
    }

    fn value(self, part: u64) -> i64 {
        // 31 bits, so that the sum of a unit fits.
        (mixed(self.loader << 56 ^ self.sequence << 20 ^ part) >> 33) as i64
    }

    /// What its rows add up to.
    pub(crate) fn sums(self) -> Sums {
        let parts = 0..self.rows();
        Sums {
            rows: self.rows() as i64,
            parts: parts.clone().sum::<u64>() as i64,
            values: parts.map(|part| self.value(part)).sum(),
        }
    }

    /// Its upload, message by message: the schema, then the rows.
    pub(crate) fn messages(self) -> Result<Vec<FlightData>, Failure> {
        let starts = (0..self.rows()).step_by(MESSAGE_ROWS as usize);
        let batches = starts.map(|start| self.batch(start..(start + MESSAGE_ROWS).min(self.rows())));
        Ok(messages(TABLE, batches.collect::<Result<_, _>>()?))
    }

    fn batch(self, parts: std::ops::Range<u64>) -> Result<RecordBatch, Failure> {
        let rows = parts.clone().count();
        let columns: [(&str, ArrayRef, bool); 4] = [
            ("loader", Arc::new(Int64Array::from_value(self.loader as i64, rows)), true),
            ("sequence", Arc::new(Int64Array::from_value(self.sequence as i64, rows)), true),
            ("part", Arc::new(Int64Array::from_iter_values(parts.clone().map(|part| part as i64))), true),
            ("value", Arc::new(Int64Array::from_iter_values(parts.map(|part| self.value(part)))), true),
        ];
        Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
    }
}

/// Whether a loader sends bulk uploads.
pub(crate) fn is_bulk(loader: u64) -> bool {
    loader % BULK_EVERY == BULK_EVERY - 1
}

#[cfg(test)]
mod tests {
    use arrow_array::{cast::AsArray, types::Int64Type};

    use super::*;

    #[test]
    fn the_sums_are_those_of_the_rows() {
        for loader in [0, BULK_EVERY - 1] {
            let unit = Unit { loader, sequence: 9 };
            let batch = unit.batch(0..unit.rows()).unwrap();
            let sum = |column| batch.column(column).as_primitive::<Int64Type>().values().iter().sum::<i64>();
            let sums = Sums { rows: batch.num_rows() as i64, parts: sum(2), values: sum(3) };
            assert_eq!(unit.sums(), sums);
        }
    }
}
