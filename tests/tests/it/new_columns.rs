//! Columns that a table lacks are added when the loader asks for it.

use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use futures::future::join_all;
use merganser_tests::{Put, TestServer, ids, integer, put, refused, texts};
use tonic::Code;

/// Rows of an `id` and further columns of the same values.
fn rows(ids: std::ops::Range<i64>, more: &[&str]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(ids));
    let columns = ["id"].iter().chain(more).map(|name| (*name, Arc::clone(&ids), true));
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn adding() -> Put {
    Put::to("t").with("new_columns", "add")
}

const SIZES: [i64; 2] = [10, 100_000];

#[tokio::test(flavor = "multi_thread")]
async fn new_columns_are_added_with_the_rows_of_small_and_bulk_units() {
    let server = TestServer::with(|config| config.engine.bulk_bytes = 64 << 10).await;
    let (client, flight) = (server.client().await, server.flight().await);
    for size in SIZES {
        client.execute("CREATE OR REPLACE TABLE t AS SELECT -1::BIGINT AS id").await.unwrap();
        refused(put(&client, "t", rows(0..size, &["a"])).await, Code::InvalidArgument, "SCHEMA_MISMATCH");
        assert_eq!(adding().send(&flight, vec![rows(0..size, &["a", "the b"])]).await.unwrap(), size);
        assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE a = id AND \"the b\" = id").await, size);
        assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE a IS NULL AND id = -1").await, 1);
        // They are there now, for everybody, and may be left out.
        put(&client, "t", rows(0..size, &["A"])).await.unwrap();
        assert_eq!(adding().send(&flight, vec![rows(0..size, &["the b"])]).await.unwrap(), size);
        let column = "SELECT column_name || ' ' || column_type FROM (DESCRIBE t)";
        assert_eq!(texts(&client, column).await.unwrap(), ["id BIGINT", "a BIGINT", "the b BIGINT"]);
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_merged_into_a_table_that_gets_their_columns() {
    let server = TestServer::with(|config| config.engine.bulk_bytes = 64 << 10).await;
    let (client, flight) = (server.client().await, server.flight().await);
    for size in SIZES {
        client.execute("CREATE OR REPLACE TABLE t (id BIGINT PRIMARY KEY)").await.unwrap();
        put(&client, "t", ids([0, -1])).await.unwrap();
        let put = adding().with("on_conflict", "update");
        assert_eq!(put.send(&flight, vec![rows(0..size, &["a"])]).await.unwrap(), size);
        assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE a = id").await, size);
        assert_eq!(integer(&client, "SELECT count(*) FROM t").await, size + 1);
        // A key cannot be new.
        let put = adding().with("merge_keys", "b");
        let refusal = put.send(&flight, vec![rows(0..size, &["b"])]).await;
        assert!(refused(refusal, Code::InvalidArgument, "SCHEMA_MISMATCH").contains("\"b\""));
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_fails_adds_no_column() {
    let server = TestServer::with(|config| config.engine.bulk_bytes = 64 << 10).await;
    let (client, flight) = (server.client().await, server.flight().await);
    client.execute("CREATE TABLE t (id BIGINT CHECK (id < 100000))").await.unwrap();
    for first in [99_995, 0] {
        let refusal = adding().send(&flight, vec![rows(first..100_005, &["a"])]).await;
        assert!(refused(refusal, Code::InvalidArgument, "CONSTRAINT").contains("id"));
    }
    assert_eq!(integer(&client, "SELECT count(*) FROM (DESCRIBE t)").await, 1);
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 0);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loaders_that_add_the_same_columns_all_succeed_beside_appends() {
    const LOADERS: usize = 4;
    const COLUMNS: usize = 6;
    let server = TestServer::with(|config| config.engine.bulk_bytes = 64 << 10).await;
    let client = server.client().await;
    put(&client, "t", ids([])).await.unwrap();
    let loaders = (0..LOADERS).map(|loader| {
        let flight = server.flight();
        async move {
            let flight = flight.await;
            for column in 0..COLUMNS {
                // One of them sends bulk units.
                let size = if loader == 0 { 20_000 } else { 10 };
                let unit = rows(0..size, &[&format!("c{column}")]);
                adding().send(&flight, vec![unit]).await.unwrap();
            }
        }
    });
    let appends = async {
        let appender = server.client().await;
        for id in 0..50 {
            put(&appender, "t", ids([id])).await.unwrap();
        }
    };
    futures::join!(join_all(loaders), appends);
    assert_eq!(integer(&client, "SELECT count(*) FROM (DESCRIBE t)").await, 1 + COLUMNS as i64);
    let each = 20_000 + 10 * (LOADERS as i64 - 1);
    for column in 0..COLUMNS {
        assert_eq!(integer(&client, &format!("SELECT count(c{column}) FROM t")).await, each);
    }
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 50 + each * COLUMNS as i64);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_is_there_with_another_type_is_not_added() {
    let server = TestServer::start().await;
    let (client, flight) = (server.client().await, server.flight().await);
    client.execute("CREATE TABLE t (id BIGINT, a BIGINT)").await.unwrap();
    let a: ArrayRef = Arc::new(Float64Array::from(vec![0.5]));
    let unit = RecordBatch::try_from_iter([("a", a)]).unwrap();
    let refusal = adding().send(&flight, vec![unit]).await;
    assert!(refused(refusal, Code::InvalidArgument, "SCHEMA_MISMATCH").contains("\"a\""));
    // An upload without rows widens the table too.
    assert_eq!(adding().send(&flight, vec![rows(0..0, &["b"])]).await.unwrap(), 0);
    assert_eq!(integer(&client, "SELECT count(*) FROM (DESCRIBE t)").await, 3);
    server.shutdown().await;
}
