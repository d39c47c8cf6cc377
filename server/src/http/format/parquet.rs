//! One Parquet file, whose row groups leave as they fill. The footer comes last, so that a file that broke off is
//! no file.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, IntervalUnit, SchemaRef};
use parquet::{
    arrow::ArrowWriter, basic::Compression, errors::ParquetError, file::properties::WriterProperties,
};

use super::{Encode, names::with_distinct};
use crate::engine::Error;

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
    pub(super) fn new(schema: &SchemaRef) -> Result<Self, Error> {
        for field in schema.fields() {
            if !has_place(field.data_type()) {
                return Err(Error::UnsupportedType {
                    what: format!(
                        "column {} (Parquet has no place for it; cast it to VARCHAR)",
                        field.name()
                    ),
                    data_type: field.data_type().to_string(),
                });
            }
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

/// Whether the writer takes a type.
fn has_place(data_type: &DataType) -> bool {
    match data_type {
        DataType::Union(_, _) | DataType::Interval(IntervalUnit::MonthDayNano) => false,
        DataType::Struct(fields) => {
            !fields.is_empty() && fields.iter().all(|field| has_place(field.data_type()))
        }
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => has_place(item.data_type()),
        _ => true,
    }
}
