//! What counts as a sign of life of whoever sends rows.

use std::time::{Duration, Instant};

use arrow_flight::FlightData;
use merganser::Client;
use merganser_server::Config;
use merganser_tests::{LongStream, RawUpload, TestServer, ids, integer, mark, messages};
use tonic::Code;

const PATIENCE: Duration = Duration::from_secs(1);

fn impatient(config: &mut Config) {
    config.engine.stall_timeout = PATIENCE;
}

/// As long as another client takes for a question.
async fn a_while(other: &Client) {
    integer(other, "SELECT 1").await;
}

/// A batch, without the schema before it. Our own client sends none that are empty.
fn batch(rows: impl IntoIterator<Item = i64>) -> FlightData {
    messages("t", vec![ids(rows)]).remove(1)
}

/// An upload whose schema has been sent, and one row.
async fn begun(server: &TestServer) -> RawUpload {
    let upload = RawUpload::start(server.flight().await);
    messages("t", vec![ids([1])]).into_iter().for_each(|message| upload.send(message));
    upload
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_without_rows_keep_an_upload_alive() {
    let server = TestServer::with(impatient).await;
    let other = server.client().await;
    let mut stream = LongStream::start(&server.flight().await, "t", "alive/1/1", ids([10])).await.unwrap();
    stream.acknowledged().await.unwrap();
    let upload = begun(&server).await;
    let since = Instant::now();
    while since.elapsed() < 3 * PATIENCE {
        upload.send(batch([]));
        stream.send_raw(FlightData { app_metadata: mark("alive/1/2", true), ..FlightData::default() });
        a_while(&other).await;
    }
    upload.send(batch([100]));
    upload.finish().await.unwrap();
    stream.send("alive/1/2", ids([1000]));
    stream.acknowledged().await.unwrap();
    assert_eq!(integer(&other, "SELECT sum(id)::BIGINT FROM t").await, 1111);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_without_rows_do_not_keep_a_place_for_ever() {
    let server = TestServer::with(impatient).await;
    let other = server.client().await;
    let upload = begun(&server).await;
    let since = Instant::now();
    while !upload.is_answered() {
        assert!(since.elapsed() < 20 * PATIENCE, "it keeps its place");
        upload.send(batch([]));
        a_while(&other).await;
    }
    assert!(since.elapsed() > 2 * PATIENCE, "{:?}", since.elapsed());
    let refusal = upload.refusal().await.unwrap_err();
    assert_eq!(refusal.code(), Code::Aborted);
    assert!(refusal.message().starts_with("STALLED: "), "{refusal}");
    server.shutdown().await;
}
