//! One Parquet file, whose row groups leave as they fill. The footer comes last, so that a file that broke off is
//! no file.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use merganser_formats::{parquet_has, with_distinct};
use parquet::{
    arrow::ArrowWriter, basic::Compression, errors::ParquetError, file::properties::WriterProperties,
};

use super::Encode;
use crate::{
    engine::{Error, type_name},
    failure::{Failure, Kind},
};

/// Rows of a row group, as DuckDB has them,
const GROUP_ROWS: usize = 122_880;
/// or bytes in memory, whichever comes first.
const GROUP_BYTES: usize = 8 << 20;

/// A file whose bytes are taken as they come.
pub(super) struct File {
    schema: SchemaRef,
    writer: ArrowWriter<Vec<u8>>,
}

impl File {
    pub(super) fn new(schema: &SchemaRef) -> Result<Self, Failure> {
        if let Some(field) = schema.fields().iter().find(|field| !parquet_has(field.data_type())) {
            let text = format!(
                "column {:?}: {} has no place in Parquet; cast it to VARCHAR, or ask for another format",
                field.name(),
                type_name(field)
            );
            return Err(Failure::new(Kind::BadRequest, "UNSUPPORTED_TYPE", &text));
        }
        let schema = with_distinct(schema);
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .build();
        let writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), Some(properties)).map_err(bug)?;
        Ok(Self { schema, writer })
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.writer.inner_mut())
    }
}

impl Encode for File {
    fn head(&mut self) -> Result<Vec<u8>, Error> {
        self.writer.sync().map_err(|error| Error::Internal(error.to_string()))?;
        Ok(self.take())
    }

    fn rows(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, Error> {
        let batch = batch.clone().with_schema(Arc::clone(&self.schema))?;
        self.writer.write(&batch).map_err(bug)?;
        if self.writer.in_progress_size() >= GROUP_BYTES {
            self.writer.flush().map_err(bug)?;
        }
        Ok(self.take())
    }

    fn tail(&mut self) -> Result<Vec<u8>, Error> {
        self.writer.finish().map_err(bug)?;
        Ok(self.take())
    }
}

fn bug(error: ParquetError) -> Error {
    Error::Internal(error.to_string())
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, Int64Array, StringArray};
    use arrow_schema::{DataType, Field, IntervalUnit, Schema};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;
    use crate::http::format::{Format, testing::encoded};

    #[test]
    fn a_file_reads_back_as_it_was() {
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![Some(i64::MAX), None]));
        let names: ArrayRef = Arc::new(StringArray::from(vec![Some("ä"), Some("")]));
        let batch = RecordBatch::try_from_iter_with_nullable([("a", ids, true), ("b", names, true)]).unwrap();
        let bytes = encoded(Format::Parquet, &[batch.clone(), batch.clone()]);
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap().build();
        let read: Vec<_> = reader.unwrap().map(Result::unwrap).collect();
        let rows: usize = read.iter().map(RecordBatch::num_rows).sum();
        assert_eq!((rows, read[0].slice(0, 2)), (4, batch));
    }

    #[test]
    fn row_groups_leave_as_they_fill() {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..GROUP_ROWS as i64));
        let batch = RecordBatch::try_from_iter([("a", numbers)]).unwrap();
        let mut encoder = Format::Parquet.encoder(&batch.schema()).unwrap();
        assert_eq!(encoder.head().unwrap(), b"PAR1");
        assert!(!encoder.rows(&batch).unwrap().is_empty());
    }

    #[test]
    fn what_has_no_place_is_refused_at_once() {
        let interval = DataType::Interval(IntervalUnit::MonthDayNano);
        let nested = DataType::List(Arc::new(Field::new("item", interval, true)));
        let schema = Arc::new(Schema::new(vec![Field::new("a", nested, true)]));
        assert_eq!(Format::Parquet.encoder(&schema).err().unwrap().slug(), "UNSUPPORTED_TYPE");
    }
}
