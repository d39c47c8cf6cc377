//! How large a batch is once it is written out: where values are kept once and referred to many times, a few bytes may
//! stand for terabytes.

use std::{collections::HashMap, sync::Arc};

use arrow_array::{Array, ArrayRef, OffsetSizeTrait, RecordBatch, cast::AsArray, downcast_dictionary_array};
use arrow_schema::DataType;

use crate::engine::{Error, runs::runs};

/// Rows of one batch.
const MAX_ROWS: usize = 1 << 24;
/// Bytes that the columns of one batch may stand for.
const MAX_BYTES: u64 = 1 << 30;
/// The same of those columns that DuckDB does not take as they are, so that the server writes them out.
const MAX_WRITTEN_BYTES: u64 = 1 << 28;
/// An offset or a view, about.
const PLACE_BYTES: u64 = 8;

/// Refuses a batch that stands for more than a server should write out, before anything of it is.
pub(crate) fn check(batch: &RecordBatch) -> Result<(), Error> {
    if batch.num_rows() > MAX_ROWS {
        return Err(Error::BadArrow(format!(
            "a batch has {} rows; send at most {MAX_ROWS} in one",
            batch.num_rows()
        )));
    }
    let (mut all, mut written) = (0_u64, 0_u64);
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        if !refers(column.data_type()) {
            continue;
        }
        if has_referred_runs(column.data_type(), false) {
            return Err(Error::BadArrow(format!(
                "column {:?} has run-end encoded values in a dictionary or in views of lists; send them written out",
                field.name()
            )));
        }
        let bytes = written_out(column);
        all = all.saturating_add(bytes);
        if !is_taken_as_it_is(column.data_type()) {
            written = written.saturating_add(bytes);
        }
        let most = if written > MAX_WRITTEN_BYTES { MAX_WRITTEN_BYTES } else { MAX_BYTES };
        if written > MAX_WRITTEN_BYTES || all > MAX_BYTES {
            return Err(Error::BadArrow(format!(
                "with column {:?} a batch stands for more than {most} bytes; send smaller batches",
                field.name()
            )));
        }
    }
    Ok(())
}

/// The bytes that the server itself writes out for a column; 0 where it refers to its values as they came.
pub(crate) fn written_by_server(column: &ArrayRef) -> u64 {
    match refers(column.data_type()) && !is_taken_as_it_is(column.data_type()) {
        true => written_out(column),
        false => 0,
    }
}

/// Whether values of this type, or inside of it, may be kept once and stand for many.
fn refers(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, _)
        | DataType::RunEndEncoded(_, _)
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::Utf8View
        | DataType::BinaryView
        | DataType::Union(_, _) => true,
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => refers(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| refers(field.data_type())),
        // Without a buffer, or with one that says little of the number of rows.
        DataType::Null => true,
        _ => false,
    }
}

/// Whether runs are inside of something that refers to its values. They would be written out as a whole, whichever of
/// them are referred to.
fn has_referred_runs(data_type: &DataType, is_referred: bool) -> bool {
    match data_type {
        DataType::RunEndEncoded(_, values) => is_referred || has_referred_runs(values.data_type(), true),
        DataType::Dictionary(_, values) => has_referred_runs(values, true),
        DataType::ListView(item) | DataType::LargeListView(item) => has_referred_runs(item.data_type(), true),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => has_referred_runs(item.data_type(), is_referred),
        DataType::Struct(fields) => {
            fields.iter().any(|field| has_referred_runs(field.data_type(), is_referred))
        }
        DataType::Union(fields, _) => {
            fields.iter().any(|(_, field)| has_referred_runs(field.data_type(), true))
        }
        _ => false,
    }
}

/// Whether DuckDB's import takes such a column with its references.
fn is_taken_as_it_is(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => values.is_string() || values.is_binary(),
        DataType::Utf8View | DataType::BinaryView | DataType::Null => true,
        _ => false,
    }
}

/// Bytes of all rows of an array, written out. Each row of it, and each value inside, counts as one byte at least, so that
/// what is within a bound has offsets that fit.
fn written_out(array: &ArrayRef) -> u64 {
    let rows = array.len() as u64;
    let places = rows.saturating_mul(PLACE_BYTES);
    match array.data_type() {
        DataType::List(_) => places.saturating_add(written_out(&items::<i32>(array))),
        DataType::LargeList(_) => places.saturating_add(written_out(&items::<i64>(array))),
        DataType::Map(_, _) => {
            let map = array.as_map();
            let (first, last) = ends(map.value_offsets());
            let entries = map.entries().slice(first, last - first);
            places.saturating_add(sum(entries.columns().iter().map(written_out)))
        }
        DataType::FixedSizeList(_, _) => {
            rows.saturating_add(written_out(array.as_fixed_size_list().values()))
        }
        DataType::Struct(_) => rows.saturating_add(sum(array.as_struct().columns().iter().map(written_out))),
        DataType::RunEndEncoded(_, _) => written_runs(array),
        DataType::Dictionary(_, _) => {
            let sizes = Sizes::of(array.as_any_dictionary().values());
            sum(keys(array).map(|key| sizes.of_key(key)))
        }
        _ => match Sizes::of(array) {
            Sizes::Same(bytes) => rows.saturating_mul(bytes),
            Sizes::Each(sizes) => sum(sizes),
        },
    }
}

/// The bytes of each value of an array, written out.
enum Sizes {
    /// All have the same, or at most so many.
    Same(u64),
    /// Only where something is stored for each row, so that the list is not much larger than the message.
    Each(Vec<u64>),
}

impl Sizes {
    fn of(array: &ArrayRef) -> Self {
        match array.data_type() {
            DataType::Utf8 => Self::of_lengths(array.as_string::<i32>().offsets().lengths()),
            DataType::LargeUtf8 => Self::of_lengths(array.as_string::<i64>().offsets().lengths()),
            DataType::Binary => Self::of_lengths(array.as_binary::<i32>().offsets().lengths()),
            DataType::LargeBinary => Self::of_lengths(array.as_binary::<i64>().offsets().lengths()),
            DataType::Utf8View => {
                Self::of_lengths(array.as_string_view().lengths().map(|bytes| bytes as usize))
            }
            DataType::BinaryView => {
                Self::of_lengths(array.as_binary_view().lengths().map(|bytes| bytes as usize))
            }
            DataType::FixedSizeBinary(width) => Self::Same(u64::try_from(*width).unwrap_or(0).max(1)),
            DataType::List(_) => Self::of_lists::<i32>(array),
            DataType::LargeList(_) => Self::of_lists::<i64>(array),
            DataType::Map(_, _) => {
                let map = array.as_map();
                let entries: ArrayRef = Arc::new(map.entries().clone());
                Self::of_ranges(&entries, pairs(map.value_offsets()))
            }
            DataType::FixedSizeList(_, size) => {
                let size = usize::try_from(*size).unwrap_or(0);
                match Self::of(array.as_fixed_size_list().values()) {
                    Self::Same(bytes) => Self::Same(bytes.saturating_mul(size as u64).saturating_add(1)),
                    Self::Each(sizes) if size > 0 => {
                        Self::Each(sizes.chunks(size).map(|items| sum(items.iter().copied())).collect())
                    }
                    Self::Each(_) => Self::Same(1),
                }
            }
            DataType::ListView(_) => Self::of_views::<i32>(array),
            DataType::LargeListView(_) => Self::of_views::<i64>(array),
            DataType::Struct(_) => Self::of_struct(array),
            DataType::Union(_, _) => Self::of_union(array),
            DataType::Dictionary(_, _) => Self::of_dictionary(array),
            // As if all were like the largest; runs have no bytes for each row.
            DataType::RunEndEncoded(_, _) => match runs(array).map(|(values, _)| Self::of(&values)) {
                Ok(Self::Same(bytes)) => Self::Same(bytes),
                Ok(Self::Each(sizes)) => Self::Same(sizes.into_iter().max().unwrap_or(1)),
                Err(_) => Self::Same(u64::MAX),
            },
            other => Self::Same(other.primitive_width().map_or(1, |width| width as u64)),
        }
    }

    fn of_lengths(lengths: impl Iterator<Item = usize>) -> Self {
        Self::Each(lengths.map(|length| length as u64 + PLACE_BYTES).collect())
    }

    fn of_lists<O: OffsetSizeTrait>(array: &ArrayRef) -> Self {
        let lists = array.as_list::<O>();
        Self::of_ranges(lists.values(), pairs(lists.value_offsets()))
    }

    /// Lists that may have items in common.
    fn of_views<O: OffsetSizeTrait>(array: &ArrayRef) -> Self {
        let views = array.as_list_view::<O>();
        let ranges = views.offsets().iter().zip(views.sizes()).enumerate().map(|(row, (offset, size))| {
            // What lies under a null is not written out.
            let size = if views.is_null(row) { 0 } else { size.as_usize() };
            (offset.as_usize(), size)
        });
        Self::of_ranges(views.values(), ranges)
    }

    /// Of lists, by the place of their first item and their number.
    fn of_ranges(items: &ArrayRef, ranges: impl Iterator<Item = (usize, usize)>) -> Self {
        let bytes: Vec<u64> = match Self::of(items) {
            Self::Same(bytes) => ranges.map(|(_, count)| bytes.saturating_mul(count as u64)).collect(),
            Self::Each(sizes) => {
                let mut until = Vec::with_capacity(sizes.len() + 1);
                until.push(0_u64);
                until.extend(sizes.iter().scan(0_u64, |sum, size| {
                    *sum = sum.saturating_add(*size);
                    Some(*sum)
                }));
                let of = |(first, count): (usize, usize)| match count {
                    0 => 0,
                    _ => until[first + count] - until[first],
                };
                ranges.map(of).collect()
            }
        };
        Self::Each(bytes.into_iter().map(|bytes| bytes.saturating_add(PLACE_BYTES)).collect())
    }

    fn of_struct(array: &ArrayRef) -> Self {
        array.as_struct().columns().iter().map(Self::of).fold(Self::Same(1), Self::and)
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Same(one), Self::Same(other)) => Self::Same(one.saturating_add(other)),
            (Self::Each(mut sizes), Self::Same(bytes)) | (Self::Same(bytes), Self::Each(mut sizes)) => {
                sizes.iter_mut().for_each(|size| *size = size.saturating_add(bytes));
                Self::Each(sizes)
            }
            (Self::Each(mut sizes), Self::Each(others)) => {
                sizes.iter_mut().zip(others).for_each(|(size, other)| *size = size.saturating_add(other));
                Self::Each(sizes)
            }
        }
    }

    /// Rows of a dense union may refer to one value.
    fn of_union(array: &ArrayRef) -> Self {
        let union = array.as_union();
        let DataType::Union(fields, _) = array.data_type() else { return Self::Same(1) };
        let sizes: HashMap<_, _> = fields.iter().map(|(id, _)| (id, Self::of(union.child(id)))).collect();
        let of = |row| match sizes.get(&union.type_id(row)) {
            Some(Self::Same(bytes)) => bytes.saturating_add(1),
            Some(Self::Each(sizes)) => {
                sizes.get(union.value_offset(row)).map_or(1, |bytes| bytes.saturating_add(1))
            }
            None => 1,
        };
        Self::Each((0..union.len()).map(of).collect())
    }

    fn of_dictionary(array: &ArrayRef) -> Self {
        let sizes = Self::of(array.as_any_dictionary().values());
        Self::Each(keys(array).map(|key| sizes.of_key(key)).collect())
    }

    /// Of what a key refers to; `None` is a null.
    fn of_key(&self, key: Option<usize>) -> u64 {
        match (self, key) {
            (Self::Same(bytes), _) => *bytes,
            (Self::Each(sizes), Some(key)) => sizes.get(key).copied().unwrap_or(PLACE_BYTES),
            (Self::Each(_), None) => PLACE_BYTES,
        }
    }
}

/// The keys of a dictionary's rows.
fn keys(array: &ArrayRef) -> Box<dyn Iterator<Item = Option<usize>> + '_> {
    downcast_dictionary_array!(
        array => Box::new(array.keys_iter()),
        _ => Box::new(std::iter::empty()),
    )
}

/// Each run by its own value.
fn written_runs(array: &ArrayRef) -> u64 {
    let Ok((values, runs)) = runs(array) else { return u64::MAX };
    let sizes = Sizes::of(&values);
    sum(runs.into_iter().map(|(value, rows)| sizes.of_key(Some(value)).saturating_mul(rows as u64)))
}

/// The items that the rows of an array have.
fn items<O: OffsetSizeTrait>(array: &ArrayRef) -> ArrayRef {
    let lists = array.as_list::<O>();
    let (first, last) = ends(lists.value_offsets());
    lists.values().slice(first, last - first)
}

fn ends<O: OffsetSizeTrait>(offsets: &[O]) -> (usize, usize) {
    let at = |offset: Option<&O>| offset.map_or(0, |offset| offset.as_usize());
    (at(offsets.first()), at(offsets.last()))
}

fn pairs<O: OffsetSizeTrait>(offsets: &[O]) -> impl Iterator<Item = (usize, usize)> + '_ {
    offsets.windows(2).map(|pair| (pair[0].as_usize(), (pair[1] - pair[0]).as_usize()))
}

fn sum(sizes: impl IntoIterator<Item = u64>) -> u64 {
    sizes.into_iter().fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use arrow_array::{
        DictionaryArray, FixedSizeBinaryArray, Int8Array, Int32Array, Int64Array, ListViewArray, NullArray,
        RunArray, StringArray, StringViewArray,
        types::{Int8Type, Int64Type},
    };
    use arrow_buffer::{Buffer, ScalarBuffer};
    use arrow_schema::Field;

    use super::*;

    fn refused(column: ArrayRef) -> bool {
        let batch = RecordBatch::try_from_iter_with_nullable([("a", column, true)]).unwrap();
        match check(&batch) {
            Ok(()) => false,
            Err(Error::BadArrow(_)) => true,
            Err(other) => panic!("{other}"),
        }
    }

    /// Lists that all have the same items, as many as there are.
    fn views_of(items: ArrayRef, lists: usize) -> ArrayRef {
        let size = i32::try_from(items.len()).unwrap();
        let field = Arc::new(Field::new("item", items.data_type().clone(), true));
        let (offsets, sizes) = (vec![0; lists], vec![size; lists]);
        Arc::new(ListViewArray::new(
            field,
            ScalarBuffer::from(offsets),
            ScalarBuffer::from(sizes),
            items,
            None,
        ))
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

    #[test]
    fn views_that_share_what_they_refer_to_count_each_for_itself() {
        let mega: ArrayRef = Arc::new(Int8Array::from(vec![0; 1 << 20]));
        assert!(!refused(views_of(Arc::clone(&mega), 100)));
        assert!(refused(views_of(mega, 300)));
        // Four times as many at each level.
        let few = views_of(Arc::new(Int8Array::from(vec![0; 1 << 10])), 1 << 10);
        assert!(!refused(Arc::clone(&few)));
        assert!(refused(views_of(few, 1 << 10)));
        let view = |length: u32| u128::from(length) | u128::from(u32::from_le_bytes(*b"xxxx")) << 32;
        let shared = |count: usize| {
            let views = ScalarBuffer::from(vec![view(1 << 20); count]);
            let buffers = vec![Buffer::from(vec![b'x'; 1 << 20])];
            Arc::new(StringViewArray::new(views, buffers, None)) as ArrayRef
        };
        assert!(!refused(shared(1_000)));
        assert!(refused(shared(1_100)));
        assert!(refused(views_of(shared(10), 100)));
    }

    #[test]
    fn columns_count_together() {
        let column = || views_of(Arc::new(Int8Array::from(vec![0; 1 << 20])), 100);
        let names = ["a", "b", "c"].into_iter();
        let batch = RecordBatch::try_from_iter(names.map(|name| (name, column()))).unwrap();
        assert!(check(&batch.project(&[0, 1]).unwrap()).is_ok());
        assert!(check(&batch).is_err());
    }

    #[test]
    fn runs_that_are_referred_to_are_refused_however_few_are() {
        let ends = Int64Array::from(vec![1_i64 << 40]);
        let runs: ArrayRef =
            Arc::new(RunArray::<Int64Type>::try_new(&ends, &StringArray::from(vec!["x"])).unwrap());
        let field = Arc::new(Field::new("item", runs.data_type().clone(), true));
        let (offsets, sizes) = (ScalarBuffer::from(vec![0]), ScalarBuffer::from(vec![7]));
        assert!(refused(Arc::new(ListViewArray::new(field, offsets, sizes, Arc::clone(&runs), None))));
        assert!(refused(Arc::new(DictionaryArray::<Int8Type>::new(Int8Array::from(vec![0]), runs))));
    }

    #[test]
    fn a_slice_counts_by_its_own_rows() {
        let ends = Int64Array::from(vec![1_i64 << 40]);
        let runs = RunArray::<Int64Type>::try_new(&ends, &Int32Array::from(vec![7])).unwrap();
        assert_eq!(written_out(&(Arc::new(runs.slice(5, 10)) as ArrayRef)), 40);
    }
}
