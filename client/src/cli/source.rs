//! Files as streams of record batches, read by Arrow's own readers.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek},
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow_array::{RecordBatch, RecordBatchIterator, RecordBatchReader};
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_schema::{ArrowError, SchemaRef};
use clap::ValueEnum;
use futures::{Stream, StreamExt, stream};
use merganser::Error;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tokio::{sync::mpsc, task::JoinHandle};

use super::{empty_lines::RefuseEmptyLines, infer, progress::FileBar};

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
    /// Comma-separated values with a header line
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
            "csv" => Ok(Self::Csv),
            "json" | "jsonl" | "ndjson" => Ok(Self::Json),
            "arrow" | "arrows" | "feather" | "ipc" => Ok(Self::Arrow),
            other => Err(Error::Usage(match compression(other) {
                Some(name) => format!("it is compressed by {name}, which is not taken: decompress it first"),
                None => "its extension tells no format: give --format".into(),
            })),
        }
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
    /// Rows that are looked at to infer column types; none means all.
    pub(crate) sample_rows: Option<usize>,
}

type Reader = Box<dyn RecordBatchReader + Send>;

impl Source {
    /// Opens the file; its batches are decoded on a thread of their own, a little ahead.
    pub(crate) async fn open(
        self,
        bar: FileBar,
    ) -> Result<(SchemaRef, impl Stream<Item = Result<RecordBatch, Error>> + Send + use<>), Error> {
        let opening = tokio::task::spawn_blocking(move || self.reader(&bar));
        let reader = opening.await.map_err(io::Error::from)??;
        Ok((reader.schema(), read_ahead(reader)))
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
        Ok(Box::new(RecordBatchIterator::new(counted, schema)))
    }

    fn csv(&self, mut file: File, bar: &FileBar) -> Result<Reader, Error> {
        let schema = Arc::new(infer::csv(&mut file, self.sample_rows)?);
        let one_column = schema.fields().len() == 1;
        let builder =
            arrow_csv::ReaderBuilder::new(schema).with_header(true).with_batch_size(self.batch_rows);
        let reader = counted(file, bar)?;
        if one_column {
            Ok(Box::new(builder.build(RefuseEmptyLines::new(reader))?))
        } else {
            Ok(Box::new(builder.build_buffered(reader)?))
        }
    }

    fn json(&self, mut file: File, bar: &FileBar) -> Result<Reader, Error> {
        let schema = Arc::new(infer::json(&mut file, self.sample_rows)?);
        let reader = arrow_json::ReaderBuilder::new(schema)
            .with_batch_size(self.batch_rows)
            // A number in a column of text is text, as the inference has it.
            .with_coerce_primitive(true)
            // A key that the sample has not shown is an error: leaving it out would lose data.
            .with_strict_mode(true)
            .build(counted(file, bar)?)?;
        Ok(Box::new(reader))
    }

    fn arrow(&self, mut file: File, bar: &FileBar) -> Result<Reader, Error> {
        let mut magic = Vec::with_capacity(ARROW_FILE_MAGIC.len());
        Read::take(&mut file, ARROW_FILE_MAGIC.len() as u64).read_to_end(&mut magic)?;
        file.rewind()?;
        let reader = counted(file, bar)?;
        if magic == ARROW_FILE_MAGIC {
            Ok(Box::new(FileReader::try_new(reader, None)?))
        } else {
            Ok(Box::new(StreamReader::try_new(reader, None)?))
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

/// Reads on from where the file stands, moving the bar.
fn counted(file: File, bar: &FileBar) -> io::Result<BufReader<indicatif::ProgressBarIter<File>>> {
    let length = file.metadata()?.len();
    Ok(BufReader::with_capacity(READ_BUFFER_BYTES, bar.read_bytes(file, length)))
}

/// Decodes on a blocking thread. The stream ends only when the reader has returned: a reader that
/// panics must not look like the end of the file.
fn read_ahead(reader: Reader) -> impl Stream<Item = Result<RecordBatch, Error>> + Send + use<> {
    let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
    let thread = tokio::task::spawn_blocking(move || {
        for batch in reader {
            let failed = batch.is_err();
            if sender.blocking_send(batch).is_err() || failed {
                return;
            }
        }
    });
    stream::unfold((receiver, Some(thread)), |(mut receiver, mut thread)| async {
        let item = match receiver.recv().await {
            Some(batch) => batch.map_err(|error| match error {
                // Says more than that it was I/O.
                ArrowError::IoError(_, error) => Error::Io(error),
                error => Error::Arrow(error),
            }),
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
    use std::os::fd::AsRawFd;

    use arrow_schema::Schema;
    use futures::TryStreamExt;

    use super::*;

    async fn load(name: &str, content: &[u8]) -> Result<Vec<RecordBatch>, Error> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        read(&path).await
    }

    async fn read(path: &Path) -> Result<Vec<RecordBatch>, Error> {
        let source = Source { format: None, path: path.to_owned(), batch_rows: 2, sample_rows: Some(100) };
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
        let schema = Arc::new(Schema::empty());
        let batches = (0..2).map(|_| -> Result<RecordBatch, ArrowError> { panic!("broken file") });
        let reader: Reader = Box::new(RecordBatchIterator::new(batches, schema));
        let items: Vec<_> = read_ahead(reader).collect().await;
        assert!(matches!(items.as_slice(), [Err(Error::Io(_))]), "{items:?}");
    }
}
