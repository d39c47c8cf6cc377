//! Rows that are matched by key: updated or left alone, as if they came one after the other.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use futures::future::join_all;
use merganser::Client;
use merganser_tests::{Put, TestServer, integer, integers, put, refused, texts};
use tonic::Code;

/// Rows of a key `id` and a value `v`.
fn rows(rows: &[(i64, &str)]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0)));
    let values: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1)));
    RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("v", values, true)]).unwrap()
}

/// Many rows of one value.
fn range(ids: std::ops::Range<i64>, value: &str) -> RecordBatch {
    rows(&ids.map(|id| (id, value)).collect::<Vec<_>>())
}

async fn table(client: &Client) -> Vec<String> {
    texts(client, "SELECT concat(id, v) FROM t ORDER BY id, v").await.unwrap()
}

fn upsert() -> Put {
    Put::to("t").with("merge_keys", "id")
}

fn ignore() -> Put {
    upsert().with("on_conflict", "ignore")
}

/// Tables in which `id` tells rows apart, with and without DuckDB's knowledge.
const TABLES: [&str; 3] = [
    "CREATE OR REPLACE TABLE t (id BIGINT, v VARCHAR)",
    "CREATE OR REPLACE TABLE t (id BIGINT PRIMARY KEY, v VARCHAR)",
    "CREATE OR REPLACE TABLE t (v VARCHAR, id INTEGER UNIQUE)",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_last_row_of_a_key_wins_and_an_ignored_one_changes_nothing() {
    let server = TestServer::start().await;
    let (client, flight) = (server.client().await, server.flight().await);
    for create in TABLES {
        client.execute(create).await.unwrap();
        client.execute("INSERT INTO t BY NAME SELECT unnest([1, 2]) AS id, 'old' AS v").await.unwrap();
        let unit = vec![rows(&[(2, "a"), (3, "b")]), rows(&[(3, "c"), (2, "d"), (4, "e")])];
        assert_eq!(upsert().send(&flight, unit).await.unwrap(), 5, "{create}");
        assert_eq!(table(&client).await, ["1old", "2d", "3c", "4e"], "{create}");

        let unit = vec![rows(&[(4, "x"), (5, "first"), (5, "second")])];
        assert_eq!(ignore().send(&flight, unit).await.unwrap(), 3, "{create}");
        assert_eq!(table(&client).await, ["1old", "2d", "3c", "4e", "5first"], "{create}");
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_one_key_are_all_updated_and_stay_as_many() {
    let server = TestServer::start().await;
    let (client, flight) = (server.client().await, server.flight().await);
    for (create, n) in [
        ("CREATE TABLE t (id BIGINT, v VARCHAR)", "7"),
        ("CREATE OR REPLACE TABLE t (id BIGINT, v VARCHAR, n INTEGER DEFAULT 7)", "n"),
        ("CREATE OR REPLACE TABLE t (id BIGINT, v VARCHAR, n BIGINT GENERATED ALWAYS AS (id * 7))", "n"),
    ] {
        client.execute(create).await.unwrap();
        put(&client, "t", rows(&[(1, "a"), (1, "b"), (3, "c")])).await.unwrap();
        assert_eq!(upsert().send(&flight, vec![rows(&[(1, "x"), (2, "y")])]).await.unwrap(), 2);
        assert_eq!(table(&client).await, ["1x", "1x", "2y", "3c"], "{create}");
        // Now each key matches one row.
        assert_eq!(upsert().send(&flight, vec![rows(&[(2, "z"), (4, "z")])]).await.unwrap(), 2);
        assert_eq!(table(&client).await, ["1x", "1x", "2z", "3c", "4z"], "{create}");
        let others = integers(&client, &format!("SELECT {n}::BIGINT FROM t WHERE v = 'x'")).await.unwrap();
        assert_eq!(others, [7, 7], "{create}");
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_upload_is_merged_like_a_small_one() {
    let server = TestServer::with(|config| config.engine.bulk_bytes = 64 << 10).await;
    let (client, flight) = (server.client().await, server.flight().await);
    for create in TABLES {
        client.execute(create).await.unwrap();
        put(&client, "t", range(0..100_000, "old")).await.unwrap();
        // Every key twice, and far more rows than one statement inserts.
        let unit = vec![range(50_000..250_000, "first"), range(50_000..250_000, "last")];
        assert_eq!(upsert().send(&flight, unit.clone()).await.unwrap(), 400_000);
        let counts = "SELECT count(*) FROM t GROUP BY v ORDER BY v";
        assert_eq!(integers(&client, counts).await.unwrap(), [200_000, 50_000], "{create}");
        assert_eq!(integer(&client, "SELECT count(DISTINCT id) FROM t").await, 250_000);

        let unit = vec![range(240_000..260_000, "new"), range(240_000..260_000, "newer")];
        assert_eq!(ignore().send(&flight, unit).await.unwrap(), 40_000);
        assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE v = 'new' AND id >= 250000").await, 10_000);
        assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 260_000);
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_keys_the_primary_key_counts() {
    let server = TestServer::start().await;
    let (client, flight) = (server.client().await, server.flight().await);
    let put = Put::to("t").with("on_conflict", "update");
    client
        .execute(
            "CREATE TABLE t (v VARCHAR, n INTEGER DEFAULT 7, id BIGINT, part BIGINT, PRIMARY KEY (part, id))",
        )
        .await
        .unwrap();
    let unit = |part: i64, value| {
        let part: ArrayRef = Arc::new(Int64Array::from(vec![part]));
        let columns = rows(&[(1, value)]);
        RecordBatch::try_from_iter([
            ("ID", Arc::clone(columns.column(0))),
            ("V", Arc::clone(columns.column(1))),
            ("part", part),
        ])
        .unwrap()
    };
    put.send(&flight, vec![unit(1, "a")]).await.unwrap();
    client.execute("UPDATE t SET n = 8").await.unwrap();
    // Columns that the upload lacks keep their values, and get their defaults in new rows.
    put.send(&flight, vec![unit(1, "b"), unit(2, "c")]).await.unwrap();
    let found = texts(&client, "SELECT concat_ws(' ', part, id, v, n) FROM t ORDER BY part").await.unwrap();
    assert_eq!(found, ["1 1 b 8", "2 1 c 7"]);

    client.execute("CREATE TABLE keyless (id BIGINT, v VARCHAR)").await.unwrap();
    for table in ["keyless", "missing"] {
        let refusal =
            Put::to(table).with("on_conflict", "ignore").send(&flight, vec![rows(&[(1, "a")])]).await;
        assert!(refused(refusal, Code::InvalidArgument, "SCHEMA_MISMATCH").contains("merge_keys"));
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_cannot_match_are_named_and_nothing_is_written() {
    let server = TestServer::with(|config| config.engine.bulk_bytes = 64 << 10).await;
    let (client, flight) = (server.client().await, server.flight().await);
    client.execute("CREATE TABLE t (id BIGINT, v VARCHAR, other BIGINT)").await.unwrap();
    for (keys, column) in [("id,other", "other"), ("nowhere", "nowhere")] {
        let put = Put::to("t").with("merge_keys", keys);
        let refusal = put.send(&flight, vec![rows(&[(1, "a")])]).await;
        let text = refused(refusal, Code::InvalidArgument, "SCHEMA_MISMATCH");
        assert!(text.contains(&format!("\"{column}\"")), "{text}");
    }
    let null: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    let null = RecordBatch::try_from_iter_with_nullable([("id", null, true)]).unwrap();
    let whole = range(0..20_000, "x").project(&[0]).unwrap();
    for unit in [vec![null.clone()], vec![whole, null]] {
        let text = refused(upsert().send(&flight, unit).await, Code::InvalidArgument, "SCHEMA_MISMATCH");
        assert!(text.contains("\"id\"") && text.contains("NULL"), "{text}");
    }
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 0);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_created_or_replaced_gets_one_row_a_key() {
    let server = TestServer::with(|config| config.engine.bulk_bytes = 64 << 10).await;
    let (client, flight) = (server.client().await, server.flight().await);
    for size in [10, 50_000] {
        client.execute("DROP TABLE IF EXISTS t").await.unwrap();
        for put in [ignore(), ignore().replacing()] {
            let unit = vec![range(0..size, "first"), range(0..size, "last")];
            assert_eq!(put.send(&flight, unit).await.unwrap(), 2 * size);
            assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE v = 'first'").await, size);
            assert_eq!(integer(&client, "SELECT count(*) FROM t").await, size);
        }
        upsert().replacing().send(&flight, vec![rows(&[(1, "a"), (1, "b")])]).await.unwrap();
        assert_eq!(table(&client).await, ["1b"]);
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_unique_column_refuses_the_unit_as_a_whole() {
    let server = TestServer::with(|config| config.engine.bulk_bytes = 64 << 10).await;
    let (client, flight) = (server.client().await, server.flight().await);
    client.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, v VARCHAR UNIQUE)").await.unwrap();
    upsert().send(&flight, vec![rows(&[(1, "a"), (2, "b")])]).await.unwrap();
    for unit in [rows(&[(3, "c"), (1, "b")]), rows(&[(3, "c"), (4, "a")]), range(3..20_000, "c")] {
        let text = refused(upsert().send(&flight, vec![unit]).await, Code::AlreadyExists, "DUPLICATE_KEY");
        assert!(text.contains('v'), "{text}");
        assert_eq!(table(&client).await, ["1a", "2b"]);
    }
    // Two rows may change places.
    upsert().send(&flight, vec![rows(&[(1, "b"), (2, "a")])]).await.unwrap();
    assert_eq!(table(&client).await, ["1b", "2a"]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loaders_that_upsert_the_same_keys_all_succeed_beside_updates_and_appends() {
    const LOADERS: i64 = 4;
    const UNITS: i64 = 12;
    let server = TestServer::start().await;
    let client = server.client().await;
    client.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, v VARCHAR)").await.unwrap();
    let loaders = (0..LOADERS).map(|loader| {
        let flight = server.flight();
        async move {
            let flight = flight.await;
            for _ in 0..UNITS {
                let unit = range(0..100, &format!("loader {loader}"));
                upsert().send(&flight, vec![unit]).await.unwrap();
            }
        }
    });
    let appends = async {
        let appender = server.client().await;
        for unit in 0..UNITS {
            put(&appender, "t", range(1_000 + unit * 10..1_010 + unit * 10, "appended")).await.unwrap();
        }
    };
    let updates = async {
        for _ in 0..UNITS {
            client.execute("UPDATE t SET v = 'updated' WHERE id < 50").await.unwrap();
        }
    };
    futures::join!(join_all(loaders), appends, updates);
    assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE id < 1000").await, 100);
    assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE v = 'appended'").await, UNITS * 10);
    // Units are whole: the rows that nobody updates come from one of them.
    assert_eq!(integer(&client, "SELECT count(DISTINCT v) FROM t WHERE id BETWEEN 50 AND 99").await, 1);
    server.shutdown().await;
}
