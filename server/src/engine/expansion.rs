//! How large a batch becomes once its dictionaries and runs are resolved: a few bytes may stand for terabytes.

use arrow_array::{Array, ArrayRef, RecordBatch, cast::AsArray};
use arrow_schema::DataType;

use crate::engine::Error;

/// Rows of one batch.
const MAX_ROWS: usize = 1 << 24;
/// Bytes of one column, written out.
const MAX_BYTES: u64 = 1 << 30;

/// Refuses a batch that stands for more than a server should write out.
pub(crate) fn check(batch: &RecordBatch) -> Result<(), Error> {
    if batch.num_rows() > MAX_ROWS {
        return Err(Error::BadArrow(format!(
            "a batch has {} rows; send at most {MAX_ROWS} in one",
            batch.num_rows()
        )));
    }
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        if written_out(column) > MAX_BYTES {
            return Err(Error::BadArrow(format!(
                "column {:?} stands for more than {MAX_BYTES} bytes in one batch; send smaller batches",
                field.name()
            )));
        }
    }
    Ok(())
}

/// Bytes of what is kept once and stands for many, at any depth; 0 where nothing is.
fn written_out(array: &ArrayRef) -> u64 {
    let rows = array.len() as u64;
    match array.data_type() {
        DataType::Dictionary(_, _) => {
            let dictionary = array.as_any_dictionary();
            let sizes = value_sizes(dictionary.values());
            if sizes.is_empty() {
                return 0;
            }
            let keys = dictionary.normalized_keys();
            keys.into_iter()
                .filter_map(|key| sizes.get(key))
                .fold(0, |sum: u64, size| sum.saturating_add(*size))
        }
        DataType::RunEndEncoded(_, _) => {
            let data = array.to_data();
            let values = data.child_data().get(1).map(|values| arrow_array::make_array(values.clone()));
            let largest = values.map_or(0, |values| value_sizes(&values).into_iter().max().unwrap_or(0));
            rows.saturating_mul(largest.max(1))
        }
        data_type if data_type.is_nested() => {
            let data = array.to_data();
            data.child_data().iter().map(|child| written_out(&arrow_array::make_array(child.clone()))).sum()
        }
        _ => 0,
    }
}

/// The size of each value in bytes; of nested ones at most all of them together.
fn value_sizes(values: &ArrayRef) -> Vec<u64> {
    let count = values.len();
    match values.data_type() {
        DataType::Utf8 => sizes(values.as_string::<i32>().offsets().lengths()),
        DataType::LargeUtf8 => sizes(values.as_string::<i64>().offsets().lengths()),
        DataType::Binary => sizes(values.as_binary::<i32>().offsets().lengths()),
        DataType::LargeBinary => sizes(values.as_binary::<i64>().offsets().lengths()),
        DataType::FixedSizeBinary(width) => vec![u64::try_from(*width).unwrap_or(0); count],
        other => match other.primitive_width() {
            Some(width) => vec![width as u64; count],
            None => {
                let all = values.to_data().get_slice_memory_size().unwrap_or(usize::MAX);
                let buffers = values.get_buffer_memory_size();
                vec![(all.min(buffers).max(written_out(values) as usize)) as u64; count]
            }
        },
    }
}

fn sizes(lengths: impl Iterator<Item = usize>) -> Vec<u64> {
    lengths.map(|length| length as u64).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{
        DictionaryArray, FixedSizeBinaryArray, Int8Array, Int32Array, Int64Array, NullArray, RunArray,
        StringArray,
        types::{Int8Type, Int64Type},
    };

    use super::*;

    fn refused(column: ArrayRef) -> bool {
        let batch = RecordBatch::try_from_iter_with_nullable([("a", column, true)]).unwrap();
        match check(&batch) {
            Ok(()) => false,
            Err(Error::BadArrow(_)) => true,
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_few_bytes_that_stand_for_terabytes_are_refused() {
        let ends = Int64Array::from(vec![1_i64 << 40]);
        let runs = RunArray::<Int64Type>::try_new(&ends, &Int32Array::from(vec![7])).unwrap();
        assert!(refused(Arc::new(runs)));
        assert!(refused(Arc::new(NullArray::new(1 << 40))));
        let blob = FixedSizeBinaryArray::try_from_iter([vec![0_u8; 1 << 20]].into_iter()).unwrap();
        let keys = Int8Array::from(vec![0; 1 << 11]);
        assert!(refused(Arc::new(DictionaryArray::<Int8Type>::new(keys, Arc::new(blob)))));
    }

    #[test]
    fn usual_dictionaries_and_runs_pass() {
        let names = StringArray::from(vec!["a".repeat(4_000), "b".into()]);
        let keys = Int8Array::from_iter_values((0..100_000).map(|row| i8::from(row % 1_000 != 0)));
        assert!(!refused(Arc::new(DictionaryArray::<Int8Type>::new(keys, Arc::new(names)))));
        let ends = Int64Array::from(vec![10_000, 100_000]);
        let runs = RunArray::<Int64Type>::try_new(&ends, &StringArray::from(vec!["x", "y"])).unwrap();
        assert!(!refused(Arc::new(runs)));
        assert!(!refused(Arc::new(Int64Array::from(vec![1, 2, 3]))));
    }
}
