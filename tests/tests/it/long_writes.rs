//! A long write keeps the turn, and delays no loader and no reader.

use std::time::Duration;

use merganser::{Client, Error};
use merganser_server::Config;
use merganser_tests::{TestServer, ids, integer, put, refused, soon, until};
use tokio::task::JoinHandle;
use tonic::Code;

/// A write that would take hours; it ends when its caller goes.
const ENDLESS: &str = "CREATE TABLE endless AS SELECT count(*) FROM range(10000000) a, range(10000000) b";

/// A write that finds the turn taken is told so soon.
fn short_wait(config: &mut Config) {
    config.engine.wait = Duration::from_millis(100);
}

/// Starts a write and returns when it has the turn: another one is refused.
async fn started(server: &TestServer, sql: &'static str) -> JoinHandle<Result<i64, Error>> {
    let client = server.client().await;
    let long = tokio::spawn(async move { client.execute(sql).await });
    let other = server.client().await;
    until("the write has the turn", async || {
        let second = other.execute("CREATE OR REPLACE TABLE probe (id BIGINT)").await;
        second.is_err() && !refused(second, Code::ResourceExhausted, "WRITE_BUSY").is_empty()
    })
    .await;
    long
}

/// Goes away from a write, and returns when another one has had the turn.
async fn cancelled(long: JoinHandle<Result<i64, Error>>, other: &Client) {
    long.abort();
    long.await.unwrap_err();
    until("the turn is free again", async || {
        other.execute("CREATE OR REPLACE TABLE probe (id BIGINT)").await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn puts_and_queries_complete_while_a_long_write_runs() {
    let server = TestServer::with(short_wait).await;
    let client = server.client().await;
    client.execute("CREATE TABLE t (id BIGINT)").await.unwrap();
    let long = started(&server, ENDLESS).await;
    for id in 1..=20 {
        put(&client, "t", ids([id])).await.unwrap();
        assert_eq!(integer(&client, "SELECT count(*) FROM t").await, id);
    }
    assert!(!long.is_finished(), "the long write ended before the puts");
    cancelled(long, &client).await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_caller_is_gone_stops_and_leaves_nothing() {
    let server = TestServer::with(short_wait).await;
    let client = server.client().await;
    let long = started(&server, ENDLESS).await;
    cancelled(long, &client).await;
    let left = "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'endless'";
    assert_eq!(integer(&client, left).await, 0);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_of_a_table_runs_beside_puts_to_it_and_neither_is_lost() {
    const OLD: i64 = 1_000_000;
    let server = TestServer::start().await;
    let client = server.client().await;
    let preload =
        format!("CREATE TABLE t AS SELECT range AS id, md5(range::VARCHAR) AS text FROM range({OLD})");
    client.execute(&preload).await.unwrap();

    let updater = server.client().await;
    let update = format!("UPDATE t SET text = md5(md5(md5(text))) || '!' WHERE id < {OLD}");
    let update = tokio::spawn(async move { updater.execute(&update).await });
    let mut during = 0;
    let mut next = OLD;
    while next < OLD + 20 || !update.is_finished() {
        put(&client, "t", ids([next, next + 1])).await.unwrap();
        next += 2;
        during += i64::from(!update.is_finished());
    }
    assert_eq!(soon("the update ends", update).await.unwrap().unwrap(), OLD);
    assert!(during >= 10, "{during} puts were acknowledged while the update ran");
    assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE text LIKE '%!'").await, OLD);
    assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE text IS NULL").await, next - OLD);
    assert_eq!(integer(&client, "SELECT count(DISTINCT id) FROM t").await, next);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_updates_of_one_row_all_count() {
    let server = TestServer::start().await;
    let client = server.client().await;
    client.execute("CREATE TABLE counter AS SELECT 0::BIGINT AS n").await.unwrap();
    let updates = (0..40).map(|_| client.execute("UPDATE counter SET n = n + 1"));
    for changed in futures::future::join_all(updates).await {
        assert_eq!(changed.unwrap(), 1);
    }
    assert_eq!(integer(&client, "SELECT n FROM counter").await, 40);
    server.shutdown().await;
}
