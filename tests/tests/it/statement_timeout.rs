//! No statement holds its place for longer than it may run.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use merganser::{Client, Error};
use merganser_server::Config;
use merganser_tests::{TestServer, ids, integer, put, refused, soon};
use tonic::Code;

const HOURS: &str = "SELECT count(*) FROM range(10000000) a, range(10000000) b";
const ENDLESS: &str = "SELECT range AS id FROM range(1000000000000)";

fn short(config: &mut Config) {
    config.engine.query_timeout = Some(Duration::from_millis(300));
    config.engine.read_concurrency = 1;
}

async fn all(client: &Client, sql: &str) -> Result<usize, Error> {
    let batches: Vec<_> = client.query(sql).await?.try_collect().await?;
    Ok(batches.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_computes_for_too_long_is_stopped() {
    let server = TestServer::with(short).await;
    let client = server.client().await;
    refused(all(&client, HOURS).await, Code::DeadlineExceeded, "QUERY_TIMEOUT");
    assert_eq!(integer(&client, "SELECT 42").await, 42);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pivot_computes_before_it_runs_is_stopped_too() {
    const PIVOT: &str =
        "PIVOT (SELECT range * 7919 % 2 AS a, range AS i FROM range(100000000000)) ON a USING sum(i)";
    let server = TestServer::with(short).await;
    let client = server.client().await;
    refused(soon("its stop", all(&client, PIVOT)).await, Code::DeadlineExceeded, "QUERY_TIMEOUT");
    let session = server.client().await;
    session.execute("CREATE TEMP TABLE mine AS SELECT 1 AS i").await.unwrap();
    refused(soon("its stop", all(&session, PIVOT)).await, Code::DeadlineExceeded, "QUERY_TIMEOUT");
    server.no_reads_left().await;
    assert_eq!(integer(&client, "SELECT 42").await, 42);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_streams_for_too_long_is_stopped() {
    let server = TestServer::with(short).await;
    let client = server.client().await;
    let mut rows = client.query(ENDLESS).await.unwrap();
    let end = async {
        loop {
            if let Err(error) = rows.next().await.unwrap() {
                return error;
            }
        }
    };
    let error = soon("the end of the stream", end).await;
    refused(Err::<(), _>(error), Code::DeadlineExceeded, "QUERY_TIMEOUT");
    assert_eq!(integer(&client, "SELECT 42").await, 42);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_nobody_reads_loses_its_place() {
    let server = TestServer::with(short).await;
    let client = server.client().await;
    let stalled = client.query(ENDLESS).await.unwrap();
    assert_eq!(integer(&server.client().await, "SELECT 42").await, 42);
    drop(stalled);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_runs_for_too_long_is_stopped_and_undone() {
    let server = TestServer::with(short).await;
    let client = server.client().await;
    put(&client, "t", ids([1])).await.unwrap();
    let script = format!("INSERT INTO t VALUES (2); CREATE TABLE long AS {HOURS}");
    refused(client.execute(&script).await, Code::DeadlineExceeded, "QUERY_TIMEOUT");
    assert_eq!(client.execute("UPDATE t SET id = 3").await.unwrap(), 1);
    assert_eq!(integer(&client, "SELECT id FROM t").await, 3);
    server.shutdown().await;
}
