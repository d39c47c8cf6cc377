//! What a loader sends: units whose every row follows from loader, sequence and position, so that the judge knows
//! what must be there without being told.

use std::{ops::Range, sync::Arc};

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_flight::FlightData;
use merganser_tests::messages;

use crate::{Failure, latest, numbers::mixed};

/// Where all units go that append, small ones and bulk uploads alike.
pub(crate) const TABLE: &str = "units";
/// Its columns.
pub(crate) const COLUMNS: &str = "loader BIGINT, sequence BIGINT, part BIGINT, value BIGINT";
/// Of all loaders: nobody takes over from one here.
pub(crate) const EPOCH: u64 = 1;
/// Loaders in all.
pub(crate) const LOADERS: u64 = 32;
/// One loader in so many appends units that are larger than [`BULK_SIZE`].
const BULK_EVERY: u64 = 8;
/// The server's option `bulk-size`: above the 40 KB of a small unit, below the 240 KB of the least that is large.
pub(crate) const BULK_SIZE: &str = "128KiB";
/// Rows of a message.
const MESSAGE_ROWS: u64 = 2_000;

/// What a loader does with all its units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Append,
    /// The same over one long stream, several units on their way at once.
    StreamedAppend,
    BulkAppend,
    /// Its rows take the places of those with the same key. The server commits several such units together.
    Upsert,
    BulkUpsert,
}

impl Kind {
    /// The kind of a loader: of 32 are 12 that append, 8 that do so over a stream, 4 that append in bulk, 6 that upsert, 2 that do so in bulk.
    pub(crate) fn of(loader: u64) -> Self {
        match loader % (2 * BULK_EVERY) {
            at if at % BULK_EVERY == BULK_EVERY - 1 => Self::BulkAppend,
            1 | 5 | 9 => Self::Upsert,
            13 => Self::BulkUpsert,
            2 | 6 | 10 | 14 => Self::StreamedAppend,
            _ => Self::Append,
        }
    }

    /// Whether its units are sent as bulk uploads.
    pub(crate) fn is_bulk(self) -> bool {
        matches!(self, Self::BulkAppend | Self::BulkUpsert)
    }

    /// Whether rows are matched by key.
    pub(crate) fn upserts(self) -> bool {
        matches!(self, Self::Upsert | Self::BulkUpsert)
    }

    /// Rows of a unit.
    pub(crate) fn rows(self) -> u64 {
        match self {
            Self::Append | Self::StreamedAppend | Self::Upsert => 1_000,
            Self::BulkAppend => 20_000,
            // Few enough to leave the others their turns.
            Self::BulkUpsert => 6_000,
        }
    }
}

/// One unit of one loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    /// Its loader, as the server knows it.
    pub(crate) fn name(self) -> String {
        format!("loader-{}", self.loader)
    }

    /// As the server takes it.
    pub(crate) fn key(self) -> String {
        format!("{}/{EPOCH}/{}", self.name(), self.sequence)
    }

    /// What its loader does.
    pub(crate) fn kind(self) -> Kind {
        Kind::of(self.loader)
    }

    /// The value of a row by its position.
    pub(crate) fn value(self, part: u64) -> i64 {
        // 31 bits, so that the sum of a unit fits.
        (mixed(self.loader << 56 ^ self.sequence << 20 ^ part) >> 33) as i64
    }

    /// What its rows add up to.
    pub(crate) fn sums(self) -> Sums {
        let parts = 0..self.kind().rows();
        Sums {
            rows: self.kind().rows() as i64,
            parts: parts.clone().sum::<u64>() as i64,
            values: parts.map(|part| self.value(part)).sum(),
        }
    }

    /// Its upload, message by message: the schema, then the rows.
    pub(crate) fn messages(self) -> Result<Vec<FlightData>, Failure> {
        let table = if self.kind().upserts() { latest::TABLE } else { TABLE };
        Ok(messages(table, self.batches()?))
    }

    /// Its rows, one batch a message.
    pub(crate) fn batches(self) -> Result<Vec<RecordBatch>, Failure> {
        let rows = self.kind().rows();
        let batches = (0..rows).step_by(MESSAGE_ROWS as usize).map(|start| {
            let parts = start..(start + MESSAGE_ROWS).min(rows);
            if self.kind().upserts() { latest::batch(self, parts) } else { self.batch(parts) }
        });
        batches.collect()
    }

    fn batch(self, parts: Range<u64>) -> Result<RecordBatch, Failure> {
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

#[cfg(test)]
mod tests {
    use arrow_array::{cast::AsArray, types::Int64Type};

    use super::*;

    #[test]
    fn the_sums_are_those_of_the_rows() {
        for loader in [0, BULK_EVERY - 1] {
            let unit = Unit { loader, sequence: 9 };
            let batch = unit.batch(0..unit.kind().rows()).unwrap();
            let sum = |column| batch.column(column).as_primitive::<Int64Type>().values().iter().sum::<i64>();
            let sums = Sums { rows: batch.num_rows() as i64, parts: sum(2), values: sum(3) };
            assert_eq!(unit.sums(), sums);
        }
    }

    #[test]
    fn there_are_loaders_of_every_kind() {
        let count = |kind| (0..LOADERS).filter(|loader| Kind::of(*loader) == kind).count();
        let kinds = [Kind::Append, Kind::StreamedAppend, Kind::BulkAppend, Kind::Upsert, Kind::BulkUpsert];
        assert_eq!(kinds.map(count), [12, 8, 4, 6, 2]);
    }
}
