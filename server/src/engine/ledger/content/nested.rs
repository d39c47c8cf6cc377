//! Values that are made of others: lists, maps, structs and unions.

use arrow_array::{
    Array, ArrayRef, FixedSizeListArray, OffsetSizeTrait, StructArray, UnionArray, cast::AsArray,
};
use arrow_schema::ArrowError;

use super::column::{Column, length, runs_of_values};

impl Column {
    pub(super) fn add_lists<O: OffsetSizeTrait>(
        &mut self,
        array: &ArrayRef,
        offsets: &[O],
        values: &ArrayRef,
    ) -> Result<(), ArrowError> {
        self.add_lengths(array, offsets);
        let item = self.child(0);
        for (start, rows) in runs_of_values(array) {
            let (from, to) = (offsets[start].as_usize(), offsets[start + rows].as_usize());
            item.add(&values.slice(from, to - from))?;
        }
        Ok(())
    }

    pub(super) fn add_list_views<O: OffsetSizeTrait>(&mut self, array: &ArrayRef) -> Result<(), ArrowError> {
        let views = array.as_list_view::<O>();
        for row in 0..views.len() {
            let items = if views.is_valid(row) { views.value(row) } else { views.values().slice(0, 0) };
            self.lengths.write(&length(items.len()));
            self.child(0).add(&items)?;
        }
        Ok(())
    }

    /// Of what is null, a length counts as none.
    pub(super) fn add_lengths<O: OffsetSizeTrait>(&mut self, array: &ArrayRef, offsets: &[O]) {
        let of = |(row, pair): (usize, &[O])| match array.is_valid(row) {
            true => length((pair[1] - pair[0]).as_usize()),
            false => length(0),
        };
        self.lengths.write(&offsets.windows(2).enumerate().flat_map(of).collect::<Vec<_>>());
    }

    pub(super) fn add_fixed_size_lists(&mut self, lists: &FixedSizeListArray) -> Result<(), ArrowError> {
        let size = usize::try_from(lists.value_length()).unwrap_or(0);
        let item = self.child(0);
        for (start, rows) in runs_of_values(lists) {
            item.add(&lists.values().slice(start * size, rows * size))?;
        }
        Ok(())
    }

    pub(super) fn add_structs(&mut self, structs: &StructArray) -> Result<(), ArrowError> {
        for (index, column) in structs.columns().iter().enumerate() {
            let part = self.child(index);
            for (start, rows) in runs_of_values(structs) {
                part.add(&column.slice(start, rows))?;
            }
        }
        Ok(())
    }

    pub(super) fn add_union(&mut self, union: &UnionArray) -> Result<(), ArrowError> {
        for row in 0..union.len() {
            let id = union.type_id(row);
            self.values.write(&[id.cast_unsigned()]);
            self.child(usize::from(id.cast_unsigned())).add(&union.value(row))?;
        }
        Ok(())
    }
}
