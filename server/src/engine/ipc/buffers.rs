//! Which buffers of a batch belong to which column, so that those of columns nobody asks for stay packed.

use arrow_ipc::{MetadataVersion, RecordBatch, root_as_message};
use arrow_schema::{DataType, FieldRef, Schema, SchemaRef, UnionMode};

/// Whether a message that is a batch has as many arrays and buffers as the schema says, which Arrow's decoder does not
/// ask: it leaves out what there is too much of.
pub(crate) fn is_as_schema_says(header: &[u8], schema: &Schema) -> bool {
    let Ok(message) = root_as_message(header) else { return false };
    let Some(batch) = message.header_as_record_batch() else { return false };
    let mut variadic = batch.variadicBufferCounts().into_iter().flatten();
    let (mut expected, mut arrays, mut unions) = (Some(0_usize), 0, 0);
    for field in schema.fields() {
        let own = buffers(field.data_type(), &mut variadic);
        expected = expected.and_then(|sum| sum.checked_add(own?));
        let (inside, unions_inside) = counted(field.data_type());
        (arrays, unions) = (arrays + inside, unions + unions_inside);
    }
    // Before version 5 of the format a union had a bitmap of its nulls as well.
    let older = if message.version() < MetadataVersion::V5 { unions } else { 0 };
    let found = batch.buffers().map_or(0, |buffers| buffers.len());
    expected.map(|expected| expected + older) == Some(found)
        && batch.nodes().map_or(0, |nodes| nodes.len()) == arrays
}

/// How many arrays an array is, those inside it and itself included, and how many of them are unions.
fn counted(data_type: &DataType) -> (usize, usize) {
    let own = (1, usize::from(matches!(data_type, DataType::Union(_, _))));
    inside(data_type)
        .into_iter()
        .map(|field| counted(field.data_type()))
        .fold(own, |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

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
    let own = match data_type {
        DataType::Null | DataType::RunEndEncoded(_, _) => 0,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => 3,
        DataType::Utf8View | DataType::BinaryView => {
            usize::try_from(variadic.next()?).ok()?.checked_add(2)?
        }
        DataType::ListView(_) | DataType::LargeListView(_) => 3,
        DataType::FixedSizeList(_, _) | DataType::Struct(_) => 1,
        DataType::Union(_, mode) => 1 + usize::from(*mode == UnionMode::Dense),
        _ => 2,
    };
    inside(data_type)
        .into_iter()
        .try_fold(own, |sum, field| sum.checked_add(buffers(field.data_type(), variadic)?))
}

/// The arrays directly inside one. The values of a dictionary are in messages of their own.
fn inside(data_type: &DataType) -> Vec<&FieldRef> {
    match data_type {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::Map(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => vec![item],
        DataType::Struct(members) => members.iter().collect(),
        DataType::RunEndEncoded(ends, values) => vec![ends, values],
        DataType::Union(members, _) => members.iter().map(|(_, member)| member).collect(),
        _ => vec![],
    }
}
