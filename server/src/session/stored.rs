//! The rows of one kept result: as Arrow IPC, which takes no more than it needs, in memory or in a file.

use std::{
    fs::File,
    io::{BufReader, Read, Write},
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
};

use arrow_array::RecordBatch;
use arrow_ipc::{reader::StreamReader, writer::StreamWriter};
use arrow_schema::Schema;

use crate::engine::Error;

/// Rows that can be read any number of times.
pub(super) enum Stored {
    Memory(Vec<u8>),
    /// A file without a name: it is gone with the process. With its length.
    File(File, usize),
}

impl Stored {
    /// Waits for the disk. Where that takes nothing, the rows stay in memory: their statement has run.
    pub(super) fn in_file(folder: &Path, bytes: Vec<u8>) -> Self {
        match write(folder, &bytes) {
            Ok(file) => Self::File(file, bytes.len()),
            Err(error) => {
                tracing::warn!(%error, "the rows of a write stay in memory, because no file takes them");
                Self::Memory(bytes)
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.len(),
            Self::File(_, length) => *length,
        }
    }

    pub(super) fn in_memory(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.len(),
            Self::File(..) => 0,
        }
    }
}

/// Reads a result batch by batch, however many others do. Each may wait for the disk.
pub(super) type Rows = StreamReader<BufReader<Reading>>;

/// How far one reader is.
pub(super) struct Reading {
    stored: Arc<Stored>,
    at: usize,
}

impl Reading {
    /// The rows from the first on.
    pub(super) fn rows(stored: Arc<Stored>) -> Result<Rows, Error> {
        Ok(StreamReader::try_new_buffered(Self { stored, at: 0 }, None)?)
    }
}

impl Read for Reading {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = match &*self.stored {
            Stored::Memory(bytes) => (&bytes[self.at..]).read(into)?,
            Stored::File(file, _) => file.read_at(into, self.at as u64)?,
        };
        self.at += read;
        Ok(read)
    }
}

/// The rows as bytes, none of which are spare.
pub(super) fn encode(schema: &Schema, batches: &[RecordBatch]) -> Result<Vec<u8>, Error> {
    let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
    batches.iter().try_for_each(|batch| writer.write(batch))?;
    let mut bytes = writer.into_inner()?;
    bytes.shrink_to_fit();
    Ok(bytes)
}

fn write(folder: &Path, bytes: &[u8]) -> std::io::Result<File> {
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::tempfile_in(folder)?;
    file.write_all(bytes)?;
    Ok(file)
}
