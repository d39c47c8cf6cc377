//! Rows of a body in CSV, decoded some at a time.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, builder::StringBuilder};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use axum::body::Bytes;
use merganser_formats::{CsvFault, CsvNext, CsvRecords};

use super::rows::{BATCH_ROWS, Decode};

/// Spreadsheets write it at the beginning of UTF-8; it belongs to no column name.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The rows that have not been decoded.
pub(super) struct CsvRows {
    text: Bytes,
    /// The bytes in front of the text.
    mark: usize,
    found: CsvRecords,
    schema: SchemaRef,
}

impl CsvRows {
    /// All columns as texts, under the names of the first line; the query's types are DuckDB's to read. What is empty is
    /// null.
    ///
    /// # Errors
    /// [`ArrowError`] for a first line that cannot be read, or has more columns than the query takes.
    pub(super) fn open(input: &Schema, body: Bytes) -> Result<Self, ArrowError> {
        let mark = if body.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        let (text, mut found) = (body.slice(mark..), CsvRecords::new(b','));
        let names = names(&mut found, &text, input.fields().len()).map_err(|fault| {
            let known: Vec<_> = input.fields().iter().map(|field| field.name().as_str()).collect();
            let what = format!(
                "{}; the first line has the names of columns, among them {}",
                fault.what,
                known.join(", ")
            );
            unreadable(&CsvFault { what, ..fault })
        })?;
        let fields: Vec<_> = names.iter().map(|name| Field::new(name.trim(), DataType::Utf8, true)).collect();
        Ok(Self { text, mark, found, schema: Arc::new(Schema::new(fields)) })
    }

    /// The columns in which they come.
    pub(super) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

impl Decode for CsvRows {
    fn next(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        let Self { text, found, schema, .. } = self;
        let mut columns: Vec<_> = schema.fields().iter().map(|_| StringBuilder::new()).collect();
        let mut rows = 0;
        while rows < BATCH_ROWS
            && let CsvNext::Row(line) =
                found.row(columns.len(), text, true).map_err(|fault| unreadable(&fault))?
        {
            for (index, column) in columns.iter_mut().enumerate() {
                let value = found.text(text, index, line).map_err(|fault| unreadable(&fault))?;
                column.append_option(Some(value).filter(|value| !value.is_empty()));
            }
            rows += 1;
        }
        if rows == 0 {
            return Ok(None);
        }
        let columns = columns.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef).collect();
        RecordBatch::try_new(self.schema(), columns).map(Some)
    }

    fn read(&self) -> usize {
        self.mark + self.found.done()
    }
}

/// The fields of the first line; none of an empty text.
fn names(found: &mut CsvRecords, text: &[u8], most: usize) -> Result<Vec<String>, CsvFault> {
    let CsvNext::Row(line) = found.header(most, text, true)? else { return Ok(Vec::new()) };
    (0..found.fields()).map(|index| Ok(found.text(text, index, line)?.into_owned())).collect()
}

fn unreadable(fault: &CsvFault) -> ArrowError {
    ArrowError::CsvError(format!("line {} {}", fault.line, fault.what))
}
