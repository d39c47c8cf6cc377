//! Rows that refer to values: those of dictionaries, runs and views.

use arrow_array::{Array, ArrayRef, UInt64Array, cast::AsArray};
use arrow_schema::{ArrowError, DataType};
use arrow_select::take::take;

use super::column::{Column, length};

/// Rows of a dictionary with values of a fixed width that are written out at a time.
const PIECE_ROWS: usize = 1_024;
/// Bytes of small values that are hashed at a time.
const PIECE_BYTES: usize = 1 << 16;

impl Column {
    /// Rows that refer to values, each of which may stand for many; `None` is a null.
    pub(super) fn add_referred(
        &mut self,
        values: &ArrayRef,
        mut rows: impl Iterator<Item = Option<usize>>,
    ) -> Result<(), ArrowError> {
        if let Some(bytes) = bytes_at(values) {
            self.add_values(rows.map(|row| row.filter(|row| values.is_valid(*row)).map(&bytes)));
            return Ok(());
        }
        let at_a_time = if values.data_type().is_nested() { 1 } else { PIECE_ROWS };
        loop {
            let piece = rows.by_ref().take(at_a_time).map(|row| row.map(|value| value as u64));
            let piece: UInt64Array = piece.collect();
            if piece.is_empty() {
                return Ok(());
            }
            self.add(&take(values, &piece, None)?)?;
        }
    }

    /// Texts or blobs, one a row. They are put together before they are hashed, because a hasher takes few large pieces
    /// faster than many small ones.
    fn add_values<'a>(&mut self, rows: impl Iterator<Item = Option<&'a [u8]>>) {
        let (mut lengths, mut bytes) = (Vec::new(), Vec::new());
        for value in rows {
            if value.is_none() {
                self.nulls.write(&self.rows.to_le_bytes());
            }
            let value = value.unwrap_or_default();
            if bytes.len() + value.len() > PIECE_BYTES {
                self.values.write(&bytes);
                bytes.clear();
            }
            match value.len() > PIECE_BYTES {
                true => self.values.write(value),
                false => bytes.extend_from_slice(value),
            }
            if lengths.len() >= PIECE_BYTES {
                self.lengths.write(&lengths);
                lengths.clear();
            }
            lengths.extend_from_slice(&length(value.len()));
            self.rows += 1;
        }
        self.values.write(&bytes);
        self.lengths.write(&lengths);
    }
}

/// How to get at a text or a blob among values; `None` where they are neither.
fn bytes_at<'a>(values: &'a ArrayRef) -> Option<Box<dyn Fn(usize) -> &'a [u8] + 'a>> {
    Some(match values.data_type() {
        DataType::Utf8 => {
            let texts = values.as_string::<i32>();
            Box::new(|row| texts.value(row).as_bytes())
        }
        DataType::LargeUtf8 => {
            let texts = values.as_string::<i64>();
            Box::new(|row| texts.value(row).as_bytes())
        }
        DataType::Utf8View => {
            let texts = values.as_string_view();
            Box::new(|row| texts.value(row).as_bytes())
        }
        DataType::Binary => {
            let blobs = values.as_binary::<i32>();
            Box::new(|row| blobs.value(row))
        }
        DataType::LargeBinary => {
            let blobs = values.as_binary::<i64>();
            Box::new(|row| blobs.value(row))
        }
        DataType::BinaryView => {
            let blobs = values.as_binary_view();
            Box::new(|row| blobs.value(row))
        }
        _ => return None,
    })
}
