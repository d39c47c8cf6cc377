//! Each form of an answer holds what the statement gave, exactly.

use std::io::Read;

use arrow_array::{RecordBatch, cast::AsArray, types::Int64Type};
use arrow_ipc::reader::StreamReader;
use bytes::Bytes;
use flate2::read::GzDecoder;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::server;

/// Values of which somebody else would lose something, with the names that their JSON has.
const VALUES: [(&str, &str, &str); 20] = [
    ("bigint", "9223372036854775807::BIGINT", "9223372036854775807"),
    ("ubigint", "18446744073709551615::UBIGINT", "18446744073709551615"),
    (
        "hugeint",
        "-12345678901234567890123456789012345678::HUGEINT",
        "-12345678901234567890123456789012345678",
    ),
    ("decimal", "12345678901234567890.123400::DECIMAL(38,6)", "12345678901234567890.123400"),
    ("float", "0.1::FLOAT", "0.1"),
    ("nan", "'nan'::DOUBLE", "null"),
    ("nothing", "NULL", "null"),
    ("day", "DATE '0044-03-15'", r#""0044-03-15""#),
    ("late", "DATE '300000-01-01'", r#""+300000-01-01""#),
    ("moment", "TIMESTAMP '2024-01-02 03:04:05.5'", r#""2024-01-02T03:04:05.500""#),
    ("zoned", "TIMESTAMPTZ '2024-01-02 03:04:05+02'", r#""2024-01-02T01:04:05Z""#),
    ("nanos", "TIMESTAMP_NS '2024-01-02 03:04:05.123456789'", r#""2024-01-02T03:04:05.123456789""#),
    ("time", "TIME '23:59:59.000001'", r#""23:59:59.000001""#),
    ("blob", r"'\xAA\x00'::BLOB", r#""qgA=""#),
    ("uuid", "UUID 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", r#""a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11""#),
    ("list", "[1, NULL, 3]", "[1,null,3]"),
    (
        "deep",
        "{'a': [{'u': [UUID 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11']}]}",
        r#"{"a":[{"u":["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]}]}"#,
    ),
    ("map", "MAP {1: 'a', 2: NULL}", r#"{"1":"a","2":null}"#),
    ("array", "[DATE '2020-01-01']::DATE[1]", r#"["2020-01-01"]"#),
    ("enum", "'b'::ENUM('a', 'b')", r#""b""#),
];

/// Those that Parquet has no place for come besides.
const MORE: [(&str, &str, &str); 2] = [
    ("interval", "INTERVAL '14 months 3 days 4.5 seconds'", r#""P1Y2M3DT4.500S""#),
    ("union", "union_value(num := 2)", "2"),
];

fn select(values: &[(&str, &str, &str)]) -> String {
    let columns: Vec<_> = values.iter().map(|(name, sql, _)| format!("{sql} AS {name}")).collect();
    format!("SELECT {}", columns.join(", "))
}

fn object(values: &[(&str, &str, &str)]) -> String {
    let members: Vec<_> = values.iter().map(|(name, _, json)| format!("{name:?}:{json}")).collect();
    format!("{{{}}}", members.join(","))
}

fn all() -> Vec<(&'static str, &'static str, &'static str)> {
    VALUES.into_iter().chain(MORE).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn json_has_every_digit() {
    let (server, mut client) = server().await;
    let lines = client.sql("ndjson", &select(&all())).await;
    assert_eq!(lines.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(lines.text().trim_end(), object(&all()));
    let document = client.sql("json", &select(&all())).await;
    assert!(document.text().contains(&object(&all())), "{}", document.text());
    let columns = &document.json()["columns"];
    assert_eq!(columns[3], serde_json::json!({"name": "decimal", "type": "DECIMAL(38, 6)"}));
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn csv_has_the_same_values() {
    let (server, mut client) = server().await;
    let sql = "SELECT 9223372036854775807 AS a, 1.50::DECIMAL(5,2) AS b, 'x,\"y\"' AS c, NULL AS d, '' AS e, \
               [1, 2] AS f, 'nan'::DOUBLE AS g, DATE '2020-01-01' AS h";
    let answer = client.sql("csv", sql).await;
    assert_eq!(answer.header("content-type"), Some("text/csv; charset=utf-8; header=present"));
    let row = "9223372036854775807,1.50,\"x,\"\"y\"\"\",,\"\",\"[1,2]\",nan,2020-01-01";
    assert_eq!(answer.text(), format!("a,b,c,d,e,f,g,h\n{row}\n"));
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn arrow_and_parquet_have_the_same_rows() {
    let (server, mut client) = server().await;
    let rows = 300_000;
    let sql = format!("{} , range AS id FROM range({rows})", select(&VALUES));
    let arrow = client.sql("arrow", &sql).await;
    assert_eq!(arrow.header("content-type"), Some("application/vnd.apache.arrow.stream"));
    let arrow: Vec<_> = StreamReader::try_new(&arrow.body[..], None).unwrap().map(Result::unwrap).collect();
    let parquet = client.sql("parquet", &sql).await;
    assert_eq!(parquet.header("content-type"), Some("application/vnd.apache.parquet"));
    let parquet = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(parquet.body)).unwrap();
    assert!(parquet.metadata().num_row_groups() > 1);
    let parquet: Vec<_> = parquet.build().unwrap().map(Result::unwrap).collect();
    for batches in [&arrow, &parquet] {
        let ids = batches.iter().flat_map(ids_of);
        assert!(ids.eq(0..rows));
    }
    let names =
        |batch: &RecordBatch| batch.schema().fields().iter().map(|field| field.name().clone()).collect();
    let (of_arrow, of_parquet): (Vec<_>, Vec<_>) = (names(&arrow[0]), names(&parquet[0]));
    assert_eq!(of_arrow, of_parquet);
    let refused = client.sql("parquet", &select(&MORE)).await;
    assert_eq!(refused.problem(), (400, "UNSUPPORTED_TYPE".into()));
    server.shutdown().await;
}

fn ids_of(batch: &RecordBatch) -> Vec<i64> {
    batch.column_by_name("id").unwrap().as_primitive::<Int64Type>().values().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_comes_twice_is_two_members() {
    let (server, mut client) = server().await;
    let answer = client.sql("ndjson", "SELECT * FROM (SELECT 1 AS a), (SELECT 2 AS a)").await;
    assert_eq!(answer.text(), "{\"a\":1,\"a_2\":2}\n");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_rows_are_a_whole_answer() {
    let (server, mut client) = server().await;
    for format in ["json", "ndjson", "csv", "arrow", "parquet"] {
        let answer = client.sql(format, "SELECT 1 AS a WHERE false").await;
        assert!(answer.complete && answer.status == 200, "{answer:?}");
        match format {
            "json" => assert_eq!(answer.json()["rows"], serde_json::json!([])),
            "ndjson" => assert_eq!(answer.text(), ""),
            "csv" => assert_eq!(answer.text(), "a\n"),
            "arrow" => assert_eq!(StreamReader::try_new(&answer.body[..], None).unwrap().count(), 0),
            _ => {
                let file = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(answer.body)).unwrap();
                assert_eq!(file.metadata().file_metadata().num_rows(), 0);
            }
        }
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_packed_for_who_can_unpack_it() {
    let (server, mut client) = server().await;
    let sql = "SELECT range AS id FROM range(100000)";
    let plain = client.sql("ndjson", sql).await;
    assert_eq!(plain.header("content-encoding"), None);
    let gzip = client.send("POST", "/v1/sql?format=ndjson", &[("accept-encoding", "gzip")], sql).await;
    assert_eq!(gzip.header("content-encoding"), Some("gzip"));
    let mut unpacked = Vec::new();
    GzDecoder::new(&gzip.body[..]).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain.body);
    let zstd = client.send("POST", "/v1/sql?format=ndjson", &[("accept-encoding", "zstd")], sql).await;
    assert_eq!(zstd.header("content-encoding"), Some("zstd"));
    assert!(zstd.complete && zstd.body.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]));
    let parquet = client.send("POST", "/v1/sql?format=parquet", &[("accept-encoding", "gzip")], sql).await;
    assert_eq!(parquet.header("content-encoding"), None);
    server.shutdown().await;
}
