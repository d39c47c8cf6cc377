//! CSV files as record batches, each value exactly as it is written.

use std::{io::Read, sync::Arc};

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use merganser::Error;

use super::{
    BATCH_BYTES, Snapshot, TableTypes,
    cells::{Cells, cells, texts},
    csv_records::Records,
    csv_types::guess,
    misfit,
};

/// What is tried where a header has one column by commas.
const OTHER_DELIMITERS: [u8; 3] = [b';', b'\t', b'|'];

/// How values are written.
#[derive(Clone, Debug)]
pub(crate) struct Dialect {
    /// What separates fields; none means that the header tells.
    pub(crate) delimiter: Option<u8>,
    /// What stands for NULL.
    pub(crate) nulls: Vec<String>,
}

impl Dialect {
    fn is_null(&self, field: &[u8]) -> bool {
        self.nulls.iter().any(|null| null.as_bytes() == field)
    }
}

/// Reads a file of which the columns are known.
pub(crate) struct CsvReader<R> {
    records: Records<R>,
    dialect: Dialect,
    schema: SchemaRef,
    columns: Vec<Box<dyn Cells>>,
    batch_rows: usize,
    ended: bool,
}

impl<R: Read> CsvReader<R> {
    /// Finds out the delimiter and the columns, by what `file` gives anew each time, and reads the rows from `rows`.
    pub(crate) fn open(
        file: &Snapshot,
        rows: R,
        dialect: Dialect,
        table: Option<&TableTypes>,
        batch_rows: usize,
    ) -> Result<Self, Error> {
        let delimiter = match dialect.delimiter {
            Some(delimiter) => delimiter,
            None => delimiter(file)?,
        };
        let schema = Arc::new(schema(file, delimiter, &dialect, table)?);
        file.rewind()?;
        let mut records = Records::new(rows, delimiter);
        records.header()?;
        let columns = schema.fields().iter();
        let columns = columns.map(|field| cells(field.data_type()).unwrap_or_else(texts)).collect();
        Ok(Self { records, dialect, schema, columns, batch_rows, ended: false })
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The next batch; one without rows at the end.
    fn batch(&mut self) -> Result<RecordBatch, Error> {
        let (mut rows, mut bytes) = (0, 0);
        while rows < self.batch_rows && bytes < BATCH_BYTES {
            let Some(line) = self.records.row(self.columns.len())? else {
                self.ended = true;
                break;
            };
            bytes += self.records.row_bytes();
            rows += 1;
            for (index, column) in self.columns.iter_mut().enumerate() {
                let text = self.records.text(index, line)?;
                if self.dialect.is_null(text.as_bytes()) {
                    column.push_null();
                } else if !column.push(&text) {
                    return Err(misfit(line, self.schema.field(index), &text));
                }
            }
        }
        let columns = self.columns.iter_mut().map(|column| column.finish()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.schema(), columns, &options)?)
    }
}

impl<R: Read> Iterator for CsvReader<R> {
    type Item = Result<RecordBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let batch = self.batch();
        self.ended |= batch.is_err();
        Some(batch).filter(|batch| batch.as_ref().map_or(true, |batch| batch.num_rows() > 0))
    }
}

/// The columns: of the types that the table has, where it has them, or else by all values of the file.
fn schema(
    file: &Snapshot,
    delimiter: u8,
    dialect: &Dialect,
    table: Option<&TableTypes>,
) -> Result<Schema, Error> {
    let mut records = Records::new(file.reader()?, delimiter);
    let names = records.header()?;
    let known: Vec<_> = names.iter().map(|name| table?.of_text(name)).collect();
    let guessed = if known.iter().all(Option::is_some) {
        vec![DataType::Utf8; names.len()]
    } else {
        guess(&mut records, names.len(), |field| dialect.is_null(field))?
    };
    let types = known.into_iter().zip(guessed).map(|(known, guessed)| known.unwrap_or(guessed));
    let fields = names.into_iter().zip(types).map(|(name, data_type)| Field::new(name, data_type, true));
    Ok(Schema::new(fields.collect::<Vec<_>>()))
}

/// The delimiter of a file: a comma, unless that leaves one column, and another one makes more of the header and as many
/// of the first row.
fn delimiter(file: &Snapshot) -> Result<u8, Error> {
    let header = |delimiter| -> Result<_, Error> {
        let mut records = Records::new(file.reader()?, delimiter);
        // What is wrong by one delimiter may be right by another.
        let columns = records.header().map_or(1, |names| names.len());
        Ok((records, columns))
    };
    if header(b',')?.1 > 1 {
        return Ok(b',');
    }
    let mut best = (1, b',');
    for delimiter in OTHER_DELIMITERS {
        let (mut records, columns) = header(delimiter)?;
        if columns > best.0 && records.row(columns).is_ok() {
            best = (columns, delimiter);
        }
    }
    Ok(best.1)
}
