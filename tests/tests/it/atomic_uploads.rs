//! One DoPut is one unit: all of its rows, or none of them, however it ends.

use std::time::Duration;

use arrow_flight::FlightData;
use futures::future::join_all;
use merganser::Client;
use merganser_server::Config;
use merganser_tests::{
    Proxy, RawUpload, TestServer, Upload, ids, integer, integers, messages, put, refused, until, wide,
};
use tonic::Code;

/// From here on an upload appends on a connection of its own while it arrives.
const BULK_BYTES: usize = 64 << 10;

fn small_bulks(config: &mut Config) {
    config.engine.bulk_bytes = BULK_BYTES;
}

/// A batch that makes its upload a bulk upload.
fn bulky() -> arrow_array::RecordBatch {
    wide(0..200)
}

/// Waits until a bulk upload has ended, and checks that it left no table behind.
async fn nothing_left(server: &TestServer) {
    server.bulk_uploads(0).await;
    assert_eq!(integer(&server.client().await, "SELECT count(*) FROM duckdb_tables()").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_upload_whose_last_batch_is_bad_leaves_nothing() {
    let server = TestServer::with(small_bulks).await;
    let client = server.client().await;
    client.execute("CREATE TABLE t (id BIGINT CHECK (id >= 0), text VARCHAR)").await.unwrap();
    put(&client, "t", wide([7])).await.unwrap();

    // Enough for a window that is in the table, uncommitted, when the bad batch comes.
    let upload = Upload::start(&client, "t", bulky().schema());
    for batch in 0..20 {
        upload.send(wide(batch * 2_000..(batch + 1) * 2_000));
    }
    upload.send(wide([-1]));
    refused(upload.finish().await, Code::InvalidArgument, "CONSTRAINT");
    assert_eq!(integers(&client, "SELECT id FROM t").await.unwrap(), [7]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_upload_that_its_client_abandons_leaves_nothing() {
    let server = TestServer::with(small_bulks).await;
    let (loader, client) = (server.client().await, server.client().await);
    let upload = Upload::start(&loader, "t", bulky().schema());
    upload.send(bulky());
    server.bulk_uploads(1).await;
    upload.abandon().await;
    nothing_left(&server).await;
    server_goes_on(&client).await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_upload_whose_connection_is_cut_leaves_nothing() {
    let server = TestServer::with(small_bulks).await;
    let client = server.client().await;
    let proxy = Proxy::start(server.address()).await;
    let upload = Upload::start(&proxy.client().await, "t", bulky().schema());
    upload.send(bulky());
    server.bulk_uploads(1).await;
    proxy.cut().await;
    upload.refusal().await.unwrap_err();
    nothing_left(&server).await;
    server_goes_on(&client).await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_upload_that_is_cancelled_leaves_nothing() {
    let server = TestServer::with(small_bulks).await;
    let client = server.client().await;
    for _ in 0..10 {
        let upload = RawUpload::start(server.flight().await);
        for message in messages("t", vec![bulky(), bulky()]) {
            upload.send(message);
        }
        server.bulk_uploads(1).await;
        upload.cancel().await;
        nothing_left(&server).await;
        server_goes_on(&client).await;
        client.execute("DROP TABLE after").await.unwrap();
    }
    server.shutdown().await;
}

/// tonic shows a cancelled request to its handler as one that has ended well, and a server that believes
/// it commits what has come so far.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_upload_that_is_cancelled_leaves_nothing() {
    let server = TestServer::start().await;
    let client = server.client().await;
    put(&client, "t", ids([0])).await.unwrap();
    for _ in 0..50 {
        let flight = server.flight().await;
        let upload = RawUpload::start(flight.clone());
        for message in messages("t", vec![ids([1, 2]), ids([3, 4])]) {
            upload.send(message);
        }
        // Two answers on the same connection: by then the server has read what was sent before.
        answered(flight.clone()).await;
        answered(flight.clone()).await;
        upload.cancel().await;
        answered(flight).await;
    }
    // The writer is first come, first served: whatever it had been given is in by now.
    put(&client, "t", ids([9])).await.unwrap();
    assert_eq!(integers(&client, "SELECT id FROM t ORDER BY id").await.unwrap(), [0, 9]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_upload_whose_connection_is_cut_leaves_nothing() {
    let server = TestServer::start().await;
    let client = server.client().await;
    put(&client, "t", ids([0])).await.unwrap();
    for _ in 0..20 {
        let proxy = Proxy::start(server.address()).await;
        let loader = proxy.client().await;
        let upload = Upload::start(&loader, "t", ids([]).schema());
        upload.send(ids([1, 2]));
        assert_eq!(integer(&loader, "SELECT 1").await, 1);
        proxy.cut().await;
        upload.refusal().await.unwrap_err();
    }
    put(&client, "t", ids([9])).await.unwrap();
    assert_eq!(integers(&client, "SELECT id FROM t ORDER BY id").await.unwrap(), [0, 9]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_source_fails_leaves_nothing() {
    let server = TestServer::start().await;
    let client = server.client().await;
    put(&client, "t", ids([0])).await.unwrap();
    let upload = Upload::start(&client, "t", ids([]).schema());
    upload.send(ids([1]));
    // Our own client refuses a batch that has another schema than it announced, and breaks off.
    upload.send(wide([2]));
    upload.finish().await.unwrap_err();
    put(&client, "t", ids([9])).await.unwrap();
    assert_eq!(integers(&client, "SELECT id FROM t ORDER BY id").await.unwrap(), [0, 9]);
    server.shutdown().await;
}

fn impatient(config: &mut Config) {
    config.engine.stall_timeout = Duration::from_millis(200);
    small_bulks(config);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_stalls_is_given_up_and_others_go_on_meanwhile() {
    let server = TestServer::with(impatient).await;
    let client = server.client().await;
    put(&client, "t", wide([0])).await.unwrap();
    let small = Upload::start(&server.client().await, "t", bulky().schema());
    small.send(wide([1]));
    let bulk = Upload::start(&server.client().await, "t", bulky().schema());
    bulk.send(bulky());
    for id in 1_000..1_020 {
        put(&client, "t", wide([id])).await.unwrap();
    }
    for stalled in join_all([small.refusal(), bulk.refusal()]).await {
        refused(stalled, Code::Aborted, "STALLED");
    }
    assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE id < 1000").await, 1);
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 21);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_stalls_before_its_first_row_is_given_up() {
    let server = TestServer::with(impatient).await;
    let client = server.client().await;
    // The schema is sent at once, rows never.
    let upload = Upload::start(&client, "t", bulky().schema());
    refused(upload.refusal().await, Code::Aborted, "STALLED");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_of_empty_messages_is_told_that_it_sent_no_rows() {
    let server = TestServer::with(impatient).await;
    let [schema, empty]: [FlightData; 2] = messages("t", vec![wide([])]).try_into().unwrap();
    let nothing = FlightData { flight_descriptor: schema.flight_descriptor.clone(), ..FlightData::default() };
    for (begins, goes_on) in [(&schema, &empty), (&schema, &nothing), (&nothing, &nothing)] {
        let upload = RawUpload::start(server.flight().await);
        upload.send(begins.clone());
        let mut often = tokio::time::interval(Duration::from_millis(20));
        until("it is refused", async || {
            often.tick().await;
            upload.send(goes_on.clone());
            upload.is_answered()
        })
        .await;
        let refusal = upload.refusal().await.unwrap_err();
        assert_eq!(refusal.code(), Code::Aborted);
        assert!(refusal.message().contains("the upload sent no rows for "), "{}", refusal.message());
    }
    server.shutdown().await;
}

/// Runs through connections of the pool, of which none may be left inside a transaction.
async fn server_goes_on(client: &Client) {
    for _ in 0..4 {
        client.execute("CREATE OR REPLACE TABLE after (id BIGINT)").await.unwrap();
        put(client, "after", ids([1])).await.unwrap();
        assert_eq!(integer(client, "SELECT count(*) FROM after").await, 1);
    }
}

async fn answered(
    mut flight: arrow_flight::flight_service_client::FlightServiceClient<tonic::transport::Channel>,
) {
    flight.list_actions(arrow_flight::Empty {}).await.unwrap();
}
