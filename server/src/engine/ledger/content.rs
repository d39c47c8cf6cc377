//! What a unit holds, as 128 bits: the same for the same rows, however they were cut into batches and encoded, and in
//! whatever capitals their table and columns are written.
//!
//! Each column is hashed on its own, as streams of nulls, lengths and values that go on from batch to batch. What
//! lies under a null does not count, and neither does the form: a dictionary is its values, which are never written out
//! as a whole. The numbers are kept on disk, so a change here makes units look changed that were committed before it;
//! [`super::spelling`] has what has changed so far.

#[cfg(test)]
mod digests;

use std::{iter::repeat_n, sync::Arc};

use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, OffsetSizeTrait, RecordBatch, UInt64Array, UnionArray,
    cast::AsArray,
    downcast_dictionary_array,
    types::{Decimal32Type, Decimal64Type, Decimal256Type},
};
use arrow_schema::{ArrowError, DataType, Schema};
use arrow_select::take::take;
use twox_hash::xxhash3_128::Hasher;

use super::spelling::{Spelling, put_named, put_text};
use crate::engine::runs::runs;

/// Rows of a dictionary with values of a fixed width that are written out at a time.
const PIECE_ROWS: usize = 1_024;
/// Bytes of small values that are hashed at a time.
const PIECE_BYTES: usize = 1 << 16;
/// Digits of a decimal that 128 bits hold.
const DIGITS_OF_128_BITS: u8 = 38;

/// Takes the batches of one unit.
pub(crate) struct Content {
    columns: Vec<Column>,
    head: Hasher,
    head_before: Hasher,
}

/// Where the rows of a unit go.
pub(crate) struct Destination {
    /// As any text, the same for all ways to write it.
    pub(crate) today: String,
    /// As it was hashed before.
    pub(crate) before: String,
}

/// The hashes of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hashes {
    /// The one that is kept,
    pub(crate) today: u128,
    /// and the one that was kept before.
    pub(crate) before: u128,
}

impl Content {
    /// Begins with where the rows go, and their schema.
    pub(crate) fn new(destination: &Destination, schema: &Schema) -> Self {
        let head = |destination: &str, spelling| {
            let mut head = Hasher::new();
            put_text(&mut head, destination);
            schema.fields().iter().for_each(|field| put_named(&mut head, field, spelling));
            head
        };
        Self {
            columns: schema.fields().iter().map(|_| Column::default()).collect(),
            head: head(&destination.today, Spelling::Today),
            head_before: head(&destination.before, Spelling::Before),
        }
    }

    /// Takes the next rows.
    ///
    /// # Errors
    /// What Arrow says of values that cannot be laid out plainly.
    pub(crate) fn add(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        self.columns.iter_mut().zip(batch.columns()).try_for_each(|(column, array)| column.add(array))
    }

    /// The hashes of all that was taken.
    pub(crate) fn finish(self) -> Hashes {
        let Self { columns, head, head_before } = self;
        let finish = |mut head: Hasher, spelling| {
            columns.iter().for_each(|column| column.finish_into(&mut head, spelling));
            head.finish_128()
        };
        Hashes { today: finish(head, Spelling::Today), before: finish(head_before, Spelling::Before) }
    }
}

/// One column, or a part of a nested one.
struct Column {
    rows: u64,
    nulls: Hasher,
    lengths: Hasher,
    values: Hasher,
    /// The values in the width that decimals of so many digits have in common, where they come in another.
    common: Option<Box<Hasher>>,
    children: Vec<Column>,
}

impl Default for Column {
    fn default() -> Self {
        let [nulls, lengths, values] = [Hasher::new(), Hasher::new(), Hasher::new()];
        Self { rows: 0, nulls, lengths, values, common: None, children: Vec::new() }
    }
}

impl Column {
    fn add(&mut self, array: &ArrayRef) -> Result<(), ArrowError> {
        match array.data_type() {
            DataType::Dictionary(_, _) => {
                let values = Arc::clone(array.as_any_dictionary().values());
                downcast_dictionary_array!(
                    array => self.add_referred(&values, array.keys_iter()),
                    _ => Ok(()),
                )
            }
            DataType::RunEndEncoded(_, _) => {
                let (values, runs) = runs(array)?;
                let rows = runs.into_iter().flat_map(|(value, rows)| repeat_n(Some(value), rows));
                self.add_referred(&values, rows)
            }
            // Many may share what they refer to.
            DataType::Utf8View | DataType::BinaryView => self.add_referred(array, (0..array.len()).map(Some)),
            _ => self.add_plain(array),
        }
    }

    fn add_plain(&mut self, array: &ArrayRef) -> Result<(), ArrowError> {
        if array.is_empty() {
            return Ok(());
        }
        self.add_nulls(array);
        match array.data_type() {
            DataType::Null => {}
            DataType::Boolean => {
                let bits = array.as_boolean();
                let bytes: Vec<u8> =
                    (0..bits.len()).map(|row| u8::from(bits.is_valid(row) && bits.value(row))).collect();
                self.values.write(&bytes);
            }
            DataType::Utf8 => {
                let texts = array.as_string::<i32>();
                self.add_bytes(array, texts.value_offsets(), texts.value_data());
            }
            DataType::LargeUtf8 => {
                let texts = array.as_string::<i64>();
                self.add_bytes(array, texts.value_offsets(), texts.value_data());
            }
            DataType::Binary => {
                let blobs = array.as_binary::<i32>();
                self.add_bytes(array, blobs.value_offsets(), blobs.value_data());
            }
            DataType::LargeBinary => {
                let blobs = array.as_binary::<i64>();
                self.add_bytes(array, blobs.value_offsets(), blobs.value_data());
            }
            DataType::List(_) => {
                let lists = array.as_list::<i32>();
                self.add_lists(array, lists.value_offsets(), lists.values())?;
            }
            DataType::LargeList(_) => {
                let lists = array.as_list::<i64>();
                self.add_lists(array, lists.value_offsets(), lists.values())?;
            }
            DataType::ListView(_) => self.add_list_views::<i32>(array)?,
            DataType::LargeListView(_) => self.add_list_views::<i64>(array)?,
            DataType::Map(_, _) => {
                let maps = array.as_map();
                let entries: ArrayRef = Arc::new(maps.entries().clone());
                self.add_lists(array, maps.value_offsets(), &entries)?;
            }
            DataType::FixedSizeList(_, size) => {
                let lists = array.as_fixed_size_list();
                let size = usize::try_from(*size).unwrap_or(0);
                let item = self.child(0);
                for (start, rows) in runs_of_values(array) {
                    item.add(&lists.values().slice(start * size, rows * size))?;
                }
            }
            DataType::Struct(fields) => {
                let parts = array.as_struct();
                for index in 0..fields.len() {
                    let part = self.child(index);
                    for (start, rows) in runs_of_values(array) {
                        part.add(&parts.column(index).slice(start, rows))?;
                    }
                }
            }
            DataType::Union(_, _) => self.add_union(array.as_union())?,
            fixed => self.add_fixed(array, fixed)?,
        }
        self.rows += array.len() as u64;
        Ok(())
    }

    /// Rows that refer to values, each of which may stand for many; `None` is a null.
    fn add_referred(
        &mut self,
        values: &ArrayRef,
        mut rows: impl Iterator<Item = Option<usize>>,
    ) -> Result<(), ArrowError> {
        if let Some(bytes) = bytes_at(values) {
            self.add_values(rows.map(|row| row.filter(|row| values.is_valid(*row)).map(&bytes)));
            return Ok(());
        }
        let at_a_time = if values.data_type().is_nested() { 1 } else { PIECE_ROWS };
        loop {
            let piece = rows.by_ref().take(at_a_time).map(|row| row.map(|value| value as u64));
            let piece: UInt64Array = piece.collect();
            if piece.is_empty() {
                return Ok(());
            }
            self.add(&take(values, &piece, None)?)?;
        }
    }

    /// Texts or blobs, one a row. They are put together before they are hashed, because a hasher takes few large pieces
    /// faster than many small ones.
    fn add_values<'a>(&mut self, rows: impl Iterator<Item = Option<&'a [u8]>>) {
        let (mut lengths, mut bytes) = (Vec::new(), Vec::new());
        for value in rows {
            if value.is_none() {
                self.nulls.write(&self.rows.to_le_bytes());
            }
            let value = value.unwrap_or_default();
            if bytes.len() + value.len() > PIECE_BYTES {
                self.values.write(&bytes);
                bytes.clear();
            }
            match value.len() > PIECE_BYTES {
                true => self.values.write(value),
                false => bytes.extend_from_slice(value),
            }
            if lengths.len() >= PIECE_BYTES {
                self.lengths.write(&lengths);
                lengths.clear();
            }
            lengths.extend_from_slice(&length(value.len()));
            self.rows += 1;
        }
        self.values.write(&bytes);
        self.lengths.write(&lengths);
    }

    fn add_nulls(&mut self, array: &ArrayRef) {
        let Some(nulls) = array.nulls().filter(|nulls| nulls.null_count() > 0) else { return };
        for row in (0..array.len()).filter(|row| nulls.is_null(*row)) {
            self.nulls.write(&(self.rows + row as u64).to_le_bytes());
        }
    }

    fn add_bytes<O: OffsetSizeTrait>(&mut self, array: &ArrayRef, offsets: &[O], data: &[u8]) {
        self.add_lengths(array, offsets);
        for (start, rows) in runs_of_values(array) {
            self.values.write(&data[offsets[start].as_usize()..offsets[start + rows].as_usize()]);
        }
    }

    fn add_lists<O: OffsetSizeTrait>(
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

    fn add_list_views<O: OffsetSizeTrait>(&mut self, array: &ArrayRef) -> Result<(), ArrowError> {
        let views = array.as_list_view::<O>();
        for row in 0..views.len() {
            let items = if views.is_valid(row) { views.value(row) } else { views.values().slice(0, 0) };
            self.lengths.write(&length(items.len()));
            self.child(0).add(&items)?;
        }
        Ok(())
    }

    fn add_lengths<O: OffsetSizeTrait>(&mut self, array: &ArrayRef, offsets: &[O]) {
        let of = |(row, pair): (usize, &[O])| match array.is_valid(row) {
            true => length((pair[1] - pair[0]).as_usize()),
            false => length(0),
        };
        self.lengths.write(&offsets.windows(2).enumerate().flat_map(of).collect::<Vec<_>>());
    }

    fn add_union(&mut self, union: &UnionArray) -> Result<(), ArrowError> {
        for row in 0..union.len() {
            let id = union.type_id(row);
            self.values.write(&[id.cast_unsigned()]);
            self.child(usize::from(id.cast_unsigned())).add(&union.value(row))?;
        }
        Ok(())
    }

    /// Values of one width, one after the other.
    fn add_fixed(&mut self, array: &ArrayRef, data_type: &DataType) -> Result<(), ArrowError> {
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

    fn child(&mut self, index: usize) -> &mut Self {
        while self.children.len() <= index {
            self.children.push(Self::default());
        }
        &mut self.children[index]
    }

    fn finish_into(&self, into: &mut Hasher, spelling: Spelling) {
        into.write(&self.rows.to_le_bytes());
        let values = match (&self.common, spelling) {
            (Some(common), Spelling::Today) => common,
            _ => &self.values,
        };
        for part in [&self.nulls, &self.lengths, values] {
            into.write(&part.finish_128().to_le_bytes());
        }
        into.write(&(self.children.len() as u64).to_le_bytes());
        for child in &self.children {
            child.finish_into(into, spelling);
        }
    }
}

/// How to get at a text or a blob among values; `None` where they are neither.
fn bytes_at<'a>(values: &'a ArrayRef) -> Option<Box<dyn Fn(usize) -> &'a [u8] + 'a>> {
    Some(match values.data_type() {
        DataType::Utf8 => {
            let texts = values.as_string::<i32>();
            Box::new(|row| texts.value(row).as_bytes())
        }
        DataType::LargeUtf8 => {
            let texts = values.as_string::<i64>();
            Box::new(|row| texts.value(row).as_bytes())
        }
        DataType::Utf8View => {
            let texts = values.as_string_view();
            Box::new(|row| texts.value(row).as_bytes())
        }
        DataType::Binary => {
            let blobs = values.as_binary::<i32>();
            Box::new(|row| blobs.value(row))
        }
        DataType::LargeBinary => {
            let blobs = values.as_binary::<i64>();
            Box::new(|row| blobs.value(row))
        }
        DataType::BinaryView => {
            let blobs = values.as_binary_view();
            Box::new(|row| blobs.value(row))
        }
        _ => return None,
    })
}

/// A length as it is hashed, whichever type counts it.
fn length(length: usize) -> [u8; 4] {
    i32::try_from(length).unwrap_or(i32::MAX).to_le_bytes()
}

/// Runs of rows that are not null, as start and length.
fn runs_of_values(array: &ArrayRef) -> Vec<(usize, usize)> {
    match array.nulls() {
        None => vec![(0, array.len())],
        Some(nulls) => nulls.valid_slices().map(|(start, end)| (start, end - start)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{
        Decimal128Array, DictionaryArray, Float64Array, Int16Array, Int32Array, Int64Array, LargeListArray,
        LargeStringArray, ListArray, ListViewArray, MapArray, RunArray, StringArray, StringViewArray,
        StructArray,
        types::{Int16Type, Int32Type},
    };
    use arrow_schema::Field;
    use arrow_select::concat::concat_batches;

    use super::*;

    fn to(table: &str) -> Destination {
        Destination { today: table.into(), before: table.into() }
    }

    fn hash(batches: &[RecordBatch]) -> Hashes {
        let mut content = Content::new(&to("t"), &batches[0].schema());
        batches.iter().for_each(|batch| content.add(batch).unwrap());
        content.finish()
    }

    fn hash_of(column: ArrayRef) -> Hashes {
        hash(&[batch(vec![("a", column)])])
    }

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
            .unwrap()
    }

    fn rows(from: i64) -> RecordBatch {
        let ids: Vec<_> = (from..from + 10).collect();
        let names = ids.iter().map(|id| (id % 3 != 0).then(|| format!("name {id}")));
        let lists = ids.iter().map(|id| {
            (id % 4 != 0).then(|| (0..id % 5).map(|n| (n != 2).then_some(n as i32)).collect::<Vec<_>>())
        });
        let floats = ids.iter().map(|id| (id % 5 != 0).then_some(*id as f64));
        batch(vec![
            ("id", Arc::new(Int64Array::from(ids.clone()))),
            ("name", Arc::new(names.collect::<StringArray>())),
            ("list", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists))),
            ("float", Arc::new(floats.collect::<Float64Array>())),
        ])
    }

    #[test]
    fn batches_may_be_cut_anywhere() {
        let whole = concat_batches(&rows(0).schema(), &[rows(0), rows(10), rows(20)]).unwrap();
        let expected = hash(std::slice::from_ref(&whole));
        assert_eq!(hash(&[rows(0), rows(10), rows(20)]), expected);
        for cut in 0..=30 {
            assert_eq!(hash(&[whole.slice(0, cut), whole.slice(cut, 30 - cut)]), expected, "{cut}");
        }
    }

    #[test]
    fn any_other_row_makes_it_another() {
        let hashes: Vec<_> = (0..20).map(|from| hash(&[rows(from)])).collect();
        let distinct: std::collections::HashSet<_> = hashes.iter().map(|hash| hash.today).collect();
        assert_eq!(distinct.len(), hashes.len());
        assert_ne!(hash(&[rows(0), rows(10)]), hash(&[rows(10), rows(0)]));
        assert_ne!(hash(&[rows(0)]), hash(&[rows(0).slice(0, 9)]));
    }

    #[test]
    fn the_form_of_a_column_does_not_count() {
        let texts = vec![Some("a"), None, Some("b"), Some("b"), Some("a text that is longer than a view")];
        let dictionary: DictionaryArray<Int32Type> = texts.clone().into_iter().collect();
        let runs: RunArray<Int16Type> = texts.clone().into_iter().collect();
        let keys = Int32Array::from(vec![Some(0), Some(1), Some(2), Some(2), Some(3)]);
        let values = StringViewArray::from(vec![Some("a"), None, Some("b"), texts[4]]);
        let forms: [ArrayRef; 6] = [
            Arc::new(StringArray::from(texts.clone())),
            Arc::new(LargeStringArray::from(texts.clone())),
            Arc::new(StringViewArray::from(texts)),
            Arc::new(dictionary),
            Arc::new(runs),
            Arc::new(DictionaryArray::<Int32Type>::new(keys, Arc::new(values))),
        ];
        let hashes = forms.map(hash_of);
        assert_eq!(hashes, [hashes[0]; 6]);
    }

    #[test]
    fn pieces_in_which_values_are_hashed_do_not_count() {
        let texts: Vec<_> =
            (0..40_000).map(|row| "x".repeat(if row % 997 == 0 { 70_000 } else { row % 7 })).collect();
        let plain: ArrayRef = Arc::new(StringArray::from_iter_values(&texts));
        let views: ArrayRef = Arc::new(StringViewArray::from_iter_values(&texts));
        assert_eq!(hash_of(plain), hash_of(views));
    }

    #[test]
    fn the_form_of_numbers_and_lists_does_not_count() {
        let numbers = vec![Some(7), None, Some(8), Some(8)];
        let keys = Int32Array::from(vec![Some(1), None, Some(0), Some(0)]);
        let values = Int64Array::from(vec![8, 7]);
        let forms: [ArrayRef; 3] = [
            Arc::new(Int64Array::from(numbers.clone())),
            Arc::new(DictionaryArray::<Int32Type>::new(keys, Arc::new(values))),
            Arc::new(
                RunArray::<Int16Type>::try_new(
                    &Int16Array::from(vec![1, 2, 4]),
                    &Int64Array::from(vec![Some(7), None, Some(8)]),
                )
                .unwrap(),
            ),
        ];
        let hashes = forms.map(hash_of);
        assert_eq!(hashes, [hashes[0]; 3]);
        let lists = vec![Some(vec![Some(1), None]), None, Some(vec![]), Some(vec![Some(1), None])];
        let distinct = ListArray::from_iter_primitive::<Int32Type, _, _>(lists[..3].to_vec());
        let keys = Int32Array::from(vec![Some(0), None, Some(2), Some(0)]);
        let forms: [ArrayRef; 4] = [
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists.clone())),
            Arc::new(LargeListArray::from_iter_primitive::<Int32Type, _, _>(lists.clone())),
            Arc::new(ListViewArray::from_iter_primitive::<Int32Type, _, _>(lists)),
            Arc::new(DictionaryArray::<Int32Type>::new(keys, Arc::new(distinct))),
        ];
        let hashes = forms.map(hash_of);
        assert_eq!(hashes, [hashes[0]; 4]);
    }

    #[test]
    fn what_shares_its_bytes_is_never_written_out() {
        // 2 GiB and more, whose offsets would not fit either.
        let view = u128::from(1_u32 << 20) | u128::from(u32::from_le_bytes(*b"xxxx")) << 32;
        let views = vec![view; 2_100].into();
        let buffers = vec![arrow_buffer::Buffer::from(vec![b'x'; 1 << 20])];
        let shared: ArrayRef = Arc::new(StringViewArray::new(views, buffers, None));
        assert_ne!(hash_of(Arc::clone(&shared)), hash_of(shared.slice(0, 2_099)));
    }

    #[test]
    fn names_that_mean_nothing_do_not_count_today() {
        let list = |name: &str| {
            let item = Arc::new(Field::new(name, DataType::Int32, true));
            let offsets = arrow_buffer::OffsetBuffer::from_lengths([2, 1]);
            let items: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3]));
            Arc::new(ListArray::new(item, offsets, items, None)) as ArrayRef
        };
        let map = |key: &str, value: &str| {
            let fields = [key, value].map(|name| Arc::new(Field::new(name, DataType::Int32, false)));
            let columns: Vec<ArrayRef> =
                vec![Arc::new(Int32Array::from(vec![1])), Arc::new(Int32Array::from(vec![2]))];
            let entries = StructArray::new(fields.to_vec().into(), columns, None);
            let field = Arc::new(Field::new(format!("{key}s"), entries.data_type().clone(), false));
            let offsets = arrow_buffer::OffsetBuffer::from_lengths([1]);
            Arc::new(MapArray::new(field, offsets, entries, None, false)) as ArrayRef
        };
        for (one, other) in [(list("item"), list("element")), (map("key", "value"), map("k", "v"))] {
            let (one, other) = (hash_of(one), hash_of(other));
            assert_eq!(one.today, other.today);
            assert_ne!(one.before, other.before);
        }
        let number = || Arc::new(Int32Array::from(vec![1])) as ArrayRef;
        let [small, large] = ["id", "ID"].map(|name| hash(&[batch(vec![(name, number())])]));
        assert_eq!(small.today, large.today);
        assert_ne!(small.before, large.before);
        let member = |name: &str| {
            let fields = vec![Arc::new(Field::new(name, DataType::Int32, true))];
            hash_of(Arc::new(StructArray::new(fields.into(), vec![number()], None)))
        };
        assert_eq!(member("x").today, member("X").today);
        assert_ne!(member("x").today, member("y").today);
    }

    #[test]
    fn decimals_of_so_many_digits_are_the_same_in_any_width() {
        let numbers = [Some(-12_345_i128), None, Some(99)];
        let wide: ArrayRef = Arc::new(
            numbers.iter().copied().collect::<Decimal128Array>().with_precision_and_scale(9, 2).unwrap(),
        );
        let in_type = |data_type: DataType| arrow_cast::cast(&wide, &data_type).unwrap();
        let forms = [
            DataType::Decimal32(9, 2),
            DataType::Decimal64(9, 2),
            DataType::Decimal128(9, 2),
            DataType::Decimal256(9, 2),
        ];
        let hashes = forms.map(|form| hash_of(in_type(form)));
        assert!(hashes.iter().all(|hash| hash.today == hashes[0].today), "{hashes:?}");
        assert_ne!(hash_of(in_type(DataType::Decimal128(9, 3))).today, hashes[0].today);
        assert_ne!(hash_of(in_type(DataType::Decimal128(10, 2))).today, hashes[0].today);
    }

    #[test]
    fn units_that_were_committed_before_are_known() {
        // As it was hashed before there were two spellings.
        assert_eq!(hash(&[rows(0), rows(10)]).before, 306_990_220_360_170_653_153_346_115_436_628_923_183);
    }

    #[test]
    fn what_lies_under_a_null_does_not_count() {
        let valid = || Some(vec![true, false, true].into());
        let numbers = |under| Arc::new(Int32Array::new(vec![1, under, 3].into(), valid())) as ArrayRef;
        assert_eq!(hash(&[batch(vec![("a", numbers(7))])]), hash(&[batch(vec![("a", numbers(8))])]));
        let structs = |under| {
            let field = Arc::new(Field::new("x", DataType::Int32, true));
            let inner = Arc::new(Int32Array::from(vec![1, under, 3])) as ArrayRef;
            Arc::new(StructArray::new(vec![field].into(), vec![inner], valid())) as ArrayRef
        };
        assert_eq!(hash(&[batch(vec![("a", structs(7))])]), hash(&[batch(vec![("a", structs(8))])]));
        assert_ne!(
            hash(&[batch(vec![("a", numbers(7))])]),
            hash(&[batch(vec![("a", Arc::new(Int32Array::from(vec![1, 7, 3])))])])
        );
    }

    #[test]
    fn destination_and_schema_count() {
        let schema = rows(0).schema();
        assert_ne!(Content::new(&to("a"), &schema).finish(), Content::new(&to("b"), &schema).finish());
        let narrow = batch(vec![("a", Arc::new(Int32Array::from(vec![1])))]);
        let wide = batch(vec![("a", Arc::new(Int64Array::from(vec![1])))]);
        assert_ne!(hash(&[narrow]), hash(&[wide]));
    }
}
