//! Views of lists, which may share their items, as lists one after the other.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, GenericListArray, OffsetSizeTrait, UInt64Array, cast::AsArray, make_array,
};
use arrow_buffer::OffsetBuffer;
use arrow_data::transform::MutableArrayData;
use arrow_schema::{ArrowError, DataType, FieldRef, IntervalUnit};
use arrow_select::take::take;

/// The lists that views of this item are; a null has no items. What they take, [`super::expansion`] has bounded before.
pub(super) fn as_lists<O: OffsetSizeTrait>(
    array: &ArrayRef,
    item: &FieldRef,
) -> Result<ArrayRef, ArrowError> {
    let views = array.as_list_view::<O>();
    let ranges = views.offsets().iter().zip(views.sizes()).enumerate().map(|(row, (offset, size))| {
        let size = if views.is_null(row) { 0 } else { size.as_usize() };
        (offset.as_usize(), size)
    });
    let all = ranges.clone().map(|(_, size)| size).sum();
    if O::from_usize(all).is_none() {
        return Err(ArrowError::OffsetOverflowError(all));
    }
    let offsets = OffsetBuffer::from_lengths(ranges.clone().map(|(_, size)| size));
    let items = gathered(views.values(), &joined(ranges), all)?;
    Ok(Arc::new(GenericListArray::<O>::try_new(Arc::clone(item), offsets, items, views.nulls().cloned())?))
}

/// Ranges of items, by place and number, those that follow each other as one.
fn joined(ranges: impl Iterator<Item = (usize, usize)>) -> Vec<(usize, usize)> {
    let mut joined: Vec<(usize, usize)> = Vec::new();
    for (offset, size) in ranges.filter(|(_, size)| *size > 0) {
        match joined.last_mut() {
            Some((first, count)) if *first + *count == offset => *count += size,
            _ => joined.push((offset, size)),
        }
    }
    joined
}

fn gathered(items: &ArrayRef, ranges: &[(usize, usize)], all: usize) -> Result<ArrayRef, ArrowError> {
    Ok(match ranges {
        [] => items.slice(0, 0),
        // As most views come.
        [(offset, size)] => items.slice(*offset, *size),
        // Arrow's library copies ranges of these as if they lay at multiples of 16 bytes, which in a message they need not.
        many if has_intervals(items.data_type()) => {
            let places = many.iter().flat_map(|(offset, size)| *offset as u64..(offset + size) as u64);
            return take(items, &UInt64Array::from_iter_values(places), None);
        }
        many => {
            let data = items.to_data();
            let mut gathered = MutableArrayData::new(vec![&data], false, all);
            many.iter().for_each(|(offset, size)| gathered.extend(0, *offset, offset + size));
            make_array(gathered.freeze())
        }
    })
}

/// Whether there are intervals of months, days and nanoseconds, at any depth.
fn has_intervals(data_type: &DataType) -> bool {
    match data_type {
        DataType::Interval(unit) => *unit == IntervalUnit::MonthDayNano,
        DataType::Dictionary(_, values) => has_intervals(values),
        DataType::Struct(fields) => fields.iter().any(|field| has_intervals(field.data_type())),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => has_intervals(item.data_type()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{Int32Array, ListArray, ListViewArray, types::Int32Type};
    use arrow_buffer::ScalarBuffer;
    use arrow_schema::Field;

    use super::*;

    #[test]
    fn views_in_any_order_that_share_items_become_lists() {
        let field = Arc::new(Field::new("item", DataType::Int32, true));
        let items: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None, Some(3), Some(4)]));
        let (offsets, sizes) = (ScalarBuffer::from(vec![2, 0, 0, 1]), ScalarBuffer::from(vec![2, 3, 4, 0]));
        let nulls = Some(vec![true, true, false, true].into());
        let views: ArrayRef = Arc::new(ListViewArray::new(Arc::clone(&field), offsets, sizes, items, nulls));
        let expected = ListArray::from_iter_primitive::<Int32Type, _, _>([
            Some(vec![Some(3), Some(4)]),
            Some(vec![Some(1), None, Some(3)]),
            None,
            Some(vec![]),
        ]);
        assert_eq!(as_lists::<i32>(&views, &field).unwrap().as_list::<i32>(), &expected);
    }
}
