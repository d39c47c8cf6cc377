//! Which buffers of a batch belong to which column, so that those of columns nobody asks for stay packed.

use arrow_ipc::RecordBatch;
use arrow_schema::{DataType, SchemaRef, UnionMode};

/// The columns that are asked for.
pub(super) struct Columns {
    schema: SchemaRef,
    /// Their indexes, ascending.
    asked: Vec<usize>,
}

impl Columns {
    pub(super) fn new(schema: SchemaRef, asked: Vec<usize>) -> Self {
        Self { schema, asked }
    }

    /// For each buffer of the batch whether it is needed. Where the batch is not as the schema says, all are: then it
    /// is Arrow's decoder that says what is wrong.
    pub(super) fn needed(&self, batch: &RecordBatch<'_>) -> Vec<bool> {
        let count = batch.buffers().map_or(0, |buffers| buffers.len());
        let mut variadic = batch.variadicBufferCounts().into_iter().flatten();
        let mut needed = Vec::with_capacity(count);
        for (index, field) in self.schema.fields().iter().enumerate() {
            let is_asked = self.asked.binary_search(&index).is_ok();
            let end = buffers(field.data_type(), &mut variadic).and_then(|own| needed.len().checked_add(own));
            let Some(end) = end.filter(|end| *end <= count) else { break };
            needed.resize(end, is_asked);
        }
        if needed.len() < count { vec![true; count] } else { needed }
    }
}

/// How many buffers an array has, those inside it included. `variadic` tells of views how many they have for data.
/// Source: the Arrow specification, "Recordbatch message".
fn buffers(data_type: &DataType, variadic: &mut impl Iterator<Item = i64>) -> Option<usize> {
    let (own, inner) = match data_type {
        DataType::Null => (0, vec![]),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => (3, vec![]),
        DataType::Utf8View | DataType::BinaryView => {
            (usize::try_from(variadic.next()?).ok()?.checked_add(2)?, vec![])
        }
        DataType::List(item) | DataType::LargeList(item) | DataType::Map(item, _) => (2, vec![item]),
        DataType::ListView(item) | DataType::LargeListView(item) => (3, vec![item]),
        DataType::FixedSizeList(item, _) => (1, vec![item]),
        DataType::Struct(members) => (1, members.iter().collect()),
        DataType::RunEndEncoded(ends, values) => (0, vec![ends, values]),
        DataType::Union(members, mode) => {
            (1 + usize::from(*mode == UnionMode::Dense), members.iter().map(|(_, member)| member).collect())
        }
        // The values of a dictionary are in messages of their own.
        _ => (2, vec![]),
    };
    inner.into_iter().try_fold(own, |sum, field| sum.checked_add(buffers(field.data_type(), variadic)?))
}
