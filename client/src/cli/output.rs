//! Where the rows of a query go, and in which form.

use std::{
    io::{self, BufWriter, ErrorKind, IsTerminal, Write},
    path::Path,
};

use arrow_array::{RecordBatch, RecordBatchWriter};
use arrow_ipc::writer::StreamWriter;
use arrow_json::{
    WriterBuilder as JsonWriterBuilder,
    writer::{JsonArray, LineDelimited},
};
use arrow_schema::{ArrowError, FieldRef, Schema, SchemaRef};
use clap::ValueEnum;
use merganser::Error;
use merganser_formats::{csv_header, csv_lines, json_values, parquet_has};
use parquet::arrow::ArrowWriter;
use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    task::JoinHandle,
};

use super::{pretty::TableWriter, target::Sink};

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RowFormat {
    /// A table with borders, for people
    Table,
    /// Comma-separated values with a header line
    Csv,
    /// One JSON array of objects
    Json,
    /// One JSON object a line
    Ndjson,
    /// An Arrow IPC stream
    Arrow,
    /// Apache Parquet
    Parquet,
}

impl RowFormat {
    /// The format that is asked for, or else the one that the file's ending tells; on stdout a table.
    pub(crate) fn chosen(asked: Option<Self>, output: Option<&Path>) -> Result<Self, Error> {
        match (asked, output) {
            (Some(format), _) => Ok(format),
            (None, Some(path)) => Self::of(path),
            (None, None) => Ok(Self::Table),
        }
    }

    fn of(path: &Path) -> Result<Self, Error> {
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        match extension.to_ascii_lowercase().as_str() {
            "csv" => Ok(Self::Csv),
            "json" => Ok(Self::Json),
            "ndjson" | "jsonl" => Ok(Self::Ndjson),
            "arrow" | "arrows" => Ok(Self::Arrow),
            "parquet" => Ok(Self::Parquet),
            _ => Err(Error::Usage(format!(
                "the ending of {} tells no format: name it .csv, .json, .ndjson, .jsonl, .arrow, .arrows or .parquet, or \
                 give --format",
                path.display()
            ))),
        }
    }

    /// Refuses columns that the format has no place for, before there is a file.
    pub(crate) fn check(self, schema: &Schema) -> Result<(), Error> {
        let lacks = |field: &&FieldRef| self == Self::Parquet && !parquet_has(field.data_type());
        match schema.fields().iter().find(lacks) {
            Some(field) => Err(Error::Usage(format!(
                "column {:?} has no place in Parquet: cast it to VARCHAR, or give another --format",
                field.name()
            ))),
            None => Ok(()),
        }
    }

    fn is_binary(self) -> bool {
        matches!(self, Self::Arrow | Self::Parquet)
    }
}

/// What the writer is told: rows, or that they are complete. A channel that closes before that means
/// that the query failed, and half a result must not end like a whole one.
#[derive(Debug)]
pub(crate) enum Piece {
    Rows(RecordBatch),
    End,
}

/// Rows on their way into a sink.
pub(crate) struct Output {
    sink: BufWriter<Sink>,
    pipe_closed: bool,
}

impl Output {
    /// Writes there, in pieces of some size.
    pub(crate) fn new(sink: Sink) -> Self {
        Self { sink: BufWriter::with_capacity(64 << 10, sink), pipe_closed: false }
    }

    /// Starts to write on a thread of its own, since formatting is work and a pipe may stall. The short
    /// channel makes a slow reader slow down the server.
    pub(crate) fn start(
        self,
        format: RowFormat,
        schema: SchemaRef,
        max_rows: usize,
    ) -> (Sender<Piece>, JoinHandle<Result<(), Error>>) {
        let (sender, pieces) = mpsc::channel(2);
        let writer = tokio::task::spawn_blocking(move || self.write(format, schema, max_rows, pieces));
        (sender, writer)
    }

    fn write(
        mut self,
        format: RowFormat,
        schema: SchemaRef,
        max_rows: usize,
        pieces: Receiver<Piece>,
    ) -> Result<(), Error> {
        let result = self.write_rows(format, schema, max_rows, pieces).and_then(|()| Ok(self.flush()?));
        // Asked here because the writers turn an I/O error into text on its way.
        if result.is_err() && self.pipe_closed {
            return Err(Error::Io(ErrorKind::BrokenPipe.into()));
        }
        result
    }

    fn write_rows(
        &mut self,
        format: RowFormat,
        schema: SchemaRef,
        max_rows: usize,
        pieces: Receiver<Piece>,
    ) -> Result<(), Error> {
        let json = JsonWriterBuilder::new().with_explicit_nulls(true).with_encoder_factory(json_values());
        match format {
            RowFormat::Table => drain(TableWriter::new(self, schema, max_rows), pieces),
            RowFormat::Csv => {
                // The header has to come without rows, too.
                self.write_all(&csv_header(&schema))?;
                drain(CsvWriter(self), pieces)
            }
            RowFormat::Json => {
                drain(json.build::<_, JsonArray>(&mut *self), pieces)?;
                // The array ends without one, and a shell's prompt would stand behind it.
                Ok(self.write_all(b"\n")?)
            }
            RowFormat::Ndjson => drain(json.build::<_, LineDelimited>(self), pieces),
            RowFormat::Arrow => drain(StreamWriter::try_new(self, &schema)?, pieces),
            RowFormat::Parquet => {
                let parquet = ArrowWriter::try_new(self, schema, None).map_err(ArrowError::from)?;
                drain(parquet, pieces)
            }
        }
    }
}

/// Writes rows as lines.
struct CsvWriter<W>(W);

impl<W: Write> RecordBatchWriter for CsvWriter<W> {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        Ok(self.0.write_all(&csv_lines(batch)?)?)
    }

    fn close(self) -> Result<(), ArrowError> {
        Ok(())
    }
}

fn drain(mut writer: impl RecordBatchWriter, mut pieces: Receiver<Piece>) -> Result<(), Error> {
    while let Some(piece) = pieces.blocking_recv() {
        match piece {
            Piece::Rows(batch) => writer.write(&batch)?,
            Piece::End => return Ok(writer.close()?),
        }
    }
    Ok(())
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.sink.write(bytes);
        self.notice(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.sink.flush();
        self.notice(result)
    }
}

impl Output {
    fn notice<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            self.pipe_closed |= error.kind() == ErrorKind::BrokenPipe;
        }
        result
    }
}

/// Binary data on a terminal helps nobody and may garble it.
pub(crate) fn refuse_binary_on_terminal(format: RowFormat, output: Option<&Path>) -> Result<(), Error> {
    if format.is_binary() && output.is_none() && io::stdout().is_terminal() {
        return Err(Error::Usage("such data is not for a terminal: use --output FILE or a pipe".into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use arrow_array::{ArrayRef, Int64Array};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReader;

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn rows() -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
        RecordBatch::try_from_iter_with_nullable([("a", column, true)]).unwrap()
    }

    fn output(sink: impl Write + Send + 'static) -> Output {
        Output::new(Box::new(sink))
    }

    fn written(format: RowFormat, pieces: Vec<Piece>) -> String {
        String::from_utf8(bytes(format, pieces)).unwrap()
    }

    fn bytes(format: RowFormat, pieces: Vec<Piece>) -> Vec<u8> {
        let sink = Shared::default();
        let (sender, receiver) = mpsc::channel(8);
        for piece in pieces {
            sender.try_send(piece).unwrap();
        }
        drop(sender);
        let result = output(sink.clone()).write(format, rows().schema(), 10, receiver);
        result.unwrap();
        sink.0.lock().unwrap().clone()
    }

    #[test]
    fn text_formats() {
        let pieces = || vec![Piece::Rows(rows()), Piece::End];
        assert_eq!(written(RowFormat::Csv, pieces()), "a\n1\n\"\"\n");
        assert_eq!(written(RowFormat::Json, pieces()), "[{\"a\":1},{\"a\":null}]\n");
        assert_eq!(written(RowFormat::Ndjson, pieces()), "{\"a\":1}\n{\"a\":null}\n");
    }

    #[test]
    fn parquet_is_read_back_and_a_broken_result_is_not() {
        for (pieces, whole) in
            [(vec![Piece::Rows(rows()), Piece::End], true), (vec![Piece::Rows(rows())], false)]
        {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes(RowFormat::Parquet, pieces)).unwrap();
            let read = ParquetRecordBatchReader::try_new(file, 10);
            let read = read.map(|batches| batches.map(Result::unwrap).collect::<Vec<_>>());
            assert_eq!(read.ok(), whole.then(|| vec![rows()]));
        }
    }

    #[test]
    fn the_ending_of_a_file_tells_its_format() {
        for (file, expected) in [
            ("a.csv", RowFormat::Csv),
            ("a.JSON", RowFormat::Json),
            ("a.ndjson", RowFormat::Ndjson),
            ("a.jsonl", RowFormat::Ndjson),
            ("a.arrow", RowFormat::Arrow),
            ("a.b.parquet", RowFormat::Parquet),
        ] {
            assert_eq!(RowFormat::chosen(None, Some(Path::new(file))).unwrap(), expected, "{file}");
        }
        for file in ["a", "a.txt", "csv", "a.csv.gz"] {
            let error = RowFormat::chosen(None, Some(Path::new(file))).unwrap_err();
            assert!(error.to_string().contains(".csv, .json"), "{error}");
            let table = RowFormat::chosen(Some(RowFormat::Table), Some(Path::new(file)));
            assert_eq!(table.unwrap(), RowFormat::Table);
        }
        assert_eq!(RowFormat::chosen(None, None).unwrap(), RowFormat::Table);
    }

    #[test]
    fn no_rows_are_a_valid_file_too() {
        assert_eq!(written(RowFormat::Csv, vec![Piece::End]), "a\n");
        assert_eq!(written(RowFormat::Json, vec![Piece::End]), "[]\n");
        assert_eq!(written(RowFormat::Ndjson, vec![Piece::End]), "");
    }

    #[test]
    fn a_broken_result_is_not_closed_as_if_it_were_whole() {
        assert_eq!(written(RowFormat::Json, vec![Piece::Rows(rows())]), "[{\"a\":1},{\"a\":null}\n");
        assert_eq!(written(RowFormat::Table, vec![Piece::Rows(rows())]), "");
    }

    #[test]
    fn a_closed_pipe_is_told_from_other_failures() {
        let (sender, receiver) = mpsc::channel(8);
        sender.try_send(Piece::Rows(rows())).unwrap();
        sender.try_send(Piece::End).unwrap();
        let result = output(Closed).write(RowFormat::Csv, rows().schema(), 10, receiver);
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Io(error) if error.kind() == ErrorKind::BrokenPipe));
    }
}
