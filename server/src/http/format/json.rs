//! JSON: one document, or an object a line.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_json::{EncoderOptions, writer::make_encoder};
use arrow_schema::SchemaRef;
use merganser_formats::{distinct, options, text, value};

use super::Encode;
use crate::engine::{Error, type_name};

/// `{"columns":[...],"rows":[...]}`.
pub(super) struct Document {
    objects: Objects,
    schema: SchemaRef,
    begun: bool,
}

impl Document {
    pub(super) fn new(schema: &SchemaRef) -> Self {
        Self { objects: Objects::new(schema), schema: Arc::clone(schema), begun: false }
    }
}

impl Encode for Document {
    fn head(&mut self) -> Result<Vec<u8>, Error> {
        let mut out = b"{\"columns\":[".to_vec();
        for (at, (name, field)) in distinct(&self.schema).iter().zip(self.schema.fields()).enumerate() {
            out.extend_from_slice(if at == 0 { b"{\"name\":" } else { b",{\"name\":" });
            text(name, &mut out);
            out.extend_from_slice(b",\"type\":");
            text(&type_name(field), &mut out);
            out.push(b'}');
        }
        out.extend_from_slice(b"],\"rows\":[");
        Ok(out)
    }

    fn rows(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, Error> {
        let begun = &mut self.begun;
        self.objects.write(batch, |object, out| {
            out.extend_from_slice(if std::mem::replace(begun, true) { b",\n" } else { b"\n" });
            object(out);
        })
    }

    fn tail(&mut self) -> Result<Vec<u8>, Error> {
        Ok(b"\n]}\n".to_vec())
    }
}

/// An object a line.
pub(super) struct Lines {
    objects: Objects,
}

impl Lines {
    pub(super) fn new(schema: &SchemaRef) -> Self {
        Self { objects: Objects::new(schema) }
    }
}

impl Encode for Lines {
    fn head(&mut self) -> Result<Vec<u8>, Error> {
        Ok(Vec::new())
    }

    fn rows(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, Error> {
        self.objects.write(batch, |object, out| {
            object(out);
            out.push(b'\n');
        })
    }

    fn tail(&mut self) -> Result<Vec<u8>, Error> {
        Ok(Vec::new())
    }
}

/// Rows as objects.
struct Objects {
    /// What comes before each value: the brace or the comma, and the name.
    before: Vec<Vec<u8>>,
    options: EncoderOptions,
    /// Bytes of the last batch, as a guess at those of the next.
    bytes: usize,
}

impl Objects {
    fn new(schema: &SchemaRef) -> Self {
        let before = distinct(schema).into_iter().enumerate().map(|(at, name)| {
            let mut out = vec![if at == 0 { b'{' } else { b',' }];
            text(&name, &mut out);
            out.push(b':');
            out
        });
        Self { before: before.collect(), options: options(), bytes: 0 }
    }

    /// Writes each row by `around`, which puts the object where it belongs.
    fn write(
        &mut self,
        batch: &RecordBatch,
        mut around: impl FnMut(&mut dyn FnMut(&mut Vec<u8>), &mut Vec<u8>),
    ) -> Result<Vec<u8>, Error> {
        let schema = batch.schema_ref();
        let columns = batch.columns().iter().zip(schema.fields());
        let mut encoders = columns
            .map(|(column, field)| make_encoder(field, column.as_ref(), &self.options))
            .collect::<Result<Vec<_>, _>>()?;
        let mut out = Vec::with_capacity(self.bytes);
        for row in 0..batch.num_rows() {
            let mut object = |out: &mut Vec<u8>| {
                for (before, encoder) in self.before.iter().zip(&mut encoders) {
                    out.extend_from_slice(before);
                    value(encoder, row, out);
                }
                out.push(b'}');
            };
            around(&mut object, &mut out);
        }
        self.bytes = out.len();
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, Decimal128Array, Float64Array, Int64Array, StringArray, UInt64Array};

    use super::*;
    use crate::http::format::{Format, testing::text};

    fn batch(columns: impl IntoIterator<Item = (&'static str, ArrayRef)>) -> RecordBatch {
        let columns = columns.into_iter().map(|(name, column)| (name, column, true));
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    #[test]
    fn numbers_have_all_of_their_digits() {
        let decimals = Decimal128Array::from(vec![Some(-12_345_678_901_234_567_890_123_456_789_i128), None]);
        let batch = batch([
            ("i", Arc::new(Int64Array::from(vec![i64::MIN, i64::MAX])) as ArrayRef),
            ("u", Arc::new(UInt64Array::from(vec![u64::MAX, 0]))),
            ("d", Arc::new(decimals.with_precision_and_scale(38, 4).unwrap())),
            ("f", Arc::new(Float64Array::from(vec![0.1, f64::NAN]))),
        ]);
        let expected = "{\"i\":-9223372036854775808,\"u\":18446744073709551615,\
                        \"d\":-1234567890123456789012345.6789,\"f\":0.1}\n\
                        {\"i\":9223372036854775807,\"u\":0,\"d\":null,\"f\":null}\n";
        assert_eq!(text(Format::Ndjson, &[batch]), expected);
    }

    #[test]
    fn a_document_is_one_object_however_many_batches_there_are() {
        let batch = batch([
            ("a", Arc::new(StringArray::from(vec!["x\"\n", "ä"])) as ArrayRef),
            ("a", Arc::new(Int64Array::from(vec![1, 2]))),
        ]);
        let expected = "{\"columns\":[{\"name\":\"a\",\"type\":\"VARCHAR\"},\
                        {\"name\":\"a_2\",\"type\":\"BIGINT\"}],\"rows\":[\n\
                        {\"a\":\"x\\\"\\n\",\"a_2\":1},\n{\"a\":\"ä\",\"a_2\":2},\n\
                        {\"a\":\"x\\\"\\n\",\"a_2\":1},\n{\"a\":\"ä\",\"a_2\":2}\n]}\n";
        assert_eq!(text(Format::Json, &[batch.clone(), batch.clone()]), expected);
        let none: serde_json::Value =
            serde_json::from_str(&text(Format::Json, &[batch.slice(0, 0)])).unwrap();
        assert_eq!(none["rows"], serde_json::json!([]));
    }
}
