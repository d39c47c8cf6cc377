//! Uploads that are too large to be collected: they append while they arrive.

use futures::future::join_all;
use merganser_tests::{TestServer, Upload, integer, put, wide};

/// Rows of about a kilobyte in one batch, which is about what a client sends in one message.
const BATCH: i64 = 2_000;

/// Sends `batches` batches with the ids from `first` on.
fn bulk(client: &merganser::Client, first: i64, batches: i64) -> Upload {
    let upload = Upload::start(client, "t", wide([]).schema());
    for batch in 0..batches {
        let from = first + batch * BATCH;
        upload.send(wide(from..from + BATCH));
    }
    upload
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_every_window_arrives_beside_small_puts_to_the_same_table() {
    const BULKS: i64 = 2;
    // About 80 MB, which is more than two windows.
    const BATCHES: i64 = 40;
    let server = TestServer::start().await;
    let client = server.client().await;
    let bulks: Vec<_> = (0..BULKS).map(|number| bulk(&client, number * BATCHES * BATCH, BATCHES)).collect();
    let mut small = 0;
    while !bulks.iter().all(Upload::is_answered) || small < 10 {
        small += 1;
        put(&client, "t", wide([-small])).await.unwrap();
        if bulks.iter().any(Upload::is_answered) && small >= 10 {
            break;
        }
    }
    for ack in join_all(bulks.into_iter().map(Upload::finish)).await {
        let ack = ack.unwrap();
        assert!(ack.rows == (BATCHES * BATCH) as u64 && ack.committed && ack.commit_id > 0);
    }
    let expected = BULKS * BATCHES * BATCH;
    assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE id < 0").await, small);
    assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE id >= 0").await, expected);
    assert_eq!(integer(&client, "SELECT count(DISTINCT id) FROM t").await, expected + small);
    assert_eq!(integer(&client, "SELECT max(id) FROM t").await, expected - 1);
    assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE length(text) <> 1008").await, 0);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rows_of_a_bulk_upload_show_all_at_once() {
    let server = TestServer::with(|config| config.engine.bulk_bytes = 64 << 10).await;
    let (loader, client) = (server.client().await, server.client().await);
    put(&client, "t", wide([-1])).await.unwrap();
    let upload = bulk(&loader, 0, 20);
    while !upload.is_answered() {
        let seen = integer(&client, "SELECT count(*) FROM t").await;
        assert!(seen == 1 || seen == 1 + 20 * BATCH, "{seen} rows of an upload under way");
        if seen > 1 {
            break;
        }
        // Looks once more only after the upload has been allowed to end.
        if loader_is_done(&upload).await {
            break;
        }
    }
    assert_eq!(upload.finish().await.unwrap().rows, 20 * BATCH as u64);
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 1 + 20 * BATCH);
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
    assert_eq!(bulk(&client, 0, 10).finish().await.unwrap().rows, 10 * BATCH as u64);
    assert_eq!(integer(&client, "SELECT count(DISTINCT id) FROM t").await, 10 * BATCH);
    server.shutdown().await;
}
