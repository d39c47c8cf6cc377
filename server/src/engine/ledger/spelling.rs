//! What the hash of a unit says of the names and types of its columns, today and before.

use std::sync::Arc;

use arrow_schema::{DataType, Field};
use twox_hash::xxhash3_128::Hasher;

/// How names and types are hashed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// Whatever capitals a name has, it is the same; so are the items of all lists and the entries of all maps, which
    /// libraries call differently, and decimals of any width in bytes.
    Today,
    /// Names as they come, and the types of Arrow. Units whose row in the ledger is older are known by it.
    Before,
}

/// The type by which the values of another are known.
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

/// A column, or the member of a struct.
pub(super) fn put_named(into: &mut Hasher, field: &Field, spelling: Spelling) {
    match spelling {
        Spelling::Today => put_field(into, field, &field.name().to_ascii_lowercase(), spelling),
        Spelling::Before => put_field(into, field, field.name(), spelling),
    }
}

/// The items of lists, and the entries of maps with their keys and values.
fn put_unnamed(into: &mut Hasher, field: &Field, spelling: Spelling) {
    match spelling {
        Spelling::Today => put_field(into, field, "", spelling),
        Spelling::Before => put_field(into, field, field.name(), spelling),
    }
}

fn put_field(into: &mut Hasher, field: &Field, name: &str, spelling: Spelling) {
    put_text(into, name);
    put_type(into, field.data_type(), spelling);
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

fn put_type(into: &mut Hasher, data_type: &DataType, spelling: Spelling) {
    let plain = plain(data_type);
    match (&plain, spelling) {
        (DataType::List(item), _) => put_parts(into, "List", &[item], put_unnamed, spelling),
        (DataType::FixedSizeList(item, size), _) => {
            put_parts(into, &format!("FixedSizeList {size}"), &[item], put_unnamed, spelling);
        }
        (DataType::Struct(fields), _) => {
            put_parts(into, "Struct", &fields.iter().collect::<Vec<_>>(), put_named, spelling);
        }
        (DataType::Map(entries, _), Spelling::Before) => {
            put_parts(into, "Map", &[entries], put_unnamed, spelling);
        }
        (DataType::Map(entries, _), Spelling::Today) => {
            let DataType::Struct(members) = entries.data_type() else { return };
            put_parts(into, "Map", &members.iter().collect::<Vec<_>>(), put_unnamed, spelling);
        }
        (DataType::Union(fields, _), _) => {
            let fields: Vec<_> = fields.iter().map(|(_, field)| field).collect();
            put_parts(into, "Union", &fields, put_named, spelling);
        }
        (
            DataType::Decimal32(digits, scale)
            | DataType::Decimal64(digits, scale)
            | DataType::Decimal128(digits, scale)
            | DataType::Decimal256(digits, scale),
            Spelling::Today,
        ) => put_parts(into, &format!("Decimal({digits}, {scale})"), &[], put_named, spelling),
        (other, _) => put_parts(into, &format!("{other:?}"), &[], put_named, spelling),
    }
}

fn put_parts(
    into: &mut Hasher,
    name: &str,
    parts: &[&Arc<Field>],
    put: impl Fn(&mut Hasher, &Field, Spelling),
    spelling: Spelling,
) {
    put_text(into, name);
    into.write(&(parts.len() as u64).to_le_bytes());
    parts.iter().for_each(|part| put(into, part, spelling));
}

/// With its length, so that two texts are not another two.
pub(super) fn put_text(into: &mut Hasher, text: &str) {
    into.write(&(text.len() as u64).to_le_bytes());
    into.write(text.as_bytes());
}
