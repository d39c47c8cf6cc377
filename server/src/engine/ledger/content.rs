//! What a unit holds, as 128 bits: the same for the same rows, however they were cut into batches and encoded.
//!
//! Each column is hashed on its own, as streams of nulls, lengths and values that go on from batch to batch. What
//! lies under a null does not count, and neither does the form: a dictionary is its values. The numbers are kept on
//! disk, so a change here makes units look changed that were committed before it.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, UnionArray, cast::AsArray};
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType, Field, Schema};
use twox_hash::xxhash3_128::Hasher;

/// Takes the batches of one unit.
pub(crate) struct Content {
    columns: Vec<Column>,
    head: Hasher,
}

impl Content {
    /// Begins with where the rows go, as any text, and their schema.
    pub(crate) fn new(destination: &str, schema: &Schema) -> Self {
        let mut head = Hasher::new();
        put_text(&mut head, destination);
        for field in schema.fields() {
            put_field(&mut head, field);
        }
        Self { columns: schema.fields().iter().map(|_| Column::default()).collect(), head }
    }

    /// Takes the next rows.
    ///
    /// # Errors
    /// What Arrow says of values that cannot be laid out plainly.
    pub(crate) fn add(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        self.columns.iter_mut().zip(batch.columns()).try_for_each(|(column, array)| column.add(array))
    }

    /// The hash of all that was taken.
    pub(crate) fn finish(mut self) -> u128 {
        for column in &self.columns {
            column.finish_into(&mut self.head);
        }
        self.head.finish_128()
    }
}

/// One column, or a part of a nested one.
struct Column {
    rows: u64,
    nulls: Hasher,
    lengths: Hasher,
    values: Hasher,
    children: Vec<Column>,
}

impl Default for Column {
    fn default() -> Self {
        let [nulls, lengths, values] = [Hasher::new(), Hasher::new(), Hasher::new()];
        Self { rows: 0, nulls, lengths, values, children: Vec::new() }
    }
}

impl Column {
    fn add(&mut self, array: &ArrayRef) -> Result<(), ArrowError> {
        let plain = plain(array.data_type());
        if plain != *array.data_type() {
            return self.add_plain(&cast(array, &plain)?);
        }
        self.add_plain(array)
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
            DataType::Binary => {
                let blobs = array.as_binary::<i32>();
                self.add_bytes(array, blobs.value_offsets(), blobs.value_data());
            }
            DataType::List(_) => {
                let lists = array.as_list::<i32>();
                self.add_lists(array, lists.value_offsets(), lists.values())?;
            }
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

    fn add_nulls(&mut self, array: &ArrayRef) {
        let Some(nulls) = array.nulls().filter(|nulls| nulls.null_count() > 0) else { return };
        for row in (0..array.len()).filter(|row| nulls.is_null(*row)) {
            self.nulls.write(&(self.rows + row as u64).to_le_bytes());
        }
    }

    fn add_bytes(&mut self, array: &ArrayRef, offsets: &[i32], data: &[u8]) {
        self.add_lengths(array, offsets);
        for (start, rows) in runs_of_values(array) {
            self.values.write(&data[offsets[start] as usize..offsets[start + rows] as usize]);
        }
    }

    fn add_lists(&mut self, array: &ArrayRef, offsets: &[i32], values: &ArrayRef) -> Result<(), ArrowError> {
        self.add_lengths(array, offsets);
        let item = self.child(0);
        for (start, rows) in runs_of_values(array) {
            let (from, to) = (offsets[start] as usize, offsets[start + rows] as usize);
            item.add(&values.slice(from, to - from))?;
        }
        Ok(())
    }

    fn add_lengths(&mut self, array: &ArrayRef, offsets: &[i32]) {
        let length = |(row, pair): (usize, &[i32])| match array.is_valid(row) {
            true => pair[1] - pair[0],
            false => 0,
        };
        let lengths = offsets.windows(2).enumerate().map(length);
        self.lengths.write(&lengths.flat_map(i32::to_le_bytes).collect::<Vec<_>>());
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
        Ok(())
    }

    fn child(&mut self, index: usize) -> &mut Self {
        while self.children.len() <= index {
            self.children.push(Self::default());
        }
        &mut self.children[index]
    }

    fn finish_into(&self, into: &mut Hasher) {
        into.write(&self.rows.to_le_bytes());
        for part in [&self.nulls, &self.lengths, &self.values] {
            into.write(&part.finish_128().to_le_bytes());
        }
        into.write(&(self.children.len() as u64).to_le_bytes());
        for child in &self.children {
            child.finish_into(into);
        }
    }
}

/// Runs of rows that are not null, as start and length.
fn runs_of_values(array: &ArrayRef) -> Vec<(usize, usize)> {
    match array.nulls() {
        None => vec![(0, array.len())],
        Some(nulls) => nulls.valid_slices().map(|(start, end)| (start, end - start)).collect(),
    }
}

/// The type in which the values of another are hashed.
fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => plain(values),
        DataType::RunEndEncoded(_, values) => plain(values.data_type()),
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        // What is inside becomes plain when it is reached.
        DataType::LargeList(item) | DataType::ListView(item) | DataType::LargeListView(item) => {
            DataType::List(Arc::clone(item))
        }
        other => other.clone(),
    }
}

fn put_field(into: &mut Hasher, field: &Field) {
    put_text(into, field.name());
    put_type(into, field.data_type());
    for (key, value) in sorted(field) {
        put_text(into, key);
        put_text(into, value);
    }
}

/// The metadata that makes a column another type.
fn sorted(field: &Field) -> Vec<(&String, &String)> {
    let extension = |(key, _): &(&String, &String)| key.starts_with("ARROW:extension:");
    let mut metadata: Vec<_> = field.metadata().iter().filter(extension).collect();
    metadata.sort();
    metadata
}

fn put_type(into: &mut Hasher, data_type: &DataType) {
    let plain = plain(data_type);
    let (name, fields): (String, Vec<&Field>) = match &plain {
        DataType::List(item) => ("List".into(), vec![item]),
        DataType::FixedSizeList(item, size) => (format!("FixedSizeList {size}"), vec![item]),
        DataType::Struct(fields) => ("Struct".into(), fields.iter().map(AsRef::as_ref).collect()),
        DataType::Map(entries, _) => ("Map".into(), vec![entries]),
        DataType::Union(fields, _) => {
            ("Union".into(), fields.iter().map(|(_, field)| field.as_ref()).collect())
        }
        other => (format!("{other:?}"), Vec::new()),
    };
    put_text(into, &name);
    into.write(&(fields.len() as u64).to_le_bytes());
    for field in fields {
        put_field(into, field);
    }
}

/// With its length, so that two texts are not another two.
fn put_text(into: &mut Hasher, text: &str) {
    into.write(&(text.len() as u64).to_le_bytes());
    into.write(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use arrow_array::{
        DictionaryArray, Float64Array, Int32Array, Int64Array, ListArray, StringArray, StringViewArray,
        StructArray, types::Int32Type,
    };
    use arrow_select::concat::concat_batches;

    use super::*;

    fn hash(batches: &[RecordBatch]) -> u128 {
        let mut content = Content::new("t", &batches[0].schema());
        batches.iter().for_each(|batch| content.add(batch).unwrap());
        content.finish()
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
        let distinct: std::collections::HashSet<_> = hashes.iter().collect();
        assert_eq!(distinct.len(), hashes.len());
        assert_ne!(hash(&[rows(0), rows(10)]), hash(&[rows(10), rows(0)]));
        assert_ne!(hash(&[rows(0)]), hash(&[rows(0).slice(0, 9)]));
    }

    #[test]
    fn the_form_of_a_column_does_not_count() {
        let texts = vec![Some("a"), None, Some("b"), Some("a")];
        let dictionary: DictionaryArray<Int32Type> = texts.clone().into_iter().collect();
        let forms: [ArrayRef; 3] = [
            Arc::new(StringArray::from(texts.clone())),
            Arc::new(StringViewArray::from(texts)),
            Arc::new(dictionary),
        ];
        let hashes = forms.map(|form| hash(&[batch(vec![("a", form)])]));
        assert_eq!(hashes[0], hashes[1]);
        assert_eq!(hashes[0], hashes[2]);
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
        assert_ne!(Content::new("a", &schema).finish(), Content::new("b", &schema).finish());
        let narrow = batch(vec![("a", Arc::new(Int32Array::from(vec![1])))]);
        let wide = batch(vec![("a", Arc::new(Int64Array::from(vec![1])))]);
        assert_ne!(hash(&[narrow]), hash(&[wide]));
    }
}
