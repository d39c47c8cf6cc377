//! Results stream, and whoever goes away frees what the read held.

use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_flight::FlightDescriptor;
use futures::{StreamExt, TryStreamExt};
use merganser::{Client, Error, RowStream};
use merganser_tests::{TestServer, ids, integer, put, refused, soon, texts, until};
use tonic::Code;

/// Rows without end, of which the first come at once.
const ENDLESS: &str = "SELECT range AS id FROM range(1000000000000)";

async fn open(client: &Client) -> (RowStream, RecordBatch) {
    let mut rows = client.query(ENDLESS).await.unwrap();
    let first = soon("the first batch", rows.next()).await.unwrap().unwrap();
    (rows, first)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_batch_arrives_while_the_query_still_runs() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let (rows, first) = open(&client).await;
    assert!(first.num_rows() > 0);
    assert_eq!(server.engine().reads_in_progress(), 1);
    drop(rows);
    server.no_reads_left().await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_stream_gives_its_place_to_the_next_query() {
    let server = TestServer::with(|config| config.engine.read_concurrency = 1).await;
    let client = server.client().await;
    for _ in 0..5 {
        let (rows, _) = open(&client).await;
        drop(rows);
        assert_eq!(integer(&client, "SELECT 42").await, 42);
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_dropped_before_its_first_row_gives_its_place_to_the_next() {
    let server = TestServer::with(|config| config.engine.read_concurrency = 1).await;
    let client = server.client().await;
    for _ in 0..5 {
        // The aggregate has no first row until it is done, which would be in hours.
        let asked = client.clone();
        let query = tokio::spawn(async move {
            let count = "SELECT count(*) FROM range(10000000) a, range(10000000) b";
            asked.query(count).await?.try_collect::<Vec<_>>().await
        });
        until("the query runs", async || server.engine().reads_in_progress() == 1).await;
        query.abort();
        assert_eq!(integer(&client, "SELECT 42").await, 42);
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_dropped_streams_leave_nothing_behind() {
    let server = TestServer::with(|config| config.engine.read_concurrency = 4).await;
    let opened = (0..50).map(|_| async {
        let client = server.client().await;
        drop(open(&client).await);
    });
    futures::stream::iter(opened).buffer_unordered(4).collect::<Vec<_>>().await;
    server.no_reads_left().await;
    let client = server.client().await;
    // Every connection that comes back from the pool is fit for use.
    let queries = (0..8).map(|n| {
        let client = client.clone();
        async move { integer(&client, &format!("SELECT {n}")).await }
    });
    assert_eq!(futures::future::join_all(queries).await, (0..8).collect::<Vec<_>>());
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_finds_no_place_in_time_is_told_to_come_again() {
    let server = TestServer::with(|config| {
        config.engine.read_concurrency = 2;
        config.engine.wait = Duration::from_millis(100);
    })
    .await;
    let client = server.client().await;
    let (first, _) = open(&client).await;
    let (second, _) = open(&client).await;
    let third: Result<RowStream, Error> = client.query("SELECT 1").await;
    refused(third, Code::ResourceExhausted, "READS_BUSY");
    // A plan alone needs no place, and neither does a loader.
    let descriptor = FlightDescriptor::new_cmd("SELECT 1");
    server.flight().await.get_flight_info(descriptor).await.unwrap();
    put(&client, "t", ids([1])).await.unwrap();
    drop((first, second));
    server.no_reads_left().await;
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 1);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_that_nobody_reads_hold_up_no_writer() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let preload = "CREATE TABLE t AS SELECT range AS id FROM range(3000000)";
    client.execute(preload).await.unwrap();
    let mut stalled = Vec::new();
    for _ in 0..4 {
        stalled.push(server.client().await.query("SELECT t.id, u.id FROM t, t u").await.unwrap());
    }
    for id in 0..20 {
        put(&client, "t", ids([3_000_000 + id])).await.unwrap();
    }
    assert_eq!(client.execute("UPDATE t SET id = -1 WHERE id = 0").await.unwrap(), 1);
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 3_000_020);
    drop(stalled);
    server.no_reads_left().await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_result_arrives_whole_and_in_order() {
    const ROWS: i64 = 3_000_000;
    let server = TestServer::start().await;
    let client = server.client().await;
    let sql = format!("SELECT range AS id FROM range({ROWS})");
    let ids = merganser_tests::integers(&client, &sql).await.unwrap();
    assert!(ids.into_iter().eq(0..ROWS));
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_seeds_the_random_numbers_of_others() {
    let server = TestServer::start().await;
    let client = server.client().await;
    for sql in [
        "CREATE MACRO seed(x) AS setseed(x)",
        "CREATE VIEW seeded AS SELECT setseed(0.5) AS s",
        "CREATE TABLE seeding (id BIGINT, s INTEGER DEFAULT (CASE WHEN setseed(0.5) IS NULL THEN 1 END))",
        "CREATE TABLE numbers (id BIGINT, u VARCHAR DEFAULT uuid()::VARCHAR)",
    ] {
        client.execute(sql).await.unwrap();
    }
    const ROUNDS: i64 = 3;
    for round in 0..ROUNDS {
        for sql in ["SELECT setseed(0.5)", "SELECT seed(0.5)", "FROM seeded"] {
            refused(texts(&client, sql).await, Code::PermissionDenied, "PERMISSION");
            client.execute("INSERT INTO numbers (id) SELECT count(*) FROM numbers").await.unwrap();
        }
        let write = "INSERT INTO numbers (id) SELECT 1 WHERE seed(0.5) IS NULL";
        refused(client.execute(write).await, Code::PermissionDenied, "PERMISSION");
        client.execute("INSERT INTO numbers (id) VALUES (1)").await.unwrap();
        refused(put(&client, "seeding", ids(0..1)).await, Code::PermissionDenied, "PERMISSION");
        put(&client, "numbers", ids(round..round + 1)).await.unwrap();
    }
    assert_eq!(integer(&client, "SELECT count(DISTINCT u) FROM numbers").await, 5 * ROUNDS);
    server.shutdown().await;
}
