//! Uploads that are too large to be collected: they append while they arrive.

use futures::future::join_all;
use merganser::{Client, Error, IngestAck};
use merganser_tests::{TestServer, Upload, integer, put, wide};
use tokio::task::JoinHandle;

/// Rows of about a kilobyte in one batch, which is about what a client sends in one message.
const BATCH: i64 = 2_000;

/// Sends `batches` batches with the ids from `first` on.
fn bulk(client: &Client, first: i64, batches: i64) -> JoinHandle<Result<IngestAck, Error>> {
    let upload = Upload::start(client, "t", wide([]).schema());
    for batch in 0..batches {
        let from = first + batch * BATCH;
        upload.send(wide(from..from + BATCH));
    }
    tokio::spawn(upload.finish())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_every_window_arrives_beside_small_puts_to_the_same_table() {
    // Twice about 80 MB, each more than two windows.
    const BATCHES: i64 = 40;
    let server = TestServer::start().await;
    let client = server.client().await;
    let bulks = [bulk(&client, 0, BATCHES), bulk(&server.client().await, BATCHES * BATCH, BATCHES)];
    let mut small = 0;
    while small < 10 || !bulks.iter().all(JoinHandle::is_finished) {
        small += 1;
        put(&client, "t", wide([-small])).await.unwrap();
    }
    for bulk in bulks {
        let ack = bulk.await.unwrap().unwrap();
        assert!(ack.rows == (BATCHES * BATCH) as u64 && ack.committed && ack.commit_id > 0);
    }
    let expected = 2 * BATCHES * BATCH;
    assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE id < 0").await, small);
    assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE id >= 0").await, expected);
    assert_eq!(integer(&client, "SELECT count(DISTINCT id) FROM t").await, expected + small);
    assert_eq!(integer(&client, "SELECT max(id) FROM t").await, expected - 1);
    assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE length(text) <> 1008").await, 0);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rows_of_a_bulk_upload_show_all_at_once() {
    const BATCHES: i64 = 40;
    let server = TestServer::with(|config| config.engine.bulk_bytes = 64 << 10).await;
    let client = server.client().await;
    put(&client, "t", wide([-1])).await.unwrap();
    let bulk = bulk(&server.client().await, 0, BATCHES);
    let all = 1 + BATCHES * BATCH;
    while !bulk.is_finished() {
        let reads = (0..4).map(|_| integer(&client, "SELECT count(*) FROM t"));
        for seen in join_all(reads).await {
            assert!(seen == 1 || seen == all, "{seen} rows of an upload under way");
        }
    }
    assert_eq!(bulk.await.unwrap().unwrap().rows, (BATCHES * BATCH) as u64);
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, all);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_larger_than_the_memory_for_uploads_passes_through_it() {
    let server = TestServer::with(|config| {
        config.engine.queue_bytes = 4 << 20;
        config.engine.bulk_bytes = 1 << 20;
    })
    .await;
    let client = server.client().await;
    let ack = bulk(&client, 0, 10).await.unwrap().unwrap();
    assert_eq!(ack.rows, 10 * BATCH as u64);
    assert_eq!(integer(&client, "SELECT count(DISTINCT id) FROM t").await, 10 * BATCH);
    server.shutdown().await;
}
