//! Answers under way: they leave as they are computed, break off visibly, and stop when nobody reads them.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use merganser_tests::{HttpClient, configure, soon, until};

use super::{server, server_with};

const SQL: [(&str, &str); 1] = [("content-type", "application/sql")];
/// More rows than anybody waits for.
const ENDLESS: &str = "SELECT range AS id, 'some text that takes room' AS text FROM range(1000000000000)";
/// Fails long after its first row.
const FAILS: &str =
    "SELECT CASE WHEN range = 300000 THEN error('far on') ELSE range END AS id FROM range(1000000)";

async fn begin(client: &mut HttpClient, format: &str, sql: &'static str) -> Incoming {
    let answer = client.begin("POST", &format!("/v1/sql?format={format}"), &SQL, sql).await;
    assert_eq!(answer.status(), 200);
    answer.into_body()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_after_the_first_row_breaks_the_answer_off() {
    let (server, _) = server().await;
    for format in ["json", "ndjson", "csv", "arrow", "parquet"] {
        for encoding in ["identity", "gzip"] {
            let mut client = HttpClient::connect(server.http_address().unwrap()).await;
            let headers = [("accept-encoding", encoding)];
            let answer = client.send("POST", &format!("/v1/sql?format={format}"), &headers, FAILS).await;
            assert_eq!(answer.status, 200);
            assert!(!answer.complete && !answer.body.is_empty(), "{format} {encoding}");
        }
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_stops_its_query() {
    let (server, _) = server().await;
    for format in ["json", "ndjson", "csv", "arrow", "parquet"] {
        let mut client = HttpClient::connect(server.http_address().unwrap()).await;
        let mut body = begin(&mut client, format, ENDLESS).await;
        // Its first bytes come though there is no end.
        soon("the first bytes", body.frame()).await.unwrap().unwrap();
        assert_eq!(server.engine().reads_in_progress(), 1);
        drop((body, client));
        server.no_reads_left().await;
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_query_streams_as_well() {
    let query = format!("[[query]]\nname = 'endless'\nsql = \"{ENDLESS}\"");
    let (server, _) = server_with(|config| configure(config, &query)).await;
    for format in ["json", "ndjson", "csv", "arrow", "parquet"] {
        let mut client = HttpClient::connect(server.http_address().unwrap()).await;
        let answer = client.begin("GET", &format!("/v1/queries/endless?format={format}"), &[], "").await;
        assert_eq!(answer.status(), 200);
        let mut body = answer.into_body();
        // They come though the last row never does.
        soon("the first bytes", body.frame()).await.unwrap().unwrap();
        assert_eq!(server.engine().reads_in_progress(), 1, "{format}");
        drop((body, client));
        server.no_reads_left().await;
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_before_the_first_row_stops_its_query_too() {
    let (server, mut client) = server().await;
    let forever = "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range + b.range < 0";
    let waiting = tokio::spawn(async move { client.sql("json", forever).await });
    until("the query runs", async || server.engine().reads_in_progress() == 1).await;
    waiting.abort();
    server.no_reads_left().await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_is_given_up() {
    let stall = Duration::from_millis(200);
    let (server, mut client) = server_with(|config| config.engine.stall_timeout = stall).await;
    let mut body = begin(&mut client, "ndjson", ENDLESS).await;
    server.no_reads_left().await;
    let complete = loop {
        match soon("the end", body.frame()).await {
            Some(Ok(_)) => {}
            Some(Err(_)) => break false,
            None => break true,
        }
    };
    assert!(!complete);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_takes_too_long_says_so() {
    let timeout = Some(Duration::from_millis(200));
    let (server, mut client) = server_with(|config| config.engine.query_timeout = timeout).await;
    let forever = "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range + b.range < 0";
    assert_eq!(client.sql("json", forever).await.problem(), (504, "QUERY_TIMEOUT".into()));
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_in_vain_for_a_place_is_told_when_to_come_again() {
    let (server, mut first) = server_with(|config| {
        config.engine.read_concurrency = 1;
        config.engine.wait = Duration::from_millis(50);
    })
    .await;
    let body = begin(&mut first, "ndjson", ENDLESS).await;
    let mut second = HttpClient::connect(server.http_address().unwrap()).await;
    let refused = second.sql("json", "SELECT 1").await;
    assert_eq!(refused.problem(), (429, "READS_BUSY".into()));
    assert_eq!(refused.header("retry-after"), Some("1"));
    drop((body, first));
    server.no_reads_left().await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_lets_answers_end() {
    let (server, mut client) = server().await;
    let (address, rows) = (server.http_address().unwrap(), 3_000_000);
    let mut other = HttpClient::connect(address).await;
    let body = client.begin("POST", "/v1/sql?format=ndjson", &SQL, format!("FROM range({rows})")).await;
    let meanwhile = async {
        until("new requests are refused", async || other.sql("json", "SELECT 1").await.status == 503).await;
        let refused = other.sql("json", "SELECT 1").await;
        assert_eq!(refused.problem(), (503, "SHUTTING_DOWN".into()));
        let body = soon("all of it", body.into_body().collect()).await.unwrap().to_bytes();
        assert_eq!(body.iter().filter(|byte| **byte == b'\n').count(), rows);
        drop((client, other));
    };
    tokio::join!(server.shutdown(), meanwhile);
}
