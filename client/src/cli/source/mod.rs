//! Files as streams of record batches: those with types by Arrow's own readers, text by ours.

mod arrow_file;
mod format;
mod parquet_file;
mod read_ahead;
#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, SchemaRef};
use futures::Stream;
use merganser::Error;

use self::read_ahead::read_ahead;
use super::{
    progress::FileBar,
    text::{CsvReader, Dialect, JsonReader, Snapshot, TableTypes},
};
pub(crate) use format::FileFormat;

const READ_BUFFER_BYTES: usize = 1 << 20;

/// How to read a file.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The file.
    pub(crate) path: PathBuf,
    /// Its format; none means what its extension tells.
    pub(crate) format: Option<FileFormat>,
    /// Rows a batch, where the file itself does not say.
    pub(crate) batch_rows: usize,
    /// How values are written in CSV.
    pub(crate) dialect: Dialect,
    /// The types that values of text are to have; none means that the values tell.
    pub(crate) table: Option<TableTypes>,
}

/// The rows of a file.
type Batches = Box<dyn Iterator<Item = Result<RecordBatch, Error>> + Send>;

/// A file that is open.
struct Reader {
    schema: SchemaRef,
    batches: Batches,
}

/// That it was I/O says less than what it was.
pub(crate) fn from_arrow(error: ArrowError) -> Error {
    match error {
        ArrowError::IoError(_, error) => Error::Io(error),
        error => Error::Arrow(error),
    }
}

impl Source {
    /// Opens the file; its batches are decoded on a thread of their own, a little ahead.
    pub(crate) async fn open(
        self,
        bar: FileBar,
    ) -> Result<(SchemaRef, impl Stream<Item = Result<RecordBatch, Error>> + Send + use<>), Error> {
        let opening = tokio::task::spawn_blocking(move || self.reader(&bar));
        let reader = opening.await.map_err(io::Error::from)??;
        Ok((reader.schema, read_ahead(reader.batches)))
    }

    fn reader(&self, bar: &FileBar) -> Result<Reader, Error> {
        refuse_pipe(&self.path)?;
        let format = self.format.map_or_else(|| FileFormat::of(&self.path), Ok)?;
        let file = File::open(&self.path)?;
        match format {
            FileFormat::Parquet => parquet_file::open(file, bar, self.batch_rows),
            FileFormat::Csv => self.csv(file, bar),
            FileFormat::Json => self.json(file, bar),
            FileFormat::Arrow => arrow_file::open(file, bar),
        }
    }

    fn csv(&self, file: File, bar: &FileBar) -> Result<Reader, Error> {
        let file = Snapshot::new(file)?;
        let rows = bar.read_bytes(file.reader()?, file.length());
        let (dialect, table) = (self.dialect.clone(), self.table.as_ref());
        let reader = CsvReader::open(&file, rows, dialect, table, self.batch_rows)?;
        Ok(Reader { schema: reader.schema(), batches: Box::new(reader) })
    }

    fn json(&self, file: File, bar: &FileBar) -> Result<Reader, Error> {
        let file = Snapshot::new(file)?;
        let rows = buffered(bar.read_bytes(file.reader()?, file.length()));
        let reader = JsonReader::open(&file, rows, self.table.as_ref(), self.batch_rows)?;
        Ok(Reader { schema: reader.schema(), batches: Box::new(reader) })
    }
}

/// Refuses what ends when it has been read: a file is looked at before its rows are read, and once more for another
/// try or with `--resume`.
fn refuse_pipe(path: &Path) -> Result<(), Error> {
    // What is not there is better told of by opening it.
    let is_pipe = std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir());
    if is_pipe || path == Path::new("-") {
        return Err(Error::Usage("it cannot be read twice: write it to a file first".into()));
    }
    Ok(())
}

pub(crate) fn buffered<R: Read>(reader: R) -> BufReader<R> {
    BufReader::with_capacity(READ_BUFFER_BYTES, reader)
}
