//! Files of text, whose values get a type by how they are written.
//!
//! Nothing is stored that is not in the file: the types come from all values, or from the table, and a value that its
//! type does not hold exactly is an error which names its line.

mod cells;
mod csv;
mod csv_records;
mod csv_types;
mod json;
mod json_columns;
mod json_objects;
mod json_scan;
mod json_types;
mod moments;
mod numbers;
mod table_types;

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom, Take},
};

use arrow_schema::{DataType, Field};
use merganser::Error;

pub(crate) use self::{
    csv::{CsvReader, Dialect},
    json::JsonReader,
    table_types::TableTypes,
};

/// Spreadsheets write it at the beginning of UTF-8 files; it belongs to no column name.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
/// As much of a value as an error shows.
const SHOWN_CHARS: usize = 60;
/// Ends a batch before it has its rows.
const BATCH_BYTES: usize = 16 << 20;

/// A file as it is now: what is appended while it is read does not count, or its types would not be those of all values.
pub(crate) struct Snapshot {
    file: File,
    begin: u64,
    end: u64,
}

impl Snapshot {
    pub(crate) fn new(mut file: File) -> Result<Self, Error> {
        let mut head = Vec::with_capacity(BYTE_ORDER_MARK.len());
        Read::take(&mut file, BYTE_ORDER_MARK.len() as u64).read_to_end(&mut head)?;
        let begin = if head == BYTE_ORDER_MARK { head.len() as u64 } else { 0 };
        let end = file.metadata()?.len().max(begin);
        Ok(Self { file, begin, end })
    }

    /// How many bytes of text there are.
    pub(crate) fn length(&self) -> u64 {
        self.end - self.begin
    }

    /// Reads from the beginning of the text; all readers of a file stand at the same place.
    pub(crate) fn reader(&self) -> Result<Take<File>, Error> {
        self.rewind()?;
        Ok(self.file.try_clone()?.take(self.length()))
    }

    fn rewind(&self) -> Result<(), Error> {
        (&self.file).seek(SeekFrom::Start(self.begin))?;
        Ok(())
    }
}

/// A line that cannot be loaded, and why.
fn refusal(line: u64, what: &str) -> Error {
    Error::Usage(format!("BAD_FILE: line {line} {what}"))
}

/// A value that the type of its column in the table does not hold.
fn misfit(line: u64, field: &Field, value: &str) -> Error {
    let mut shown: String = value.chars().take(SHOWN_CHARS).collect();
    if shown.len() < value.len() {
        shown.push('…');
    }
    let (name, data_type) = (field.name(), field.data_type());
    let what = match data_type {
        DataType::Null => {
            "and values of its column's type in the table are not read from text: load it into a column of \
                           VARCHAR, and cast it by SQL"
                .to_owned()
        }
        _ => format!(
            "which the table's type {} does not hold exactly: mend the file, or change the column's type",
            table_types::sql_name(data_type)
        ),
    };
    refusal(line, &format!("has {shown:?} in {name:?}, {what}"))
}
