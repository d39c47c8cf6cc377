//! Files as streams of record batches: those with types by Arrow's own readers, text by ours.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek},
    path::{Path, PathBuf},
};

use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_schema::{ArrowError, SchemaRef};
use clap::ValueEnum;
use futures::{Stream, StreamExt, stream};
use merganser::Error;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    progress::FileBar,
    text::{CsvReader, Dialect, JsonReader, Snapshot, TableTypes},
};

/// What begins an Arrow IPC file; a stream begins otherwise.
const ARROW_FILE_MAGIC: &[u8] = b"ARROW1";
const READ_BUFFER_BYTES: usize = 1 << 20;
/// Batches read ahead of the network: one is being sent while the next is decoded.
const BATCHES_AHEAD: usize = 2;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileFormat {
    /// Apache Parquet
    Parquet,
    /// Values separated by commas, or by --delimiter, with a header line
    Csv,
    /// One JSON object a line
    Json,
    /// An Arrow IPC stream or file
    Arrow,
}

impl FileFormat {
    /// Tells the format by the extension of the file.
    pub(crate) fn of(path: &Path) -> Result<Self, Error> {
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        match extension.to_ascii_lowercase().as_str() {
            "parquet" | "pq" => Ok(Self::Parquet),
            "csv" | "tsv" => Ok(Self::Csv),
            "json" | "jsonl" | "ndjson" => Ok(Self::Json),
            "arrow" | "arrows" | "feather" | "ipc" => Ok(Self::Arrow),
            other => Err(Error::Usage(match compression(other) {
                Some(name) => format!("it is compressed by {name}, which is not taken: decompress it first"),
                None => "its extension tells no format: give --format".into(),
            })),
        }
    }

    /// Whether the types of its values are not in the file.
    pub(crate) fn is_text(self) -> bool {
        matches!(self, Self::Csv | Self::Json)
    }
}

/// What has compressed a file of this extension.
fn compression(extension: &str) -> Option<&'static str> {
    match extension {
        "gz" => Some("gzip"),
        "zst" => Some("Zstandard"),
        "bz2" => Some("bzip2"),
        "xz" => Some("xz"),
        _ => None,
    }
}

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

/// A file that is open.
struct Reader {
    schema: SchemaRef,
    batches: Box<dyn Iterator<Item = Result<RecordBatch, Error>> + Send>,
}

impl Reader {
    /// Of what Arrow reads.
    fn of(reader: impl RecordBatchReader + Send + 'static) -> Self {
        Self { schema: reader.schema(), batches: Box::new(reader.map(|batch| batch.map_err(from_arrow))) }
    }
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
            FileFormat::Parquet => self.parquet(file, bar),
            FileFormat::Csv => self.csv(file, bar),
            FileFormat::Json => self.json(file, bar),
            FileFormat::Arrow => self.arrow(file, bar),
        }
    }

    fn parquet(&self, file: File, bar: &FileBar) -> Result<Reader, Error> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file)
            .map_err(ArrowError::from)?
            .with_batch_size(self.batch_rows);
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

    fn arrow(&self, mut file: File, bar: &FileBar) -> Result<Reader, Error> {
        let mut magic = Vec::with_capacity(ARROW_FILE_MAGIC.len());
        Read::take(&mut file, ARROW_FILE_MAGIC.len() as u64).read_to_end(&mut magic)?;
        file.rewind()?;
        let length = file.metadata()?.len();
        let reader = buffered(bar.read_bytes(file, length));
        if magic == ARROW_FILE_MAGIC {
            Ok(Reader::of(FileReader::try_new(reader, None)?))
        } else {
            Ok(Reader::of(StreamReader::try_new(reader, None)?))
        }
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

/// Decodes on a blocking thread. The stream ends only when the reader has returned: a reader that
/// panics must not look like the end of the file.
fn read_ahead(
    batches: impl Iterator<Item = Result<RecordBatch, Error>> + Send + 'static,
) -> impl Stream<Item = Result<RecordBatch, Error>> + Send {
    let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
    let thread = tokio::task::spawn_blocking(move || {
        for batch in batches {
            let failed = batch.is_err();
            if sender.blocking_send(batch).is_err() || failed {
                return;
            }
        }
    });
    stream::unfold((receiver, Some(thread)), |(mut receiver, mut thread)| async {
        let item = match receiver.recv().await {
            Some(batch) => batch,
            None => Err(outcome(thread.take()?).await?),
        };
        Some((item, (receiver, thread)))
    })
    // Whoever cuts the batches into units may ask once more at the end.
    .fuse()
}

/// What became of the reading thread: nothing to tell, or that it panicked.
async fn outcome(thread: JoinHandle<()>) -> Option<Error> {
    let error = thread.await.err()?;
    Some(Error::Io(io::Error::other(format!("the file could not be read: {error}"))))
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::fd::AsRawFd};

    use arrow_array::{Array, cast::AsArray};
    use arrow_cast::display::array_value_to_string;
    use arrow_schema::{DataType, Field, Schema, TimeUnit};
    use futures::TryStreamExt;

    use super::*;

    async fn load(name: &str, content: &[u8]) -> Result<Vec<RecordBatch>, Error> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        read(&path).await
    }

    async fn read(path: &Path) -> Result<Vec<RecordBatch>, Error> {
        read_as(path, usual(), None).await
    }

    async fn read_as(
        path: &Path,
        dialect: Dialect,
        table: Option<TableTypes>,
    ) -> Result<Vec<RecordBatch>, Error> {
        let source = Source { format: None, path: path.to_owned(), batch_rows: 2, dialect, table };
        let (_, batches) = source.open(FileBar::hidden()).await?;
        batches.try_collect().await
    }

    fn rows(batches: &[RecordBatch]) -> usize {
        batches.iter().map(RecordBatch::num_rows).sum()
    }

    #[tokio::test]
    async fn csv_and_json_lines() {
        let csv = load("a.csv", b"a,b\n1,x\n2,y\n3,z\n").await.unwrap();
        assert_eq!((rows(&csv), csv.len()), (3, 2));
        let json = load("a.jsonl", b"{\"a\":1}\n{\"a\":2}\n{\"a\":null}\n").await.unwrap();
        assert_eq!(rows(&json), 3);
    }

    #[tokio::test]
    async fn both_arrow_formats_and_parquet() {
        let batches = load("a.csv", b"a\n1\n").await.unwrap();
        let batch = &batches[0];
        let schema = batch.schema();
        let mut stream = arrow_ipc::writer::StreamWriter::try_new(Vec::new(), &schema).unwrap();
        stream.write(batch).unwrap();
        let stream = stream.into_inner().unwrap();
        assert_eq!(load("a.arrows", &stream).await.unwrap(), batches);

        let mut file = arrow_ipc::writer::FileWriter::try_new(Vec::new(), &schema).unwrap();
        file.write(batch).unwrap();
        let file = file.into_inner().unwrap();
        assert_eq!(load("a.arrow", &file).await.unwrap(), batches);

        let mut parquet = parquet::arrow::ArrowWriter::try_new(Vec::new(), schema, None).unwrap();
        parquet.write(batch).unwrap();
        let parquet = parquet.into_inner().unwrap();
        assert_eq!(load("a.parquet", &parquet).await.unwrap(), batches);
    }

    #[tokio::test]
    async fn bad_files_are_errors() {
        assert!(load("a.parquet", b"not parquet").await.is_err());
        assert!(load("a.arrow", b"").await.is_err());
        assert!(load("a.csv", b"a\n1\n2,3\n").await.is_err());
        assert!(load("a.json", b"{\"a\":1}\n{\"a\":").await.is_err());
        assert!(matches!(load("a.txt", b"").await, Err(Error::Usage(_))));
    }

    #[tokio::test]
    async fn an_empty_line_of_a_single_column_is_not_left_out() {
        let error = load("a.csv", b"a\n1\n\n3\n").await.unwrap_err();
        assert!(error.to_string().contains("line 3 is empty"), "{error}");
        let batches = load("a.csv", b"a\nx\n\"\"\n").await.unwrap();
        assert_eq!((rows(&batches), batches[0].column(0).null_count()), (2, 1));
        let batches = load("a.csv", b"a,b\nx,\n\n\"\",y\n").await.unwrap();
        let nulls = |column: usize| batches[0].column(column).null_count();
        assert_eq!((rows(&batches), nulls(0), nulls(1)), (2, 1, 1));
    }

    /// What is stored of a file in a column, as text.
    async fn values(
        name: &str,
        content: &str,
        dialect: Dialect,
        table: Option<DataType>,
    ) -> Result<Vec<String>, Error> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        let table =
            table.map(|data_type| TableTypes::new(&Schema::new(vec![Field::new("A", data_type, true)])));
        let batches = read_as(&path, dialect, table).await?;
        let text = |batch: &RecordBatch, row| array_value_to_string(batch.column(0), row).unwrap();
        let rows = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| text(batch, row)));
        Ok(rows.collect())
    }

    fn usual() -> Dialect {
        Dialect { delimiter: None, nulls: vec![String::new()] }
    }

    #[tokio::test]
    async fn a_late_value_is_stored_as_it_is_written() {
        let many = |value: &str| format!("{value}\n").repeat(20_500);
        for (early, late, expected) in [
            ("1", "1.75", "1.75"),
            ("1", "x", "x"),
            ("2024-01-01 00:00:00", "2024-01-01 00:00:00.987", "2024-01-01T00:00:00.987"),
            ("2024-01-01 00:00:00.123", "2024-01-01 00:00:00.123456", "2024-01-01T00:00:00.123456"),
            ("2024-01-01", "2024-01-01 13:14:15", "2024-01-01T13:14:15"),
            ("2024-01-01 00:00:00", "2016-12-31 23:59:60", "2016-12-31 23:59:60"),
        ] {
            let csv = format!("a\n{}{late}\n", many(early));
            let stored = values("a.csv", &csv, usual(), None).await.unwrap();
            assert_eq!((stored.len(), stored[20_500].as_str()), (20_501, expected), "{late}");
        }
        for (early, late, expected) in [
            ("1", "1.75", "1.75"),
            ("1", "18446744073709551615", "18446744073709551615"),
            ("1.5", "9007199254740993", "9007199254740993.0"),
            ("\"x\"", "1.50", "1.50"),
        ] {
            let json = format!("{}{{\"a\":{late}}}\n", many(&format!("{{\"a\":{early}}}")));
            let stored = values("a.json", &json, usual(), None).await.unwrap();
            assert_eq!((stored.len(), stored[20_500].as_str()), (20_501, expected), "{late}");
        }
    }

    #[tokio::test]
    async fn values_have_the_types_of_the_table() {
        for (name, content) in [("a.csv", "a\n1\n2.50\n"), ("a.json", "{\"a\":1}\n{\"a\":2.50}\n")] {
            for (data_type, expected) in [
                (DataType::Float64, Ok(["1.0", "2.5"])),
                (DataType::Utf8, Ok(["1", "2.50"])),
                (DataType::Decimal128(10, 2), Ok(["1.00", "2.50"])),
                (DataType::Int32, Err("has \"2.50\" in \"a\", which the table's type INTEGER does not hold")),
                (DataType::Date32, Err("has \"1\" in \"a\"")),
            ] {
                let stored = values(name, content, usual(), Some(data_type.clone())).await;
                match (stored, expected) {
                    (Ok(stored), Ok(expected)) => assert_eq!(stored, expected, "{name} {data_type}"),
                    (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
                    other => panic!("{name} {data_type}: {other:?}"),
                }
            }
        }
        let json = "{\"a\":null}\n{\"a\":\"2024-01-01T00:00:00\"}\n";
        let stored =
            values("a.json", json, usual(), Some(DataType::Timestamp(TimeUnit::Microsecond, None))).await;
        assert_eq!(stored.unwrap(), ["", "2024-01-01T00:00:00"]);
        let error =
            values("a.csv", "a,b\n1,\"x\ny\"\nx,2\n", usual(), Some(DataType::Float64)).await.unwrap_err();
        assert!(error.to_string().starts_with("BAD_FILE: line 4 has \"x\" in \"a\""), "{error}");
    }

    #[tokio::test]
    async fn the_delimiter_is_told_or_found_in_the_header() {
        for (delimiter, content, columns) in [
            (None, "a;b\n1;2,5\n", 2),
            (None, "\"a\"\t\"b\"\tc\n1\t2\t3\n", 3),
            (None, "a|b\n", 2),
            (None, "a;b,c\n1;2,3\n", 2),
            (None, "price;EUR\n5\n", 1),
            (Some(b','), "a;b\n1;2\n", 1),
            (Some(b'#'), "a#b\n1#2\n", 2),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("a.csv");
            std::fs::write(&path, content).unwrap();
            let dialect = Dialect { delimiter, ..usual() };
            let source = Source { format: None, path, batch_rows: 2, dialect, table: None };
            let (schema, _) = source.open(FileBar::hidden()).await.unwrap();
            assert_eq!(schema.fields().len(), columns, "{content}");
        }
        let error = load("a.csv", b"a,b;c\n1,2,3\n").await.unwrap_err();
        assert!(error.to_string().contains("line 2 has 3 fields, and the header has 2"), "{error}");
    }

    #[tokio::test]
    async fn what_stands_for_null_is_told() {
        let dialect = Dialect { delimiter: None, nulls: vec!["NA".into()] };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.csv");
        std::fs::write(&path, "a,b\n1,\nNA,NA\n").unwrap();
        let batches = read_as(&path, dialect, None).await.unwrap();
        let (numbers, texts) = (batches[0].column(0), batches[0].column(1).as_string::<i32>());
        assert_eq!((numbers.data_type(), numbers.null_count()), (&DataType::Int64, 1));
        assert_eq!((texts.null_count(), texts.value(0)), (1, ""));
    }

    #[tokio::test]
    async fn what_is_appended_while_a_file_is_read_does_not_count() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"\xEF\xBB\xBFa\n1\n").unwrap();
        file.rewind().unwrap();
        let snapshot = Snapshot::new(file.try_clone().unwrap()).unwrap();
        file.seek(io::SeekFrom::End(0)).unwrap();
        file.write_all(b"1.75\n").unwrap();
        for _ in 0..2 {
            let mut text = String::new();
            snapshot.reader().unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "a\n1\n");
        }
    }

    #[tokio::test]
    async fn what_can_be_read_once_only_is_refused() {
        let (pipe, _writer) = io::pipe().unwrap();
        for path in [format!("/dev/fd/{}", pipe.as_raw_fd()), "-".into()] {
            let error = read(Path::new(&path)).await.unwrap_err();
            assert!(error.to_string().contains("cannot be read twice"), "{path}: {error}");
        }
    }

    #[test]
    fn compressed_files_are_named_as_such() {
        for (path, name) in [("a.csv.gz", "gzip"), ("a.json.ZST", "Zstandard"), ("a.bz2", "bzip2")] {
            let error = FileFormat::of(Path::new(path)).unwrap_err();
            assert!(error.to_string().contains(name) && !error.to_string().contains("--format"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_panic_is_not_the_end_of_the_file() {
        let batches = (0..2).map(|_| -> Result<RecordBatch, Error> { panic!("broken file") });
        let items: Vec<_> = read_ahead(batches).collect().await;
        assert!(matches!(items.as_slice(), [Err(Error::Io(_))]), "{items:?}");
    }
}
