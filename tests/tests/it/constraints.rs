//! What a table demands of its rows holds in every mode and size; a unit that offends it leaves no row.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use merganser_tests::{Put, TestServer, ids, integer, put, refused};
use tonic::Code;

/// Rows that fill a bulk unit here.
const BULK: i64 = 20_000;

/// One row in a hundred columns' worth of rules.
const TABLE: &str = "CREATE TABLE t (
    id BIGINT PRIMARY KEY,
    n BIGINT NOT NULL,
    d BIGINT NOT NULL DEFAULT 7,
    c BIGINT CHECK (c < 100),
    u BIGINT UNIQUE,
    f BIGINT REFERENCES other (id),
    g BIGINT GENERATED ALWAYS AS (id * 2),
)";

/// `before` good rows of `id` and `n`, then one with this in a column.
fn unit(before: i64, column: &str, value: Option<i64>) -> Vec<RecordBatch> {
    let ids = Int64Array::from_iter_values(0..=before);
    let last = |good: Option<i64>, value| {
        let values = (0..=before).map(move |row| if row == before { value } else { good });
        Arc::new(Int64Array::from_iter(values)) as ArrayRef
    };
    let mut columns: Vec<(&str, ArrayRef, bool)> = vec![("id", Arc::new(ids), true)];
    match column {
        "n" => columns.push(("n", last(Some(1), value), true)),
        _ => {
            columns.push(("n", last(Some(1), Some(1)), true));
            columns.push((column, last((column == "d").then_some(1), value), true));
        }
    }
    vec![RecordBatch::try_from_iter_with_nullable(columns).unwrap()]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rule_of_a_table_holds_for_appends_and_upserts_of_every_size() {
    let server = TestServer::with(|config| config.engine.bulk_bytes = 64 << 10).await;
    let (client, flight) = (server.client().await, server.flight().await);
    client.execute("CREATE TABLE other (id BIGINT PRIMARY KEY)").await.unwrap();
    client.execute("INSERT INTO other VALUES (1)").await.unwrap();
    client.execute(TABLE).await.unwrap();
    let puts = [
        Put::to("t"),
        Put::to("t").with("on_conflict", "update"),
        Put::to("t").with("on_conflict", "ignore"),
        Put::to("t").with("new_columns", "add"),
    ];
    for before in [1, BULK] {
        for (number, put) in puts.iter().enumerate() {
            let case = format!("put {number} of {before} rows");
            for (column, value, slug) in [
                ("n", None, "CONSTRAINT"),
                ("d", None, "CONSTRAINT"),
                ("c", Some(100), "CONSTRAINT"),
                ("f", Some(2), "CONSTRAINT"),
                ("g", Some(1), "SCHEMA_MISMATCH"),
            ] {
                let refusal = put.send(&flight, unit(before, column, value)).await;
                let text = refused(refusal, Code::InvalidArgument, slug);
                let name = if column == "f" { "foreign key" } else { column };
                assert!(text.contains(name), "{case}, {column}: {text}");
                assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 0, "{case}, {column}");
            }
            // What keeps the rules goes in, with its defaults.
            put.send(&flight, unit(before, "f", Some(1))).await.unwrap();
            let good = "SELECT count(*) FROM t WHERE d = 7 AND g = 2 * id AND c IS NULL";
            assert_eq!(integer(&client, good).await, before + 1, "{case}");
            client.execute("DELETE FROM t").await.unwrap();
        }
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_of_every_size_bring_no_key_that_is_there_and_none_twice() {
    let server = TestServer::with(|config| config.engine.bulk_bytes = 64 << 10).await;
    let (client, flight) = (server.client().await, server.flight().await);
    client.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, n BIGINT, u BIGINT UNIQUE)").await.unwrap();
    client.execute("INSERT INTO t VALUES (-1, 1, 5)").await.unwrap();
    for before in [1, BULK] {
        let there = unit(before, "u", Some(5));
        // The last row has the key of the first.
        let twice = [unit(before, "u", None), unit(0, "u", None)].concat();
        for (case, rows) in [("there", there), ("twice", twice)] {
            let refusal = Put::to("t").send(&flight, rows).await;
            refused(refusal, Code::AlreadyExists, "DUPLICATE_KEY");
            assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 1, "{case}, {before} rows");
        }
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_updated_keep_the_rules_too() {
    let server = TestServer::with(|config| config.engine.bulk_bytes = 64 << 10).await;
    let (client, flight) = (server.client().await, server.flight().await);
    client.execute("CREATE TABLE other (id BIGINT PRIMARY KEY)").await.unwrap();
    client.execute(TABLE).await.unwrap();
    let put = Put::to("t").with("on_conflict", "update");
    client.execute("INSERT INTO t (id, n, u) SELECT range, 1, range FROM range(20001)").await.unwrap();
    for before in [1, BULK] {
        for (column, value) in [("n", None), ("d", None), ("c", Some(100)), ("f", Some(2))] {
            let refusal = put.send(&flight, unit(before, column, value)).await;
            refused(refusal, Code::InvalidArgument, "CONSTRAINT");
        }
        let refusal = put.send(&flight, unit(before, "u", Some(20_000 - before))).await;
        if before == 1 {
            assert!(refused(refusal, Code::AlreadyExists, "DUPLICATE_KEY").contains('u'));
        }
        let unchanged = "SELECT count(*) FROM t WHERE n = 1 AND d = 7 AND c IS NULL AND f IS NULL";
        assert_eq!(integer(&client, unchanged).await, 20_001);
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upsert_need_not_bring_what_rows_that_are_there_have() {
    let server = TestServer::start().await;
    let (client, flight) = (server.client().await, server.flight().await);
    client.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, n BIGINT NOT NULL, c BIGINT)").await.unwrap();
    client.execute("INSERT INTO t VALUES (0, 1, 1), (1, 1, 1)").await.unwrap();
    let put = Put::to("t").with("on_conflict", "update");
    let columns = unit(1, "c", Some(5)).remove(0).project(&[0, 2]).unwrap();
    put.send(&flight, vec![columns.clone()]).await.unwrap();
    assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE n = 1 AND (c = 5) = (id = 1)").await, 1);
    client.execute("DELETE FROM t WHERE id = 1").await.unwrap();
    let text = refused(put.send(&flight, vec![columns]).await, Code::InvalidArgument, "CONSTRAINT");
    assert!(text.contains('n'), "{text}");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_into_a_view_is_told_that_it_is_no_table() {
    let server = TestServer::with(|config| config.engine.bulk_bytes = 64 << 10).await;
    let client = server.client().await;
    client.execute("CREATE VIEW v AS SELECT 1::BIGINT AS id").await.unwrap();
    let small = refused(put(&client, "v", ids(0..3)).await, Code::NotFound, "NOT_FOUND");
    let bulk = refused(put(&client, "v", ids(0..50_000)).await, Code::InvalidArgument, "BINDER");
    let sql = refused(client.execute("INSERT INTO v VALUES (2)").await, Code::NotFound, "NOT_FOUND");
    for text in [small, bulk, sql] {
        assert!(text.contains("v is not a table"), "{text}");
    }
    server.shutdown().await;
}
