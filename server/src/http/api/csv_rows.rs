//! Rows of a body in CSV, decoded some at a time.

use std::{io::Cursor, sync::Arc};

use arrow_array::RecordBatch;
use arrow_csv::{
    ReaderBuilder,
    reader::{Decoder, Format},
};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use axum::body::Bytes;

use super::rows::{BATCH_ROWS, Decode};

/// The rows that have not been decoded.
pub(super) struct CsvRows {
    body: Bytes,
    read: usize,
    decoder: Decoder,
    schema: SchemaRef,
}

impl CsvRows {
    /// All columns as texts, under the names of the first line; the query's types are DuckDB's to read. What is empty is
    /// null.
    ///
    /// # Errors
    /// [`ArrowError`] for a first line that cannot be read, or has more columns than the query takes.
    pub(super) fn open(input: &Schema, body: Bytes) -> Result<Self, ArrowError> {
        // Before the names are read: a line of nothing but commas would become millions of them.
        if has_more_columns(&body, input.fields().len()) {
            let known: Vec<_> = input.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(ArrowError::CsvError(format!(
                "the first line has more columns than the query takes, which are {}",
                known.join(", ")
            )));
        }
        let (names, _) = Format::default().with_header(true).infer_schema(Cursor::new(&body), Some(0))?;
        let fields: Vec<_> = names
            .fields()
            .iter()
            .map(|field| Field::new(field.name().trim(), DataType::Utf8, true))
            .collect();
        let schema = Arc::new(Schema::new(fields));
        let reader = ReaderBuilder::new(Arc::clone(&schema)).with_header(true).with_batch_size(BATCH_ROWS);
        Ok(Self { body, read: 0, decoder: reader.build_decoder(), schema })
    }

    /// The columns in which they come.
    pub(super) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

impl Decode for CsvRows {
    fn next(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        loop {
            // At the end it is told so by nothing, which ends the last line.
            let decoded = self.decoder.decode(&self.body[self.read..])?;
            self.read += decoded;
            if decoded == 0 || self.decoder.capacity() == 0 {
                return self.decoder.flush();
            }
        }
    }

    fn read(&self) -> usize {
        self.read
    }
}

/// Where a byte of a line is.
#[derive(Clone, Copy)]
enum Place {
    /// At the beginning of a value.
    Start,
    Plain,
    Quoted,
    /// Behind a quote, which ends the value or, before another one, stands for itself.
    Closed,
}

/// Whether the first line has more than so many columns, by the decoder's own rules: a quote means something at the
/// beginning of a value and within one that began so.
fn has_more_columns(body: &[u8], most: usize) -> bool {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let line = body.iter().skip_while(|byte| matches!(byte, b'\r' | b'\n'));
    let (mut columns, mut place) = (1, Place::Start);
    for byte in line {
        place = match (place, byte) {
            (Place::Start | Place::Closed, b'"') => Place::Quoted,
            (Place::Quoted, b'"') => Place::Closed,
            (Place::Quoted, _) => Place::Quoted,
            (_, b'\r' | b'\n') => break,
            (_, b',') if columns == most => return true,
            (_, b',') => {
                columns += 1;
                Place::Start
            }
            _ => Place::Plain,
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_the_first_line_are_counted_as_they_are_decoded() {
        for line in [
            "a,b,c",
            "a,\"b,\",c",
            "\"a\"\",\",b",
            "a\"b,c,d",
            "\"a\"b,c,d\",e",
            "\n\r\na,b\nc,d,e,f",
            ",,,",
            "\"a,b,c",
            "\u{feff}\"a,b\",c",
            "",
            "a,",
            "\"a\nb\",c\n,,,,",
        ] {
            let format = Format::default().with_header(true);
            let (names, _) = format.infer_schema(Cursor::new(line), Some(0)).unwrap();
            let there = names.fields().len();
            for most in 1..6 {
                assert_eq!(has_more_columns(line.as_bytes(), most), there > most, "{line:?} {most}");
            }
        }
    }
}
