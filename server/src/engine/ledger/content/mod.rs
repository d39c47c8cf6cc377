//! What a unit holds, as 128 bits: the same for the same rows, however they were cut into batches and encoded, and in
//! whatever capitals their table and columns are written.
//!
//! Each column ([`column`]) is hashed on its own, as streams of nulls, lengths and values that go on from batch to batch.
//! What lies under a null does not count, and neither does the form: a dictionary is its values, which are never written
//! out as a whole. The numbers are kept on disk, so a change here makes units look changed that were committed before it;
//! [`super::spelling`] has what has changed so far.

mod column;
#[cfg(test)]
mod digests;
mod nested;
mod referred;
#[cfg(test)]
mod tests;
mod values;

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, Schema};
use twox_hash::xxhash3_128::Hasher;

use super::spelling::{Spelling, put_named, put_text};
use column::Column;

/// Takes the batches of one unit.
pub(crate) struct Content {
    columns: Vec<Column>,
    head: Hasher,
    head_before: Hasher,
}

/// Where the rows of a unit go.
pub(crate) struct Destination {
    /// As any text, the same for all ways to write it.
    pub(crate) today: String,
    /// As it was hashed before.
    pub(crate) before: String,
}

/// The hashes of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hashes {
    /// The one that is kept,
    pub(crate) today: u128,
    /// and the one that was kept before.
    pub(crate) before: u128,
}

impl Content {
    /// Begins with where the rows go, and their schema.
    pub(crate) fn new(destination: &Destination, schema: &Schema) -> Self {
        let head = |destination: &str, spelling| {
            let mut head = Hasher::new();
            put_text(&mut head, destination);
            schema.fields().iter().for_each(|field| put_named(&mut head, field, spelling));
            head
        };
        Self {
            columns: schema.fields().iter().map(|_| Column::default()).collect(),
            head: head(&destination.today, Spelling::Today),
            head_before: head(&destination.before, Spelling::Before),
        }
    }

    /// Takes the next rows.
    ///
    /// # Errors
    /// What Arrow says of values that cannot be laid out plainly.
    pub(crate) fn add(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        self.columns.iter_mut().zip(batch.columns()).try_for_each(|(column, array)| column.add(array))
    }

    /// The hashes of all that was taken.
    pub(crate) fn finish(self) -> Hashes {
        let Self { columns, head, head_before } = self;
        let finish = |mut head: Hasher, spelling| {
            columns.iter().for_each(|column| column.finish_into(&mut head, spelling));
            head.finish_128()
        };
        Hashes { today: finish(head, Spelling::Today), before: finish(head_before, Spelling::Before) }
    }
}
