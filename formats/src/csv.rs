//! Comma-separated values after RFC 4180, with a header. Values are those of JSON without its quotes; what is nested
//! is JSON inside a value. NULL is nothing at all, and an empty text is `""`.

use arrow_array::{
    Array, RecordBatch,
    cast::AsArray,
    types::{Float32Type, Float64Type},
};
use arrow_json::{
    EncoderOptions,
    writer::{NullableEncoder, make_encoder},
};
use arrow_schema::{ArrowError, DataType, FieldRef, Schema};

use super::{names::distinct, values::options};

/// The line of names.
pub fn csv_header(schema: &Schema) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, name) in distinct(schema).iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        quoted(name.as_bytes(), &mut out);
    }
    out.push(b'\n');
    out
}

/// A line for each row.
///
/// # Errors
/// A column that no encoder takes.
pub fn csv_lines(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let options = options();
    let columns = batch.columns().iter().zip(batch.schema_ref().fields());
    let mut cells = columns
        .map(|(column, field)| Cells::new(field, column.as_ref(), &options))
        .collect::<Result<Vec<_>, _>>()?;
    let mut out = Vec::new();
    for row in 0..batch.num_rows() {
        let begin = out.len();
        for (at, cell) in cells.iter_mut().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            cell.write(row, &mut out);
        }
        // Many readers pass over an empty line.
        if out.len() == begin {
            out.extend_from_slice(b"\"\"");
        }
        out.push(b'\n');
    }
    Ok(out)
}

/// The values of a column.
struct Cells<'a> {
    kind: Kind<'a>,
    json: NullableEncoder<'a>,
    scratch: Vec<u8>,
}

enum Kind<'a> {
    Text(Box<dyn Fn(usize) -> &'a str + 'a>),
    /// JSON has no word for some of its values.
    Float(Box<dyn Fn(usize) -> f64 + 'a>),
    Other,
}

impl<'a> Cells<'a> {
    fn new(
        field: &'a FieldRef,
        array: &'a dyn Array,
        options: &'a EncoderOptions,
    ) -> Result<Self, ArrowError> {
        let kind = match array.data_type() {
            DataType::Utf8 => {
                let array = array.as_string::<i32>();
                Kind::Text(Box::new(|row| array.value(row)))
            }
            DataType::LargeUtf8 => {
                let array = array.as_string::<i64>();
                Kind::Text(Box::new(|row| array.value(row)))
            }
            DataType::Utf8View => {
                let array = array.as_string_view();
                Kind::Text(Box::new(|row| array.value(row)))
            }
            DataType::Float32 => {
                let array = array.as_primitive::<Float32Type>();
                Kind::Float(Box::new(|row| array.value(row).into()))
            }
            DataType::Float64 => {
                let array = array.as_primitive::<Float64Type>();
                Kind::Float(Box::new(|row| array.value(row)))
            }
            _ => Kind::Other,
        };
        Ok(Self { kind, json: make_encoder(field, array, options)?, scratch: Vec::new() })
    }

    fn write(&mut self, row: usize, out: &mut Vec<u8>) {
        if self.json.is_null(row) {
            return;
        }
        match &self.kind {
            Kind::Text(text) => quoted(text(row).as_bytes(), out),
            Kind::Float(float) => match float(row) {
                value if value.is_nan() => out.extend_from_slice(b"nan"),
                f64::INFINITY => out.extend_from_slice(b"inf"),
                f64::NEG_INFINITY => out.extend_from_slice(b"-inf"),
                _ => self.json.encode(row, out),
            },
            Kind::Other => {
                self.scratch.clear();
                self.json.encode(row, &mut self.scratch);
                unquoted(&self.scratch, out);
            }
        }
    }
}

/// A value in JSON without JSON's quotes and escapes.
fn unquoted(json: &[u8], out: &mut Vec<u8>) {
    match json {
        [b'"', text @ .., b'"'] if !text.contains(&b'\\') => quoted(text, out),
        [b'"', ..] => {
            let text: String = serde_json::from_slice(json).unwrap_or_default();
            quoted(text.as_bytes(), out);
        }
        other => quoted(other, out),
    }
}

/// In quotes where it needs them; nothing at all would be NULL.
fn quoted(value: &[u8], out: &mut Vec<u8>) {
    if !value.is_empty() && !value.iter().any(|byte| matches!(byte, b'"' | b',' | b'\n' | b'\r')) {
        return out.extend_from_slice(value);
    }
    out.push(b'"');
    for &byte in value {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, BinaryArray, Float64Array, Int64Array, StringArray};

    use super::*;

    fn lines(columns: impl IntoIterator<Item = (&'static str, ArrayRef)>) -> String {
        let columns = columns.into_iter().map(|(name, column)| (name, column, true));
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let text = [csv_header(&batch.schema()), csv_lines(&batch).unwrap()].concat();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn values_are_quoted_where_they_need_it() {
        let texts = StringArray::from(vec![Some("plain"), Some("a,\"b\"\nc"), Some(""), None]);
        let floats = Float64Array::from(vec![0.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
        let blobs = BinaryArray::from(vec![&b"\x00\xff"[..], b"", b"a", b"b"]);
        let lines =
            lines([("a b", Arc::new(texts) as ArrayRef), ("f", Arc::new(floats)), ("x,y", Arc::new(blobs))]);
        let expected =
            "a b,f,\"x,y\"\nplain,0.5,AP8=\n\"a,\"\"b\"\"\nc\",nan,\"\"\n\"\",inf,YQ==\n,-inf,Yg==\n";
        assert_eq!(lines, expected);
    }

    #[test]
    fn no_line_is_empty() {
        assert_eq!(
            lines([("a", Arc::new(Int64Array::from(vec![None, Some(1)])) as ArrayRef)]),
            "a\n\"\"\n1\n"
        );
    }

    #[test]
    fn a_text_inside_json_loses_its_escapes_only_at_the_top() {
        for (json, cell) in [(r#""a\"b""#, r#""a""b""#), (r#"["a,b"]"#, r#""[""a,b""]""#), ("12", "12")] {
            let mut out = Vec::new();
            unquoted(json.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), cell);
        }
    }
}
