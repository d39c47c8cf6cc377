//! Cutting batches into messages of a size that every gRPC peer accepts.

use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Schema};

/// About how large a message may be.
pub(crate) const MESSAGE_BYTES: usize = 2 << 20;

/// How the batches of one stream are cut.
///
/// arrow_flight's encoder measures whole allocations. The columns of a batch that was read from IPC
/// share one allocation, so it counts that once per column and cuts a wide batch into messages of a few
/// rows. Where the logical size is exact, the cut is therefore made here, and the encoder is told not to.
pub(crate) struct Splitter {
    exact: bool,
}

impl Splitter {
    pub(crate) fn new(schema: &Schema) -> Self {
        let exact = schema.fields().iter().all(|field| has_exact_size(field.data_type()));
        Self { exact }
    }

    /// The limit that is left to the encoder.
    pub(crate) fn encoder_limit(&self) -> usize {
        if self.exact { usize::MAX } else { MESSAGE_BYTES }
    }

    /// Cuts one batch; the pieces share its memory.
    pub(crate) fn split(&self, batch: RecordBatch) -> Vec<RecordBatch> {
        let rows = batch.num_rows();
        let messages =
            if self.exact { logical_bytes(&batch).div_ceil(MESSAGE_BYTES).clamp(1, rows.max(1)) } else { 1 };
        if messages == 1 {
            return vec![batch];
        }
        let step = rows.div_ceil(messages);
        (0..rows).step_by(step).map(|start| batch.slice(start, step.min(rows - start))).collect()
    }
}

/// Views and dictionaries are not measured by the rows of a slice: views leave their text out, and a
/// dictionary grows when the encoder unpacks it.
fn has_exact_size(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8View | DataType::BinaryView | DataType::Dictionary(_, _) => false,
        DataType::ListView(_) | DataType::LargeListView(_) | DataType::RunEndEncoded(_, _) => false,
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => has_exact_size(field.data_type()),
        DataType::Struct(fields) => fields.iter().all(|field| has_exact_size(field.data_type())),
        DataType::Union(fields, _) => fields.iter().all(|(_, field)| has_exact_size(field.data_type())),
        _ => true,
    }
}

fn logical_bytes(batch: &RecordBatch) -> usize {
    let sizes = batch.columns().iter().map(|column| {
        let data = column.to_data();
        data.get_slice_memory_size().unwrap_or_else(|_| data.get_buffer_memory_size())
    });
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, StringArray};
    use arrow_schema::Field;

    use super::*;

    fn numbers(rows: i64) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        RecordBatch::try_from_iter([("a", column)]).unwrap()
    }

    fn split(batch: RecordBatch) -> Vec<usize> {
        let splitter = Splitter::new(batch.schema_ref());
        splitter.split(batch).iter().map(RecordBatch::num_rows).collect()
    }

    #[test]
    fn small_batches_stay_whole_even_as_slices_of_large_ones() {
        assert_eq!(split(numbers(1000)), [1000]);
        assert_eq!(split(numbers(0)), [0]);
        assert_eq!(split(numbers(1_000_000).slice(5, 10)), [10]);
    }

    #[test]
    fn large_batches_are_cut_evenly() {
        let pieces = split(numbers(1_000_000));
        assert_eq!(pieces.len(), 4);
        assert_eq!(pieces.iter().sum::<usize>(), 1_000_000);
        assert!(pieces.iter().all(|rows| rows * 8 <= MESSAGE_BYTES));
    }

    #[test]
    fn a_row_is_never_cut() {
        let long = "x".repeat(3 << 20);
        let column: ArrayRef = Arc::new(StringArray::from(vec![long.as_str(); 2]));
        assert_eq!(split(RecordBatch::try_from_iter([("a", column)]).unwrap()), [1, 1]);
    }

    #[test]
    fn what_cannot_be_measured_is_left_to_the_encoder() {
        let view = Field::new("item", DataType::Utf8View, true);
        let schema = Schema::new(vec![Field::new_list("a", view, true)]);
        assert_eq!(Splitter::new(&schema).encoder_limit(), MESSAGE_BYTES);
        let schema = Schema::new(vec![Field::new("a", DataType::Utf8, true)]);
        assert_eq!(Splitter::new(&schema).encoder_limit(), usize::MAX);
    }
}
