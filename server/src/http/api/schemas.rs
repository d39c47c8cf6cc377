//! Rows as JSON Schema: what `format/values.rs` writes for a column, told before there are rows, and what `json_rows.rs`
//! takes for one.

use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit, UnionFields};
use serde_json::{Map, Value, json};

use crate::engine::{Extension, type_name};

/// A JSON answer of rows, each of which is as `row` says.
pub(super) fn document(row: &Value) -> Value {
    let column = json!({
        "type": "object",
        "required": ["name", "type"],
        "properties": {
            "name": { "type": "string" },
            "type": { "type": "string", "description": "DuckDB's name of the type." },
        },
    });
    json!({
        "type": "object",
        "required": ["columns", "rows"],
        "additionalProperties": false,
        "properties": {
            "columns": { "type": "array", "items": column },
            "rows": { "type": "array", "items": row },
        },
    })
}

/// A row with these columns, each with DuckDB's name of its type.
pub(super) fn row(columns: &Schema) -> Value {
    let mut row = object(columns.fields());
    for field in columns.fields() {
        row["properties"][field.name()]["description"] = type_name(field).into();
    }
    row
}

/// A row that a query with these input columns takes; any of them may be absent.
pub(super) fn input(columns: &Schema) -> Value {
    taken_object(columns.fields(), taken_text)
}

/// An object whose members are taken so where they are not nested.
fn taken_object(members: &Fields, plainly: fn(&Field) -> Value) -> Value {
    let properties: Map<_, _> =
        members.iter().map(|field| (field.name().clone(), or_null(taken(field, plainly)))).collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

/// A value that is taken. What is in a nested one is read by its type.
fn taken(field: &Field, plainly: fn(&Field) -> Value) -> Value {
    let item = |item: &Field| or_null(taken(item, taken_typed));
    match field.data_type() {
        DataType::List(of) | DataType::LargeList(of) => json!({ "type": "array", "items": item(of) }),
        DataType::FixedSizeList(of, size) => {
            json!({ "type": "array", "items": item(of), "minItems": size, "maxItems": size })
        }
        DataType::Struct(members) => taken_object(members, taken_typed),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => {
                json!({ "type": "object", "additionalProperties": item(&pair[1]) })
            }
            _ => json!({ "type": "object" }),
        },
        _ => plainly(field),
    }
}

/// A value that DuckDB casts from its text. Bytes are written as CAST takes them, and not as an answer has them.
fn taken_text(field: &Field) -> Value {
    match present(field) {
        schema if schema.get("contentEncoding").is_some() || schema.get("type").is_none() => {
            json!({ "type": "string" })
        }
        schema => schema,
    }
}

/// A value that is read by its type: bytes as hexadecimal digits, of which UUIDs are sixteen.
fn taken_typed(field: &Field) -> Value {
    match field.data_type() {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            json!({ "type": "string", "pattern": "^([0-9a-fA-F]{2})*$" })
        }
        DataType::FixedSizeBinary(size) => {
            json!({ "type": "string", "pattern": format!("^([0-9a-fA-F]{{2}}){{{size}}}$") })
        }
        _ => present(field),
    }
}

/// A value that may be null; what is no number (NaN) is null, too.
fn value(field: &Field) -> Value {
    or_null(present(field))
}

fn or_null(mut schema: Value) -> Value {
    if let Some(name) = schema.get_mut("type") {
        *name = json!([name.take(), "null"]);
    }
    if let Some(Value::Array(members)) = schema.get_mut("anyOf") {
        members.push(json!({ "type": "null" }));
    }
    schema
}

/// A value that is there.
fn present(field: &Field) -> Value {
    match (Extension::of(field), field.data_type()) {
        (Some(Extension::Uuid), _) => json!({ "type": "string", "format": "uuid" }),
        (_, data_type) if data_type.is_nested() => nested(data_type),
        (_, data_type) if data_type.is_temporal() => temporal(data_type),
        (_, data_type) => plain(data_type),
    }
}

fn plain(data_type: &DataType) -> Value {
    use DataType::{
        Binary, BinaryView, Boolean, Decimal32, Decimal64, Decimal128, Decimal256, FixedSizeBinary, Float16,
        Float32, Float64, Int8, Int16, Int32, Int64, LargeBinary, LargeUtf8, UInt8, UInt16, UInt32, UInt64,
        Utf8, Utf8View,
    };
    let whole = |least: i64, most: u64| json!({ "type": "integer", "minimum": least, "maximum": most });
    match data_type {
        Boolean => json!({ "type": "boolean" }),
        Int8 => whole(i8::MIN.into(), i8::MAX as u64),
        Int16 => whole(i16::MIN.into(), i16::MAX as u64),
        Int32 => json!({ "type": "integer", "format": "int32" }),
        Int64 => json!({ "type": "integer", "format": "int64" }),
        UInt8 => whole(0, u8::MAX.into()),
        UInt16 => whole(0, u16::MAX.into()),
        UInt32 => whole(0, u32::MAX.into()),
        UInt64 => whole(0, u64::MAX),
        // HUGEINT, too; as many digits as there are.
        Decimal32(_, 0) | Decimal64(_, 0) | Decimal128(_, 0) | Decimal256(_, 0) => {
            json!({ "type": "integer" })
        }
        Decimal32(..) | Decimal64(..) | Decimal128(..) | Decimal256(..) => json!({ "type": "number" }),
        Float16 | Float32 => json!({ "type": "number", "format": "float" }),
        Float64 => json!({ "type": "number", "format": "double" }),
        Utf8 | LargeUtf8 | Utf8View => json!({ "type": "string" }),
        Binary | LargeBinary | BinaryView | FixedSizeBinary(_) => {
            json!({ "type": "string", "contentEncoding": "base64" })
        }
        _ => json!({}),
    }
}

/// JSON Schema has formats for a day and for a moment with its zone; the others want a zone where there is none, or a
/// duration without signs and fractions.
fn temporal(data_type: &DataType) -> Value {
    match data_type {
        DataType::Date32 => json!({ "type": "string", "format": "date" }),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {
            json!({ "type": "string", "format": "date-time" })
        }
        _ => json!({ "type": "string" }),
    }
}

fn nested(data_type: &DataType) -> Value {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) => {
            json!({ "type": "array", "items": value(item) })
        }
        DataType::FixedSizeList(item, size) => {
            json!({ "type": "array", "items": value(item), "minItems": size, "maxItems": size })
        }
        DataType::Struct(members) => object(members),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => {
                json!({ "type": "object", "additionalProperties": value(&pair[1]) })
            }
            _ => json!({ "type": "object" }),
        },
        DataType::Union(members, _) => any_of(members),
        _ => json!({}),
    }
}

fn object(members: &Fields) -> Value {
    let properties: Map<_, _> = members.iter().map(|field| (field.name().clone(), value(field))).collect();
    let names: Vec<_> = members.iter().map(|field| field.name()).collect();
    json!({
        "type": "object",
        "required": names,
        "properties": properties,
        "additionalProperties": false,
    })
}

fn any_of(members: &UnionFields) -> Value {
    json!({ "anyOf": members.iter().map(|(_, field)| value(field)).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn every_column_may_be_null_and_none_is_unknown() {
        let item = Arc::new(Field::new("item", DataType::UInt8, true));
        let columns = Schema::new(vec![
            Field::new("n", DataType::Int64, true),
            Field::new("price", DataType::Decimal128(5, 2), true),
            Field::new("huge", DataType::Decimal128(38, 0), true),
            Field::new("list", DataType::List(item), true),
            Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        ]);
        let row = row(&columns);
        assert_eq!(row["required"], json!(["n", "price", "huge", "list", "at"]));
        assert_eq!(row["additionalProperties"], false);
        let expected = json!({
            "n": { "type": ["integer", "null"], "format": "int64", "description": "BIGINT" },
            "price": { "type": ["number", "null"], "description": "DECIMAL(5, 2)" },
            "huge": { "type": ["integer", "null"], "description": "DECIMAL(38, 0)" },
            "list": {
                "type": ["array", "null"],
                "items": { "type": ["integer", "null"], "minimum": 0, "maximum": 255 },
                "description": "UTINYINT[]",
            },
            "at": { "type": ["string", "null"], "description": "TIMESTAMP" },
        });
        assert_eq!(row["properties"], expected);
    }

    #[test]
    fn input_is_described_as_it_is_read() {
        let item = |data_type| Arc::new(Field::new("item", data_type, true));
        let columns = Schema::new(vec![
            Field::new("n", DataType::Int32, true),
            Field::new("bytes", DataType::Binary, true),
            Field::new("list", DataType::List(item(DataType::Decimal128(9, 2))), true),
            Field::new("pair", DataType::FixedSizeList(item(DataType::Binary), 2), true),
            Field::new_struct("struct", vec![Field::new("day", DataType::Date32, true)], true),
        ]);
        let blob = json!({ "type": ["string", "null"], "pattern": "^([0-9a-fA-F]{2})*$" });
        let day = json!({ "type": ["string", "null"], "format": "date" });
        let expected = json!({
            "n": { "type": ["integer", "null"], "format": "int32" },
            "bytes": { "type": ["string", "null"] },
            "list": { "type": ["array", "null"], "items": { "type": ["number", "null"] } },
            "pair": { "type": ["array", "null"], "items": blob, "minItems": 2, "maxItems": 2 },
            "struct": {
                "type": ["object", "null"], "properties": { "day": day }, "additionalProperties": false,
            },
        });
        let row = input(&columns);
        assert_eq!((&row["properties"], row.get("required")), (&expected, None));
    }
}
