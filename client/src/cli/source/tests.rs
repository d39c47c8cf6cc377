//! Files of every format, read whole.

use std::{
    io::{Seek, Write},
    os::fd::AsRawFd,
};

use arrow_array::{Array, cast::AsArray};
use arrow_cast::display::array_value_to_string;
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use base64::{Engine as _, prelude::BASE64_STANDARD};
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

/// A stream of PyArrow with one column of 40 numbers, compressed with LZ4.
const COMPRESSED: &str = "/////3gAAAAQAAAAAAAKAAwABgAFAAgACgAAAAABBAAMAAAACAAIAAAABAAIAAAABAAAAAEAAAAUAAAAEAAUAAgABgAHAAwA\
    AAAQABAAAAAAAAECEAAAABwAAAAEAAAAAAAAAAEAAABhAAAACAAMAAgABwAIAAAAAAAAAQgAAAD/////mAAAABQAAAAAAAAA\
    DAAYAAYABQAIAAwADAAAAAADBAAcAAAAQAAAAAAAAAAAAAAADAAcABAABAAIAAwADAAAAEgAAAAcAAAAFAAAACgAAAAAAAAA\
    AAAAAAQABAAEAAAAAgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAD8AAAAAAAAAAAAAAAEAAAAoAAAAAAAAAAAAAAAAAAAA\
    KAAAAAAAAAAEIk0YYECCKAAAgAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fICEiIyQlJicAAAAAAP////8AAAAA";

#[tokio::test]
async fn compressed_columns_are_refused_in_plain_words() {
    let stream = BASE64_STANDARD.decode(COMPRESSED).unwrap();
    let error = load("a.arrows", &stream).await.unwrap_err();
    assert!(matches!(&error, Error::Usage(text) if text.contains("write it without compression")), "{error}");
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
    let table = table.map(|data_type| TableTypes::new(&Schema::new(vec![Field::new("A", data_type, true)])));
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
    assert!(error.to_string().contains("line 2 has more fields than there are columns, 2"), "{error}");
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
