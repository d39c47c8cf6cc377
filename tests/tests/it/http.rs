//! Metrics and health over HTTP.

use std::net::SocketAddr;

use futures::StreamExt;
use merganser_tests::{TestServer, Upload, integer, put, put_keyed, soon, unit, until, wide};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

async fn server() -> (TestServer, SocketAddr) {
    let server =
        TestServer::with(|config| config.network.http = Some(SocketAddr::from(([127, 0, 0, 1], 0)))).await;
    let address = server.http_address().unwrap();
    (server, address)
}

/// The status and the body of an answer; `None` when nobody answers.
async fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: merganser\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    soon("an answer", stream.read_to_string(&mut answer)).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// The value of a metric, which may have labels.
fn value(text: &str, metric: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' ')?.parse().ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_shows_in_the_metrics() {
    let (server, address) = server().await;
    let client = server.client().await;
    for number in 0..3 {
        put(&client, "t", unit(number, 7)).await.unwrap();
    }
    client.execute("CREATE TABLE narrow (id BIGINT)").await.unwrap();
    put(&client, "narrow", unit(1, 1)).await.unwrap_err();
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 21);

    let statements = r#"merganser_statements_total{kind="read",outcome="ok"}"#;
    let mut text = String::new();
    // A statement is counted when its stream is dropped, just after its client has its last row.
    until("the read is counted", async || {
        text = get(address, "/metrics").await.unwrap().1;
        value(&text, statements).is_some()
    })
    .await;
    // Other tests of this process are counted as well.
    for (metric, least) in [
        ("merganser_ingested_units_total", 3.0),
        ("merganser_ingested_rows_total", 21.0),
        ("merganser_ingested_bytes_total", 21.0 * 16.0),
        ("merganser_group_units_sum", 3.0),
        ("merganser_group_rows_bucket{le=\"+Inf\"}", 1.0),
        ("merganser_commit_seconds_count", 1.0),
        (r#"merganser_refused_units_total{slug="SCHEMA_MISMATCH"}"#, 1.0),
        (r#"merganser_statement_seconds_count{kind="ingest"}"#, 4.0),
        ("merganser_disk_free_bytes", 1.0),
        ("process_start_time_seconds", 1.6e9),
        #[cfg(target_os = "linux")]
        ("process_resident_memory_bytes", 1e6),
    ] {
        let found = value(&text, metric).unwrap_or_else(|| panic!("no {metric} in\n{text}"));
        assert!(found >= least, "{metric} is {found}");
    }
    let built = text.lines().find(|line| line.starts_with("merganser_build_info{")).unwrap();
    assert!(built.contains(r#"duckdb_version="v1.5.5""#) && built.contains(r#"version="0."#), "{built}");
    assert!(text.contains("# HELP merganser_group_units Units that one commit of the writer holds"));
    drop(client);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_its_client_leaves_counts_as_cancelled() {
    let (server, address) = server().await;
    let client = server.client().await;
    let mut rows = client.query("FROM range(1_000_000_000)").await.unwrap();
    rows.next().await.unwrap().unwrap();
    drop(rows);
    let cancelled = r#"merganser_statements_total{kind="read",outcome="cancelled"}"#;
    until("it is counted", async || value(&get(address, "/metrics").await.unwrap().1, cancelled).is_some())
        .await;
    drop(client);
    server.shutdown().await;
}

/// Waits until all of these show. A gauge is that of the server which was asked last: another test of this process
/// may come in between.
async fn shown(address: SocketAddr, what: &str, expected: &[(&str, f64)]) {
    until(what, async || {
        let text = get(address, "/metrics").await.unwrap().1;
        expected.iter().all(|(metric, number)| value(&text, metric) == Some(*number))
    })
    .await;
}

/// A gauge once it is not zero.
async fn more_than_none(address: SocketAddr, metric: &str) -> f64 {
    let mut found = 0.0;
    until(metric, async || {
        found = value(&get(address, "/metrics").await.unwrap().1, metric).unwrap();
        found > 0.0
    })
    .await;
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn gauges_show_what_is_under_way_and_nothing_once_it_is_over() {
    const NOTHING: [(&str, f64); 5] = [
        ("merganser_queue_units", 0.0),
        ("merganser_queue_bytes", 0.0),
        ("merganser_bulk_uploads", 0.0),
        ("merganser_reads", 0.0),
        ("merganser_ready", 1.0),
    ];
    let server = TestServer::with(|config| {
        config.network.http = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        config.engine.bulk_bytes = 64 << 10;
    })
    .await;
    let address = server.http_address().unwrap();
    // The connection that asks is one itself.
    shown(address, "an idle server", &[("merganser_connections", 1.0), ("merganser_sessions", 0.0)]).await;
    shown(address, "an idle server", &NOTHING).await;
    let client = server.client().await;
    client.execute("CREATE TABLE t (id BIGINT, text VARCHAR)").await.unwrap();
    shown(address, "a client", &[("merganser_connections", 2.0), ("merganser_sessions", 1.0)]).await;

    let small = Upload::start(&client, "t", wide([]).schema());
    small.send(wide(0..30));
    let held = more_than_none(address, "merganser_queue_bytes").await;
    assert!((30e3..64e3).contains(&held), "{held} bytes");
    shown(address, "a small upload", &[("merganser_bulk_uploads", 0.0), ("merganser_queue_units", 0.0)])
        .await;
    assert_eq!(small.finish().await.unwrap().rows, 30);
    shown(address, "no upload", &NOTHING).await;
    assert!(more_than_none(address, "merganser_wal_bytes").await > 100.0);

    let bulk = Upload::start(&client, "t", wide([]).schema());
    bulk.send(wide(0..100));
    shown(address, "a bulk upload", &[("merganser_bulk_uploads", 1.0), ("merganser_reads", 0.0)]).await;
    assert_eq!(bulk.finish().await.unwrap().rows, 100);
    shown(address, "no upload", &NOTHING).await;

    let mut rows = client.query("SELECT range FROM range(1000000000000)").await.unwrap();
    soon("the first rows", rows.next()).await.unwrap().unwrap();
    shown(address, "a read", &[("merganser_reads", 1.0), ("merganser_bulk_uploads", 0.0)]).await;
    drop(rows);
    shown(address, "no read", &NOTHING).await;

    let metric = "merganser_duplicate_units_total";
    let counted = async || value(&get(address, "/metrics").await.unwrap().1, metric).unwrap_or(0.0);
    let (before, flight) = (counted().await, server.flight().await);
    for _ in 0..2 {
        put_keyed(&flight, "t", "a/1/1", vec![wide(0..3)]).await.unwrap();
    }
    assert!(counted().await > before);
    drop((flight, client));
    shown(address, "no client", &[("merganser_connections", 1.0)]).await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_ready_until_it_stops_and_alive_until_it_has() {
    let (server, address) = server().await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(get(address, path).await.unwrap().0, 200, "{path}");
    }
    assert_eq!(get(address, "/elsewhere").await.unwrap().0, 404);

    let client = server.client().await;
    let upload = Upload::start(&client, "t", unit(1, 7).schema());
    upload.send(unit(1, 7));
    // By the time of this answer the server has read the upload, and will wait for its end.
    put(&client, "beside", unit(1, 1)).await.unwrap();
    let meanwhile = async {
        until("the server says that it stops", async || {
            let answer = get(address, "/readyz").await;
            answer.is_some_and(|(status, body)| status == 503 && body == "stopping\n")
        })
        .await;
        assert_eq!(get(address, "/healthz").await.unwrap().0, 200);
        upload.finish().await.unwrap();
        drop(client);
    };
    tokio::join!(server.shutdown(), meanwhile);
    assert_eq!(get(address, "/healthz").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_ends_its_request_does_not_hold_up_the_stop() {
    let (server, address) = server().await;
    let mut stalled = TcpStream::connect(address).await.unwrap();
    stalled.write_all(b"GET /metrics HTTP/1.1\r\n").await.unwrap();
    assert_eq!(get(address, "/healthz").await.unwrap().0, 200);
    server.shutdown().await;
}
