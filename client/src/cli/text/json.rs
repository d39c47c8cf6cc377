//! Files of JSON lines as record batches, each value exactly as it is written.

use std::{io::BufRead, sync::Arc};

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, cast::AsArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use merganser::Error;

use super::{Snapshot, TableTypes, cells::cells, json_objects::each_value, json_types::Members, misfit};
use crate::cli::source::{buffered, from_arrow};

/// Reads a file of which the columns are known.
pub(crate) struct JsonReader<R> {
    reader: arrow_json::Reader<R>,
    schema: SchemaRef,
    rows: u64,
}

impl<R: BufRead> JsonReader<R> {
    /// Finds out the columns, by what `file` gives anew each time, and reads the rows from `rows`.
    pub(crate) fn open(
        file: &Snapshot,
        rows: R,
        table: Option<&TableTypes>,
        batch_rows: usize,
    ) -> Result<Self, Error> {
        let mut members = Members::default();
        each_value(buffered(file.reader()?), |value, line| members.add_row(value, line))?;
        file.rewind()?;
        let fields = members.fields();
        if fields.is_empty() {
            return Err(Error::Usage("it has no columns: JSON lines of objects are expected".into()));
        }
        let read = fields.iter().map(|field| read_as(field, table)).collect::<Vec<_>>();
        let stored = fields.iter().map(|field| stored_as(field, table)).collect::<Vec<_>>();
        let reader = arrow_json::ReaderBuilder::new(Arc::new(Schema::new(read)))
            .with_batch_size(batch_rows)
            // A number in a column of text is text, as it is written.
            .with_coerce_primitive(true)
            // A key that was not there when the columns were found out is an error: leaving it out would lose data.
            .with_strict_mode(true)
            .build(rows)?;
        Ok(Self { reader, schema: Arc::new(Schema::new(stored)), rows: 0 })
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn convert(&mut self, batch: &RecordBatch) -> Result<RecordBatch, Error> {
        let columns = batch.columns().iter().zip(self.schema.fields());
        let columns = columns.map(|(column, field)| stored(column, field, self.rows));
        let columns = columns.collect::<Result<_, Error>>()?;
        self.rows += batch.num_rows() as u64;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(self.schema(), columns, &options)?)
    }
}

impl<R: BufRead> Iterator for JsonReader<R> {
    type Item = Result<RecordBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.reader.next()?;
        Some(batch.map_err(from_arrow).and_then(|batch| self.convert(&batch)))
    }
}

/// The type that the table has for a column of single values, where it is made from text.
fn wanted(field: &Field, table: Option<&TableTypes>) -> Option<DataType> {
    let single = !field.data_type().is_nested();
    table?.get(field.name()).filter(|_| single)
}

fn stored_as(field: &Field, table: Option<&TableTypes>) -> Field {
    let data_type = wanted(field, table).unwrap_or_else(|| field.data_type().clone());
    field.clone().with_data_type(data_type)
}

/// As text, where the table wants another type than the values have: text is what is written, to the last digit.
fn read_as(field: &Field, table: Option<&TableTypes>) -> Field {
    match wanted(field, table) {
        Some(wanted) if wanted != *field.data_type() => field.clone().with_data_type(DataType::Utf8),
        _ => field.clone(),
    }
}

fn stored(column: &ArrayRef, field: &Field, rows_before: u64) -> Result<ArrayRef, Error> {
    let texts = match (column.data_type() != field.data_type(), column.as_string_opt::<i32>()) {
        (true, Some(texts)) => texts,
        _ => return Ok(Arc::clone(column)),
    };
    let Some(mut cells) = cells(field.data_type()) else { return Ok(Arc::clone(column)) };
    for (text, row) in texts.iter().zip(rows_before + 1..) {
        match text {
            None => cells.push_null(),
            Some(text) if cells.push(text) => {}
            Some(text) => return Err(misfit(&format!("row {row}"), field, text)),
        }
    }
    Ok(cells.finish())
}
