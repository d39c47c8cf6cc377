//! Times in UTC, as Arrow's writers of text take them: they know offsets, and no names of zones.

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchWriter};
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};

const OFFSET: &str = "+00:00";

/// Writes batches whose times have an offset in place of the zone UTC.
pub(crate) struct WithOffsets<W>(pub(crate) W);

impl<W: RecordBatchWriter> RecordBatchWriter for WithOffsets<W> {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let schema = with_offsets(batch.schema_ref());
        let columns = batch.columns().iter().zip(schema.fields());
        let columns =
            columns.map(|(column, field)| cast(column, field.data_type())).collect::<Result<_, _>>()?;
        self.0.write(&RecordBatch::try_new(schema, columns)?)
    }

    fn close(self) -> Result<(), ArrowError> {
        self.0.close()
    }
}

/// The schema of what is written.
pub(crate) fn with_offsets(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| match field.data_type() {
        DataType::Timestamp(unit, Some(zone)) if is_utc(zone) => {
            Field::clone(field).with_data_type(DataType::Timestamp(*unit, Some(OFFSET.into())))
        }
        _ => Field::clone(field),
    });
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()))
}

fn is_utc(zone: &str) -> bool {
    ["UTC", "Etc/UTC", "Z"].contains(&zone)
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, TimestampMicrosecondArray};

    use super::*;

    #[test]
    fn a_time_in_utc_can_be_written_as_text() {
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![0]).with_timezone("UTC"));
        let batch = RecordBatch::try_from_iter([("at", times)]).unwrap();
        let mut text = Vec::new();
        let mut writer = WithOffsets(arrow_csv::Writer::new(&mut text));
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "at\n1970-01-01T00:00:00Z\n");
    }
}
