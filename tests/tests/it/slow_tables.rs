//! Tables for which it takes for ever to append a row: they hold nobody up for longer than the limit.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use futures::future::join_all;
use merganser::{Error, IngestAck};
use merganser_server::Config;
use merganser_tests::{
    PATIENCE, Process, Put, TestServer, Upload, configure, ids, integer, integers, messages_at, put,
    put_keyed, put_with, refused, soon, until, wide,
};
use tokio::task::JoinHandle;
use tonic::Code;

const LIMIT: Duration = Duration::from_millis(500);
/// Ten minutes, a row.
const SLOW: &str = "CREATE TABLE slow (id BIGINT, b INTEGER DEFAULT sleep_ms(600000))";
const QUICK: &str = "CREATE TABLE quick (id BIGINT)";
/// The same time for one row alone.
const SLOW_FOR_13: &str =
    "CREATE TABLE uneven (id BIGINT, CHECK (CASE WHEN id = 13 THEN sleep_ms(600000) END IS NULL))";

fn limited(config: &mut Config) {
    config.engine.ingest_timeout = Some(LIMIT);
}

async fn start(tables: &[&str], change: impl FnOnce(&mut Config)) -> TestServer {
    let server = TestServer::with(change).await;
    let client = server.client().await;
    for create in tables {
        client.execute(create).await.unwrap();
    }
    server
}

/// A unit that the writer has, and keeps.
async fn held(server: &TestServer, table: &'static str) -> JoinHandle<Result<IngestAck, Error>> {
    let client = server.client().await;
    let sent = tokio::spawn(async move { put(&client, table, ids([1])).await });
    until("the writer has it", async || server.engine().units_queued() == 1).await;
    sent
}

/// What comes of it within the limit and what it takes by itself.
async fn in_time<T>(limit: Duration, work: impl Future<Output = T>) -> T {
    let (began, done) = (Instant::now(), soon("an answer", work).await);
    assert!(began.elapsed() < limit + PATIENCE / 3, "it took {:?}", began.elapsed());
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_takes_for_ever_fails_alone_and_another_waits_for_the_limit_only() {
    let server = start(&[SLOW, QUICK], limited).await;
    let other = server.client().await;
    let slow = held(&server, "slow").await;
    in_time(LIMIT, put(&other, "quick", ids([1]))).await.unwrap();
    let reason = refused(slow.await.unwrap(), Code::DeadlineExceeded, "INGEST_TIMEOUT");
    assert!(reason.contains("slow") && reason.contains("500ms"), "{reason}");
    assert!(!reason.contains("__merganser"), "{reason}");
    assert_eq!(integer(&other, "SELECT (SELECT count(*) FROM slow) * 10 + count(*) FROM quick").await, 1);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyed_unit_that_takes_for_ever_may_be_sent_again_otherwise() {
    let server = start(&[SLOW, QUICK], limited).await;
    let (flight, other) = (server.flight().await, server.client().await);
    let slow = put_keyed(&flight, "slow", "a/1/1", vec![ids([1])]);
    refused(in_time(LIMIT, slow).await, Code::DeadlineExceeded, "INGEST_TIMEOUT");
    assert!(!put_keyed(&flight, "quick", "a/1/1", vec![ids([1])]).await.unwrap().duplicate);
    assert_eq!(integer(&other, "SELECT (SELECT count(*) FROM slow) * 10 + count(*) FROM quick").await, 1);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_group_all_but_what_takes_for_ever_is_committed_once() {
    const LOADERS: i64 = 24;
    for keyed in [false, true] {
        let server = start(&[SLOW, SLOW_FOR_13, QUICK], limited).await;
        // While the writer has this one, the others gather.
        let first = held(&server, "slow").await;
        let loaders = (0..LOADERS).map(|loader| {
            let connecting = server.flight();
            async move {
                let (flight, table) = (connecting.await, if loader % 2 == 0 { "quick" } else { "uneven" });
                match keyed {
                    true => put_keyed(&flight, table, &format!("l{loader}/1/1"), vec![ids([loader])]).await,
                    false => put_with(&flight, &[], messages_at(&[table], vec![ids([loader])])).await,
                }
            }
        });
        // One more limit for them, and a part of it for the one alone.
        let outcomes = in_time(LIMIT * 3, join_all(loaders)).await;
        for (loader, outcome) in (0..).zip(outcomes) {
            match loader {
                13 => drop(refused(outcome, Code::DeadlineExceeded, "INGEST_TIMEOUT")),
                _ => drop(outcome.unwrap()),
            }
        }
        refused(first.await.unwrap(), Code::DeadlineExceeded, "INGEST_TIMEOUT");
        let stored = "FROM quick UNION ALL SELECT id FROM uneven UNION ALL SELECT id FROM slow ORDER BY ALL";
        let expected: Vec<_> = (0..LOADERS).filter(|id| *id != 13).collect();
        assert_eq!(integers(&server.client().await, stored).await.unwrap(), expected);
        server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_slow_again_and_again_is_refused_without_a_try() {
    let server = start(&[SLOW, QUICK], limited).await;
    let client = server.client().await;
    let mut tried = 0;
    let reason = loop {
        let slow = put(&client, "slow", ids([1]));
        let reason = refused(in_time(LIMIT, slow).await, Code::DeadlineExceeded, "INGEST_TIMEOUT");
        if reason.contains("refused") {
            break reason;
        }
        tried += 1;
    };
    assert_eq!(tried, 5, "{reason}");
    put(&client, "quick", ids([1])).await.unwrap();
    assert_eq!(integer(&client, "SELECT count(*) FROM slow").await, 0);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_upload_that_takes_for_ever_fails_and_holds_up_nobody() {
    let create = "CREATE TABLE slow (id BIGINT, text VARCHAR, b INTEGER DEFAULT sleep_ms(600000))";
    let server = start(&[create, QUICK], |config| {
        limited(config);
        config.engine.bulk_bytes = 64 << 10;
    })
    .await;
    let (client, other) = (server.client().await, server.client().await);
    let upload = Upload::start(&client, "slow", wide([]).schema());
    upload.send(wide(0..1_000));
    server.bulk_uploads(1).await;
    let sent = tokio::spawn(upload.finish());
    put(&other, "quick", ids([1])).await.unwrap();
    // As much as an appender keeps is as much as four groups.
    refused(in_time(LIMIT * 4, sent).await.unwrap(), Code::DeadlineExceeded, "INGEST_TIMEOUT");
    server.bulk_uploads(0).await;
    assert_eq!(integer(&other, "SELECT (SELECT count(*) FROM slow) * 10 + count(*) FROM quick").await, 1);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upsert_that_takes_for_ever_fails_and_others_are_merged_after_it() {
    let server = start(&[SLOW, QUICK], |config| config.engine.ingest_timeout = Some(LIMIT / 5)).await;
    let (flight, client) = (server.flight().await, server.client().await);
    let slow = tokio::spawn({
        let flight = server.flight().await;
        async move { Put::to("slow").with("merge_keys", "id").send(&flight, vec![ids([1])]).await }
    });
    until("it is being merged", async || server.engine().units_queued() == 1).await;
    let other = Put::to("quick").with("merge_keys", "id");
    // What is matched by key has the limit six times.
    assert_eq!(in_time(LIMIT * 2, other.send(&flight, vec![ids([1])])).await.unwrap(), 1);
    refused(slow.await.unwrap(), Code::DeadlineExceeded, "INGEST_TIMEOUT");
    assert_eq!(integer(&client, "SELECT (SELECT count(*) FROM slow) * 10 + count(*) FROM quick").await, 1);
    // To add rows is another matter, and nobody has found that slow yet.
    let reason = refused(put(&client, "slow", ids([2])).await, Code::DeadlineExceeded, "INGEST_TIMEOUT");
    assert!(reason.contains("100ms"), "{reason}");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_an_attached_catalog_holds_up_others_for_the_limit_only() {
    let folder = tempfile::tempdir().unwrap();
    let toml = format!(
        "[[catalog]]\nname = 'side'\ntype = 'duckdb'\npath = '{}'",
        folder.path().join("side.db").display()
    );
    let tables = [
        "CREATE TABLE side.slow (id BIGINT, text VARCHAR, b INTEGER DEFAULT sleep_ms(600000))",
        "CREATE TABLE side.quick (id BIGINT)",
    ];
    let server = start(&tables, |config| {
        configure(config, &toml);
        limited(config);
        config.engine.bulk_bytes = 64 << 10;
    })
    .await;
    let (flight, other) = (server.flight().await, server.client().await);
    for (rows, keys) in [(1, &[][..]), (1_000, &[("x-merganser-ingest-key", "a/1/1")])] {
        let slow = tokio::spawn({
            let flight = server.flight().await;
            let messages = messages_at(&["side", "main", "slow"], vec![wide(0..rows)]);
            async move { put_with(&flight, keys, messages).await }
        });
        let quick = put_with(&flight, &[], messages_at(&["side", "main", "quick"], vec![ids([1])]));
        in_time(LIMIT, quick).await.unwrap();
        refused(slow.await.unwrap(), Code::DeadlineExceeded, "INGEST_TIMEOUT");
    }
    let counts = "SELECT (SELECT count(*) FROM side.slow) * 10 + count(*) FROM side.quick";
    assert_eq!(integer(&other, counts).await, 2);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_an_append_that_takes_for_ever_and_tells_its_client() {
    let server = start(&[SLOW], |config| {
        config.engine.ingest_timeout = None;
        config.network.drain_timeout = Duration::from_millis(200);
    })
    .await;
    let slow = held(&server, "slow").await;
    let (file, outcome) = tokio::join!(server.shutdown(), slow);
    refused(outcome.unwrap(), Code::Unavailable, "SHUTTING_DOWN");
    let server = TestServer::open(file, |_| ()).await;
    assert_eq!(integer(&server.client().await, "SELECT count(*) FROM slow").await, 0);
    server.shutdown().await;
}

/// Nobody waits for it any more, so that no request is under way.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_an_append_that_takes_for_ever_of_a_client_that_has_gone() {
    let folder = tempfile::tempdir().unwrap();
    let options = ["--ingest-timeout", "0s", "--drain-timeout", "300ms"];
    let server = Process::start(crate::SERVER, &folder.path().join("a.duckdb"), &options).await;
    let (client, other) = (server.client().await, server.client().await);
    other.execute(SLOW).await.unwrap();
    let slow = Upload::start(&client, "slow", ids([]).schema());
    slow.send(ids([1]));
    let sent = tokio::spawn(slow.finish());
    let running = "SELECT count(*) FROM merganser_statements() WHERE state = 'committing'";
    until("the writer has it", async || integer(&other, running).await == 1).await;
    sent.abort();
    drop(client);
    let status = server.terminate().await;
    assert_eq!(status.code(), Some(0));
}
