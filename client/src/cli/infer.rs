//! Column types of files that do not tell them.

use std::{
    fmt,
    fs::File,
    io::{BufRead, BufReader, Read, Seek, SeekFrom},
    sync::Arc,
};

use arrow_csv::reader::Format;
use arrow_json::reader::infer_json_schema;
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema};
use merganser::Error;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

/// Spreadsheets write it at the beginning of UTF-8 files; it belongs to no column name.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Infers the columns of a CSV file and leaves it at its header.
pub(crate) fn csv(file: &mut File, sample_rows: Option<usize>) -> Result<Schema, Error> {
    let start = skip_byte_order_mark(file)?;
    let format = Format::default().with_header(true);
    let (schema, _) = format.infer_schema(BufReader::new(&mut *file), sample_rows)?;
    file.seek(SeekFrom::Start(start))?;
    if schema.fields().is_empty() {
        return Err(Error::Usage("it is empty: a CSV file has a header line".into()));
    }
    Ok(Schema::new(text_for_null(schema.fields())))
}

/// Infers the columns of a file of JSON lines, in the order of its first line, and leaves it there.
pub(crate) fn json(file: &mut File, sample_rows: Option<usize>) -> Result<Schema, Error> {
    let start = skip_byte_order_mark(file)?;
    let order = first_keys(BufReader::new(&mut *file))?;
    file.seek(SeekFrom::Start(start))?;
    let (schema, _) = infer_json_schema(BufReader::new(&mut *file), sample_rows)?;
    file.seek(SeekFrom::Start(start))?;
    if schema.fields().is_empty() {
        return Err(Error::Usage("it has no columns: JSON lines of objects are expected".into()));
    }
    let mut fields: Vec<FieldRef> = text_for_null(schema.fields()).iter().cloned().collect();
    // The inference goes through a hash map, so that its own order differs from run to run.
    fields.sort_by_cached_key(|field| {
        let place = order.iter().position(|key| key == field.name());
        (place.unwrap_or(order.len()), field.name().clone())
    });
    Ok(Schema::new(fields))
}

/// Returns where the text begins, with the file there.
fn skip_byte_order_mark(file: &mut File) -> Result<u64, Error> {
    let mut head = Vec::with_capacity(BYTE_ORDER_MARK.len());
    Read::take(&mut *file, BYTE_ORDER_MARK.len() as u64).read_to_end(&mut head)?;
    let start = if head == BYTE_ORDER_MARK { head.len() as u64 } else { 0 };
    Ok(file.seek(SeekFrom::Start(start))?)
}

/// A column of nothing but nulls has no type yet, and text takes whatever comes later. Fields of
/// objects are sorted by name, for want of a better order.
fn text_for_null(fields: &Fields) -> Fields {
    fields.iter().map(|field| text_field(field)).collect()
}

fn text_field(field: &Field) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Null => DataType::Utf8,
        DataType::List(item) => DataType::List(text_field(item)),
        DataType::Struct(fields) => {
            let mut fields: Vec<FieldRef> = text_for_null(fields).iter().cloned().collect();
            fields.sort_by(|one, other| one.name().cmp(other.name()));
            DataType::Struct(fields.into())
        }
        other => other.clone(),
    };
    Arc::new(field.clone().with_data_type(data_type))
}

/// The keys of the first object in the order in which they stand there.
fn first_keys(mut reader: impl BufRead) -> Result<Vec<String>, Error> {
    if begins_with_array(&mut reader)? {
        return Err(Error::Usage(
            "it is one JSON array: only JSON lines, one object a line, can be loaded".into(),
        ));
    }
    let mut objects = serde_json::Deserializer::from_reader(reader).into_iter::<Keys>();
    match objects.next() {
        // Whatever is wrong with the first object, the inference says it better.
        Some(Err(_)) | None => Ok(Vec::new()),
        Some(Ok(Keys(keys))) => Ok(keys),
    }
}

fn begins_with_array(reader: &mut impl BufRead) -> Result<bool, Error> {
    let head = reader.fill_buf()?;
    Ok(head.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'['))
}

/// Keys of an object; the values are skipped.
struct Keys(Vec<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(KeysVisitor)
    }
}

struct KeysVisitor;

impl<'de> Visitor<'de> for KeysVisitor {
    type Value = Keys;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
        let mut keys = Vec::new();
        while let Some((key, IgnoredAny)) = map.next_entry()? {
            keys.push(key);
        }
        Ok(Keys(keys))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(content: &str) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file.rewind().unwrap();
        file
    }

    fn describe(schema: &Schema) -> Vec<String> {
        let fields = schema.fields().iter();
        fields.map(|field| format!("{} {}", field.name(), field.data_type())).collect()
    }

    #[test]
    fn csv_types_and_the_byte_order_mark() {
        let mut file = file("\u{feff}id,price,day,empty\n1,1.5,2024-01-02,\n2,2,2024-01-03,\n");
        let schema = csv(&mut file, None).unwrap();
        assert_eq!(describe(&schema), ["id Int64", "price Float64", "day Date32", "empty Utf8"]);
        assert_eq!(file.stream_position().unwrap(), 3);
    }

    #[test]
    fn json_columns_keep_the_order_of_the_first_line() {
        let mut file = file("{\"z\":1,\"b\":null,\"a\":{\"y\":null,\"x\":2}}\n{\"c\":1,\"aa\":[null]}\n");
        let schema = json(&mut file, None).unwrap();
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["z", "b", "a", "aa", "c"]);
        assert_eq!(schema.field(1).data_type(), &DataType::Utf8);
        let DataType::Struct(inner) = schema.field(2).data_type() else {
            panic!("{schema:?}");
        };
        assert_eq!(inner[0].name(), "x");
        assert_eq!(inner[1].data_type(), &DataType::Utf8);
        assert_eq!(file.stream_position().unwrap(), 0);
    }

    #[test]
    fn what_cannot_be_loaded_says_so() {
        for (content, expected) in [("  [{\"a\":1}]", "JSON array"), ("", "no columns")] {
            let error = json(&mut file(content), None).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        let error = csv(&mut file(""), None).unwrap_err();
        assert!(error.to_string().contains("empty"), "{error}");
    }
}
