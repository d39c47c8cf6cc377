//! Apache Parquet.

use std::fs::File;

use arrow_array::RecordBatchReader;
use arrow_schema::ArrowError;
use merganser::Error;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{Reader, from_arrow};
use crate::cli::progress::FileBar;

pub(super) fn open(file: File, bar: &FileBar, batch_rows: usize) -> Result<Reader, Error> {
    let builder =
        ParquetRecordBatchReaderBuilder::try_new(file).map_err(ArrowError::from)?.with_batch_size(batch_rows);
    let rows = builder.metadata().file_metadata().num_rows();
    let bar = bar.count_rows(rows.max(0).unsigned_abs());
    let reader = builder.build().map_err(ArrowError::from)?;
    let schema = reader.schema();
    let counted = reader.inspect(move |batch| {
        if let Ok(batch) = batch {
            bar.inc(batch.num_rows() as u64);
        }
    });
    Ok(Reader { schema, batches: Box::new(counted.map(|batch| batch.map_err(from_arrow))) })
}
