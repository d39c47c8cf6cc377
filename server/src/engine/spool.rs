//! Rows put aside, because their connection is needed before their client has read them: in memory, and
//! on disk beyond that.

use std::{
    fs::File,
    io::{BufReader, BufWriter, Seek},
    path::{Path, PathBuf},
};

use arrow_array::RecordBatch;
use arrow_ipc::{reader::StreamReader, writer::StreamWriter};

use super::{Error, Result};

/// Bytes of rows that stay in memory.
const MEMORY_BYTES: usize = 16 << 20;
/// Bytes of rows that go to disk at the most.
const DISK_BYTES: usize = 8 << 30;

/// Batches of one schema, first in, first out.
pub(crate) struct Spool {
    folder: PathBuf,
    memory: Vec<RecordBatch>,
    bytes: usize,
    /// A file without a name: it is gone with the process.
    disk: Option<StreamWriter<BufWriter<File>>>,
}

impl Spool {
    /// A spool that overflows into a file in `folder`.
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), memory: Vec::new(), bytes: 0, disk: None }
    }

    /// Puts a batch aside.
    ///
    /// # Errors
    /// [`Error::ResultTooLarge`]; [`Error::Internal`] when the file cannot be written.
    pub(crate) fn push(&mut self, batch: RecordBatch) -> Result<()> {
        self.bytes += batch.get_array_memory_size();
        if self.bytes > DISK_BYTES {
            return Err(Error::ResultTooLarge(DISK_BYTES));
        }
        if self.bytes <= MEMORY_BYTES {
            self.memory.push(batch);
            return Ok(());
        }
        let disk = match &mut self.disk {
            Some(disk) => disk,
            none => none.insert(open(&self.folder, &batch)?),
        };
        Ok(disk.write(&batch)?)
    }

    /// The batches, in their order.
    pub(crate) fn into_batches(self) -> Result<impl Iterator<Item = Result<RecordBatch>>> {
        let disk = self.disk.map(reopen).transpose()?;
        Ok(self.memory.into_iter().map(Ok).chain(disk.into_iter().flatten().map(|batch| Ok(batch?))))
    }
}

fn open(folder: &Path, batch: &RecordBatch) -> Result<StreamWriter<BufWriter<File>>> {
    let file = std::fs::create_dir_all(folder).and_then(|()| tempfile::tempfile_in(folder));
    let file = file.map_err(|error| unwritable(&error))?;
    Ok(StreamWriter::try_new(BufWriter::new(file), batch.schema_ref())?)
}

fn reopen(writer: StreamWriter<BufWriter<File>>) -> Result<StreamReader<BufReader<File>>> {
    let mut file = writer.into_inner()?.into_inner().map_err(|error| unwritable(error.error()))?;
    file.rewind().map_err(|error| unwritable(&error))?;
    Ok(StreamReader::try_new(BufReader::new(file), None)?)
}

fn unwritable(error: &std::io::Error) -> Error {
    Error::Internal(format!("the rows of an open result cannot be put aside: {error}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int64Array, cast::AsArray, types::Int64Type};
    use arrow_schema::{DataType, Field, Schema};

    use super::*;

    #[test]
    fn what_overflows_to_disk_comes_back_in_order() {
        let schema = Arc::new(Schema::new(vec![Field::new("x", DataType::Int64, true)]));
        let rows = 1_000_000_i64;
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(folder.path());
        for first in 0..6 {
            let column = Int64Array::from_iter_values(first * rows..(first + 1) * rows);
            spool.push(RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(column)]).unwrap()).unwrap();
        }
        assert!(spool.disk.is_some() && !spool.memory.is_empty());
        let mut next = 0;
        for batch in spool.into_batches().unwrap() {
            for &value in batch.unwrap().column(0).as_primitive::<Int64Type>().values() {
                assert_eq!(value, next);
                next += 1;
            }
        }
        assert_eq!(next, 6 * rows);
        assert_eq!(folder.path().read_dir().unwrap().count(), 0, "the file has no name");
    }
}
