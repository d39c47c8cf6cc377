//! Values of JSON to columns: each exactly as it is written, or not at all.

use std::{collections::HashMap, sync::Arc};

use arrow_array::{
    ArrayRef, FixedSizeListArray, ListArray, MapArray, StructArray,
    builder::{NullBufferBuilder, OffsetBufferBuilder, StringBuilder},
};
use arrow_schema::{ArrowError, DataType, FieldRef, Fields};

use super::{
    cells::{Cells, cells, texts},
    json_scan::Scan,
};

/// Members of objects, which become a column each.
pub(super) struct Objects {
    fields: Fields,
    names: HashMap<String, usize>,
    columns: Vec<Column>,
    /// How many values each column has.
    filled: Vec<usize>,
    count: usize,
}

impl Objects {
    pub(super) fn new(fields: &Fields) -> Self {
        let names = fields.iter().enumerate().map(|(place, field)| (field.name().clone(), place));
        Self {
            fields: fields.clone(),
            names: names.collect(),
            columns: fields.iter().map(|field| Column::new(field.data_type())).collect(),
            filled: vec![0; fields.len()],
            count: 0,
        }
    }

    /// Takes in an object; where a member does not fit, its name and how it is written.
    pub(super) fn push<'a>(&mut self, scan: &mut Scan<'a>) -> Result<(), Misfit<'a>> {
        self.count += 1;
        let mut next = 0;
        scan.each(b'}', |scan| {
            let place = scan.name().and_then(|name| self.place(&name, next));
            let mut ahead = scan.clone();
            let Some(place) = place.filter(|place| self.filled[*place] < self.count) else {
                return Err(Misfit { place: None, written: ahead.value() });
            };
            next = place + 1;
            self.filled[place] = self.count;
            if self.columns[place].push(scan) {
                return Ok(());
            }
            Err(Misfit { place: Some(place), written: ahead.value() })
        })?;
        for (column, filled) in self.columns.iter_mut().zip(&mut self.filled) {
            if std::mem::replace(filled, self.count) < self.count {
                column.push_null();
            }
        }
        Ok(())
    }

    fn push_null(&mut self) {
        self.count += 1;
        self.filled.fill(self.count);
        self.columns.iter_mut().for_each(Column::push_null);
    }

    /// The columns so far; the next ones begin.
    pub(super) fn finish(&mut self) -> Result<Vec<ArrayRef>, ArrowError> {
        self.count = 0;
        self.filled.fill(0);
        self.columns.iter_mut().map(Column::finish).collect()
    }

    /// Where a member stands: most objects have the same ones in the same order.
    fn place(&self, name: &str, likely: usize) -> Option<usize> {
        let as_before = self.fields.get(likely).is_some_and(|field| field.name() == name);
        if as_before { Some(likely) } else { self.names.get(name).copied() }
    }
}

/// A value that its column does not hold, or for which there is no column.
pub(super) struct Misfit<'a> {
    pub(super) place: Option<usize>,
    pub(super) written: &'a str,
}

enum Column {
    /// What is no text itself stands there as it is written.
    Text(StringBuilder),
    Single(Box<dyn Cells>),
    List(Items),
    /// With the number of items that each list has.
    Array(Items, i32),
    Map(Entries),
    Struct(Objects, NullBufferBuilder),
}

/// Lists, one after the other.
struct Items {
    field: FieldRef,
    values: Box<Column>,
    offsets: OffsetBufferBuilder<i32>,
    nulls: NullBufferBuilder,
}

/// Maps, one after the other.
struct Entries {
    field: FieldRef,
    keys: Box<dyn Cells>,
    values: Box<Column>,
    offsets: OffsetBufferBuilder<i32>,
    nulls: NullBufferBuilder,
}

impl Column {
    fn new(data_type: &DataType) -> Self {
        match data_type {
            DataType::Utf8 => Self::Text(StringBuilder::new()),
            DataType::List(item) => Self::List(Items::new(item)),
            DataType::FixedSizeList(item, size) => Self::Array(Items::new(item), *size),
            DataType::Struct(fields) => Self::Struct(Objects::new(fields), NullBufferBuilder::new(0)),
            DataType::Map(entries, _) => Self::Map(Entries::new(entries)),
            single => Self::Single(cells(single).unwrap_or_else(texts)),
        }
    }

    fn push_null(&mut self) {
        match self {
            Self::Text(texts) => texts.append_null(),
            Self::Single(cells) => cells.push_null(),
            Self::List(items) => items.push(0, false),
            Self::Array(items, size) => {
                (0..*size).for_each(|_| items.values.push_null());
                items.push(usize::try_from(*size).unwrap_or(0), false);
            }
            Self::Map(entries) => entries.push(0, false),
            Self::Struct(objects, nulls) => {
                objects.push_null();
                nulls.append_null();
            }
        }
    }

    /// Takes in a value; false where the type cannot hold it.
    fn push(&mut self, scan: &mut Scan<'_>) -> bool {
        let first = scan.peek();
        if first == b'n' {
            scan.value();
            self.push_null();
            return true;
        }
        match (self, first) {
            (Self::Text(texts), b'"') => {
                let Some(text) = scan.string() else { return false };
                texts.append_value(text);
                true
            }
            (Self::Text(texts), _) => {
                texts.append_value(scan.value());
                true
            }
            (Self::Single(cells), b'"') => scan.string().is_some_and(|text| cells.push(&text)),
            (Self::Single(cells), _) => cells.push(scan.value()),
            (Self::List(items), b'[') => items.fill(scan).map(|length| items.push(length, true)).is_some(),
            (Self::Array(items, size), b'[') => {
                let length = items.fill(scan).filter(|length| i32::try_from(*length) == Ok(*size));
                length.map(|length| items.push(length, true)).is_some()
            }
            (Self::Map(entries), b'{') => {
                entries.fill(scan).map(|length| entries.push(length, true)).is_some()
            }
            (Self::Struct(objects, nulls), b'{') => {
                nulls.append_non_null();
                objects.push(scan).is_ok()
            }
            _ => false,
        }
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Text(texts) => Arc::new(texts.finish()),
            Self::Single(cells) => cells.finish(),
            Self::List(items) => {
                let offsets = finished(&mut items.offsets).finish();
                let (field, nulls) = (Arc::clone(&items.field), items.nulls.finish());
                Arc::new(ListArray::try_new(field, offsets, items.values.finish()?, nulls)?)
            }
            Self::Array(items, size) => {
                finished(&mut items.offsets);
                let (field, length) = (Arc::clone(&items.field), items.nulls.len());
                let (values, nulls) = (items.values.finish()?, items.nulls.finish());
                Arc::new(FixedSizeListArray::try_new_with_length(field, *size, values, nulls, length)?)
            }
            Self::Map(entries) => Arc::new(entries.finish()?),
            Self::Struct(objects, nulls) => {
                let (count, fields) = (objects.count, objects.fields.clone());
                let columns = objects.finish()?;
                Arc::new(StructArray::try_new_with_length(fields, columns, nulls.finish(), count)?)
            }
        })
    }
}

impl Items {
    fn new(field: &FieldRef) -> Self {
        Self {
            field: Arc::clone(field),
            values: Box::new(Column::new(field.data_type())),
            offsets: OffsetBufferBuilder::new(0),
            nulls: NullBufferBuilder::new(0),
        }
    }

    /// Takes in the items of a list, and tells how many there are.
    fn fill(&mut self, scan: &mut Scan<'_>) -> Option<usize> {
        let mut length = 0;
        let filled = scan.each(b']', |scan| {
            length += 1;
            if self.values.push(scan) { Ok(()) } else { Err(()) }
        });
        filled.ok().map(|()| length)
    }

    fn push(&mut self, length: usize, valid: bool) {
        self.offsets.push_length(length);
        self.nulls.append(valid);
    }
}

impl Entries {
    fn new(field: &FieldRef) -> Self {
        let pair = pair(field);
        let key = pair.map(|(key, _)| cells(key.data_type()).unwrap_or_else(texts)).unwrap_or_else(texts);
        let value = pair.map_or(DataType::Null, |(_, value)| value.data_type().clone());
        Self {
            field: Arc::clone(field),
            keys: key,
            values: Box::new(Column::new(&value)),
            offsets: OffsetBufferBuilder::new(0),
            nulls: NullBufferBuilder::new(0),
        }
    }

    /// Takes in the members of an object as entries, and tells how many there are.
    fn fill(&mut self, scan: &mut Scan<'_>) -> Option<usize> {
        let mut length = 0;
        let filled = scan.each(b'}', |scan| {
            length += 1;
            let key = scan.name().ok_or(())?;
            if self.keys.push(&key) && self.values.push(scan) { Ok(()) } else { Err(()) }
        });
        filled.ok().map(|()| length)
    }

    fn push(&mut self, length: usize, valid: bool) {
        self.offsets.push_length(length);
        self.nulls.append(valid);
    }

    fn finish(&mut self) -> Result<MapArray, ArrowError> {
        let DataType::Struct(fields) = self.field.data_type() else {
            return Err(ArrowError::SchemaError("the entries of a map are no pairs".into()));
        };
        let columns = vec![self.keys.finish(), self.values.finish()?];
        let entries = StructArray::try_new(fields.clone(), columns, None)?;
        let (offsets, nulls) = (finished(&mut self.offsets).finish(), self.nulls.finish());
        MapArray::try_new(Arc::clone(&self.field), offsets, entries, nulls, false)
    }
}

/// The fields of key and value.
fn pair(entries: &FieldRef) -> Option<(&FieldRef, &FieldRef)> {
    match entries.data_type() {
        DataType::Struct(fields) if fields.len() == 2 => Some((&fields[0], &fields[1])),
        _ => None,
    }
}

/// The offsets so far; others begin.
fn finished(offsets: &mut OffsetBufferBuilder<i32>) -> OffsetBufferBuilder<i32> {
    std::mem::replace(offsets, OffsetBufferBuilder::new(0))
}

#[cfg(test)]
mod tests {
    use arrow_array::Array;
    use arrow_cast::display::array_value_to_string;
    use arrow_schema::Field;

    use super::*;

    fn field(name: &str, data_type: DataType) -> Field {
        Field::new(name, data_type, true)
    }

    /// A column `a` of this type and a column `b` of integers.
    fn objects(data_type: DataType) -> Objects {
        Objects::new(&vec![field("a", data_type), field("b", DataType::Int64)].into())
    }

    #[test]
    fn objects_may_lack_members_and_have_them_in_any_order() {
        let mut objects = objects(DataType::List(Arc::new(field("item", DataType::Int8))));
        // Of each batch nothing is left for the next.
        for _ in 0..2 {
            for row in ["{\"b\":1,\"a\":[1, null]}", "{ }", "{\"a\" : []}", "{\"a\":null,\"b\":2}"] {
                assert!(objects.push(&mut Scan::new(row)).is_ok(), "{row}");
            }
            let columns = objects.finish().unwrap();
            let shown = columns.iter().map(|column| {
                let texts = (0..column.len()).map(|row| array_value_to_string(column, row).unwrap());
                texts.collect::<Vec<_>>().join("|")
            });
            assert_eq!(shown.collect::<Vec<_>>(), ["[1, ]||[]|", "1|||2"]);
        }
    }

    #[test]
    fn what_does_not_fit_is_named_as_it_is_written() {
        let members = DataType::Struct(vec![field("x", DataType::Int8)].into());
        let map = vec![Field::new("key", DataType::Int8, false), field("value", DataType::Utf8)];
        let map = DataType::Map(Arc::new(Field::new("entries", DataType::Struct(map.into()), false)), false);
        let pair = DataType::FixedSizeList(Arc::new(field("item", DataType::Boolean)), 2);
        for (data_type, values) in [
            (DataType::Int8, &["128", "[1]", "{}", "\"x\"", "\"\\ud800\""][..]),
            (DataType::Null, &["0", "\"\"", "[]"]),
            (members, &["{\"x\":128}", "{\"y\":1}", "{\"x\":1,\"x\":1}", "[]", "1"]),
            (map, &["{\"x\":1}", "[]", "1"]),
            (pair, &["[true]", "[true,false,true]", "[1,2]", "{}"]),
        ] {
            for value in values {
                let row = format!("{{\"b\":1,\"a\":{value} }}");
                let refused = objects(data_type.clone()).push(&mut Scan::new(&row)).err().unwrap();
                assert_eq!((refused.place, refused.written), (Some(0), *value), "{data_type}");
            }
        }
        for row in ["{\"c\":1}", "{\"b\":1,\"b\":1}"] {
            assert_eq!(objects(DataType::Int8).push(&mut Scan::new(row)).err().unwrap().place, None, "{row}");
        }
    }
}
