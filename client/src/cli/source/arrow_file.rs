//! Arrow IPC, as a stream or as a file.

use std::{
    fs::File,
    io::{Read, Seek},
};

use arrow_array::RecordBatchReader;
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_schema::ArrowError;
use merganser::Error;

use super::{Reader, buffered, from_arrow};
use crate::cli::progress::FileBar;

/// What begins a file; a stream begins otherwise.
const FILE_MAGIC: &[u8] = b"ARROW1";

pub(super) fn open(mut file: File, bar: &FileBar) -> Result<Reader, Error> {
    let mut magic = Vec::with_capacity(FILE_MAGIC.len());
    Read::take(&mut file, FILE_MAGIC.len() as u64).read_to_end(&mut magic)?;
    file.rewind()?;
    let length = file.metadata()?.len();
    let reader = buffered(bar.read_bytes(file, length));
    if magic == FILE_MAGIC {
        Ok(reader_of(FileReader::try_new(reader, None)?))
    } else {
        Ok(reader_of(StreamReader::try_new(reader, None)?))
    }
}

fn reader_of(reader: impl RecordBatchReader + Send + 'static) -> Reader {
    Reader { schema: reader.schema(), batches: Box::new(reader.map(|batch| batch.map_err(unreadable))) }
}

/// Arrow's words, but where they are about how this command was built.
fn unreadable(error: ArrowError) -> Error {
    match error.to_string().contains("IPC decompression requires") {
        true => Error::Usage(
            "its columns are compressed, which is not read here: write it without compression, or let the server read it \
             by read_arrow"
                .into(),
        ),
        false => from_arrow(error),
    }
}
