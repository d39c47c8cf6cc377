//! How much memory rows keep from being freed.

use std::collections::HashSet;

use arrow_array::{Array, RecordBatch};

/// Bytes that the batches keep. The columns of one message share its buffer, which counts once.
pub(super) fn bytes_kept<'a>(batches: impl IntoIterator<Item = &'a RecordBatch>) -> usize {
    let columns = batches.into_iter().flat_map(RecordBatch::columns);
    let mut rest: Vec<_> = columns.map(Array::to_data).collect();
    let (mut seen, mut bytes) = (HashSet::new(), 0);
    while let Some(data) = rest.pop() {
        for buffer in data.buffers().iter().chain(data.nulls().map(|nulls| nulls.buffer())) {
            if seen.insert(buffer.data_ptr()) {
                bytes += buffer.capacity();
            }
        }
        rest.extend(data.child_data().iter().cloned());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array};

    use super::*;

    #[test]
    fn a_shared_buffer_counts_once() {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1_000));
        let one = RecordBatch::try_from_iter([("a", Arc::clone(&column))]).unwrap();
        let both =
            RecordBatch::try_from_iter([("a", column.slice(0, 1)), ("b", column.slice(1, 1))]).unwrap();
        let bytes = bytes_kept([&one]);
        assert!(bytes >= 8_000, "{bytes}");
        assert_eq!(bytes_kept([&both]), bytes);
    }
}
