//! Values that lie one after the other: texts, blobs, and all of one width.

use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, BooleanArray, OffsetSizeTrait,
    cast::AsArray,
    types::{Decimal32Type, Decimal64Type, Decimal256Type},
};
use arrow_schema::{ArrowError, DataType};
use twox_hash::xxhash3_128::Hasher;

use super::column::{Column, runs_of_values};

/// Digits of a decimal that 128 bits hold.
const DIGITS_OF_128_BITS: u8 = 38;

impl Column {
    pub(super) fn add_booleans(&mut self, bits: &BooleanArray) {
        let bytes: Vec<u8> =
            (0..bits.len()).map(|row| u8::from(bits.is_valid(row) && bits.value(row))).collect();
        self.values.write(&bytes);
    }

    pub(super) fn add_bytes<O: OffsetSizeTrait>(&mut self, array: &ArrayRef, offsets: &[O], data: &[u8]) {
        self.add_lengths(array, offsets);
        for (start, rows) in runs_of_values(array) {
            self.values.write(&data[offsets[start].as_usize()..offsets[start + rows].as_usize()]);
        }
    }

    /// Values of one width, one after the other.
    pub(super) fn add_fixed(&mut self, array: &ArrayRef, data_type: &DataType) -> Result<(), ArrowError> {
        let width = match data_type {
            DataType::FixedSizeBinary(width) => usize::try_from(*width).ok(),
            other => other.primitive_width(),
        };
        let width = width.ok_or_else(|| {
            ArrowError::NotYetImplemented(format!("the content of {data_type} cannot be compared"))
        })?;
        let data = array.to_data();
        let bytes = &data.buffers()[0].as_slice()[data.offset() * width..];
        for (start, rows) in runs_of_values(array) {
            self.values.write(&bytes[start * width..(start + rows) * width]);
        }
        self.add_common(array, data_type);
        Ok(())
    }

    /// Decimals once more as 128 bits have them, where they have another width.
    fn add_common(&mut self, array: &ArrayRef, data_type: &DataType) {
        match data_type {
            DataType::Decimal32(_, _) => {
                self.add_widened::<Decimal32Type>(array, |value, into| {
                    into.write(&i128::from(value).to_le_bytes());
                });
            }
            DataType::Decimal64(_, _) => {
                self.add_widened::<Decimal64Type>(array, |value, into| {
                    into.write(&i128::from(value).to_le_bytes());
                });
            }
            DataType::Decimal256(digits, _) if *digits <= DIGITS_OF_128_BITS => {
                self.add_widened::<Decimal256Type>(array, |value, into| match value.to_i128() {
                    Some(value) => into.write(&value.to_le_bytes()),
                    // It has more digits than its type, and is refused for that.
                    None => into.write(&value.to_le_bytes()),
                });
            }
            _ => {}
        }
    }

    fn add_widened<T: ArrowPrimitiveType>(&mut self, array: &ArrayRef, put: impl Fn(T::Native, &mut Hasher)) {
        let common = self.common.get_or_insert_with(|| Box::new(Hasher::new()));
        array.as_primitive::<T>().iter().flatten().for_each(|value| put(value, common));
    }
}
