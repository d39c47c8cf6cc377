//! What lies under a null, or between lists, is no value: it may be anything, and is not looked at.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, FixedSizeListArray, GenericListArray, GenericListViewArray,
    MapArray, OffsetSizeTrait, PrimitiveArray, StructArray, cast::AsArray, downcast_primitive_array,
};
use arrow_buffer::{BooleanBufferBuilder, NullBuffer, OffsetBuffer};
use arrow_schema::{ArrowError, DataType};

/// Values of lists as far as the lists reach, with the offsets of the lists in them.
pub(super) fn reached<O: OffsetSizeTrait>(
    values: &ArrayRef,
    offsets: &OffsetBuffer<O>,
) -> (ArrayRef, OffsetBuffer<O>) {
    let (first, last) = (offsets[0].as_usize(), offsets[offsets.len() - 1].as_usize());
    if first == 0 && last == values.len() {
        return (Arc::clone(values), offsets.clone());
    }
    let offsets = match first {
        0 => offsets.clone(),
        _ => OffsetBuffer::from_lengths(offsets.lengths()),
    };
    (values.slice(first, last - first), offsets)
}

/// Which of the values of lists belong to a list that is not null; `None` where all do.
pub(super) fn in_lists<O: OffsetSizeTrait>(
    offsets: &OffsetBuffer<O>,
    nulls: Option<&NullBuffer>,
) -> Option<NullBuffer> {
    let nulls = nulls.filter(|nulls| nulls.null_count() > 0)?;
    let hides = offsets.lengths().enumerate().any(|(row, length)| length > 0 && nulls.is_null(row));
    if !hides {
        return None;
    }
    let mut shown = BooleanBufferBuilder::new(offsets[offsets.len() - 1].as_usize());
    offsets.lengths().enumerate().for_each(|(row, length)| shown.append_n(length, nulls.is_valid(row)));
    Some(NullBuffer::new(shown.finish()))
}

/// Does something to an array with all values taken for null that do not show, and gives the result with the nulls that
/// the array has.
pub(super) fn with_hidden_as_null<E: From<ArrowError>>(
    array: &ArrayRef,
    shown: Option<&NullBuffer>,
    work: impl FnOnce(&ArrayRef) -> Result<ArrayRef, E>,
) -> Result<ArrayRef, E> {
    let Some(shown) = shown.filter(|shown| shown.null_count() > 0) else { return work(array) };
    let masked = with_nulls(array, NullBuffer::union(array.nulls(), Some(shown)))?;
    Ok(with_nulls(&work(&masked)?, array.nulls().cloned())?)
}

/// The same numbers with 0 under the nulls; other types as they are.
pub(super) fn zero_under_null(array: &ArrayRef) -> ArrayRef {
    if array.null_count() == 0 {
        return Arc::clone(array);
    }
    downcast_primitive_array!(
        array => zeroed(array),
        _ => Arc::clone(array),
    )
}

fn zeroed<T: ArrowPrimitiveType>(array: &PrimitiveArray<T>) -> ArrayRef {
    let zeroed: PrimitiveArray<T> = array.iter().collect();
    Arc::new(zeroed.with_data_type(array.data_type().clone()))
}

/// The same values with other nulls, for types that have anything to look at.
fn with_nulls(array: &ArrayRef, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
    Ok(downcast_primitive_array!(
        array => numbers(array, nulls)?,
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns().to_vec();
            Arc::new(StructArray::try_new_with_length(fields.clone(), columns, nulls, array.len())?)
        }
        DataType::List(item) => {
            let lists = array.as_list::<i32>();
            let (offsets, values) = (lists.offsets().clone(), Arc::clone(lists.values()));
            Arc::new(GenericListArray::try_new(Arc::clone(item), offsets, values, nulls)?)
        }
        DataType::LargeList(item) => {
            let lists = array.as_list::<i64>();
            let (offsets, values) = (lists.offsets().clone(), Arc::clone(lists.values()));
            Arc::new(GenericListArray::try_new(Arc::clone(item), offsets, values, nulls)?)
        }
        DataType::ListView(item) => {
            let views = array.as_list_view::<i32>();
            let (offsets, sizes) = (views.offsets().clone(), views.sizes().clone());
            Arc::new(GenericListViewArray::try_new(
                Arc::clone(item), offsets, sizes, Arc::clone(views.values()), nulls,
            )?)
        }
        DataType::LargeListView(item) => {
            let views = array.as_list_view::<i64>();
            let (offsets, sizes) = (views.offsets().clone(), views.sizes().clone());
            Arc::new(GenericListViewArray::try_new(
                Arc::clone(item), offsets, sizes, Arc::clone(views.values()), nulls,
            )?)
        }
        DataType::FixedSizeList(item, size) => {
            let values = Arc::clone(array.as_fixed_size_list().values());
            Arc::new(FixedSizeListArray::try_new_with_length(
                Arc::clone(item), *size, values, nulls, array.len(),
            )?)
        }
        DataType::Map(entries, sorted) => {
            let map = array.as_map();
            let (offsets, values) = (map.offsets().clone(), map.entries().clone());
            Arc::new(MapArray::try_new(Arc::clone(entries), offsets, values, nulls, *sorted)?)
        }
        _ => Arc::clone(array),
    ))
}

fn numbers<T: ArrowPrimitiveType>(
    array: &PrimitiveArray<T>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, ArrowError> {
    let numbers = PrimitiveArray::<T>::try_new(array.values().clone(), nulls)?;
    Ok(Arc::new(numbers.with_data_type(array.data_type().clone())))
}
