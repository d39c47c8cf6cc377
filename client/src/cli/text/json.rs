//! Files of JSON lines as record batches, each value exactly as it is written.

use std::{io::BufRead, sync::Arc};

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{Schema, SchemaRef};
use merganser::Error;

use super::{
    BATCH_BYTES, Snapshot, TableTypes,
    json_columns::{Misfit, Objects},
    json_objects::Values,
    json_scan::Scan,
    json_types::Members,
    misfit, refusal,
};
use crate::cli::source::buffered;

/// Reads a file of which the columns are known.
pub(crate) struct JsonReader<R> {
    values: Values<R>,
    schema: SchemaRef,
    columns: Objects,
    batch_rows: usize,
    ended: bool,
}

impl<R: BufRead> JsonReader<R> {
    /// Finds out the columns, by what `file` gives anew each time, and reads the rows from `rows`.
    pub(crate) fn open(
        file: &Snapshot,
        rows: R,
        table: Option<&TableTypes>,
        batch_rows: usize,
    ) -> Result<Self, Error> {
        let (mut members, mut values) = (Members::of(table), Values::new(buffered(file.reader()?)));
        while let Some((value, line)) = values.next()? {
            members.add_row(value, line)?;
        }
        file.rewind()?;
        let schema = Schema::new(members.fields());
        if schema.fields().is_empty() {
            return Err(Error::Usage("it has no columns: JSON lines of objects are expected".into()));
        }
        let columns = Objects::new(schema.fields());
        Ok(Self { values: Values::new(rows), schema: Arc::new(schema), columns, batch_rows, ended: false })
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The next batch; one without rows at the end.
    fn batch(&mut self) -> Result<RecordBatch, Error> {
        let (mut rows, mut bytes) = (0, 0);
        while rows < self.batch_rows && bytes < BATCH_BYTES {
            let Some((value, line)) = self.values.next()? else {
                self.ended = true;
                break;
            };
            bytes += value.len();
            rows += 1;
            let pushed = self.columns.push(&mut Scan::new(value));
            pushed.map_err(|refused| explained(&refused, line, &self.schema))?;
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.schema(), self.columns.finish()?, &options)?)
    }
}

impl<R: BufRead> Iterator for JsonReader<R> {
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

fn explained(refused: &Misfit<'_>, line: u64, schema: &Schema) -> Error {
    match refused.place {
        Some(place) => {
            let said = Scan::new(refused.written).text();
            misfit(line, schema.field(place), &said)
        }
        // All members of all objects had a column when the file was looked at.
        None => refusal(line, "has changed while the file was read"),
    }
}
