//! Too much at once is refused in words, held in bounds, and over when it is over.

use std::time::Duration;

use arrow_flight::flight_service_client::FlightServiceClient;
use futures::future::join_all;
use merganser_server::Config;
use merganser_tests::{RawUpload, TestServer, Upload, integer, messages, put, refused, until, wide};
use tonic::{Code, transport::Channel};

/// A mebibyte for uploads on their way, and little patience.
fn little_memory(config: &mut Config) {
    config.engine.queue_bytes = 1 << 20;
    config.engine.bulk_bytes = 512 << 10;
    config.engine.wait = Duration::from_millis(100);
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_beyond_the_memory_for_them_are_refused_and_the_others_go_on() {
    let server = TestServer::with(little_memory).await;
    let client = server.client().await;
    client.execute("CREATE TABLE t (id BIGINT, text VARCHAR)").await.unwrap();
    // Each holds about 300 kB of the mebibyte for as long as it does not end.
    let mut held = Vec::new();
    for _ in 0..3 {
        let upload = Upload::start(&server.client().await, "t", wide([]).schema());
        upload.send(wide(0..300));
        held.push(upload);
    }
    let mut accepted = 0;
    until("the memory is taken", async || {
        match put(&client, "t", wide(1_000..1_300)).await {
            Ok(_) => accepted += 1,
            full => return !refused(full, Code::ResourceExhausted, "QUEUE_FULL").is_empty(),
        }
        false
    })
    .await;
    // Readers and writers that bring no rows are not concerned.
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, accepted * 300);
    client.execute("CREATE TABLE other (id BIGINT)").await.unwrap();
    for ack in join_all(held.into_iter().map(Upload::finish)).await {
        assert_eq!(ack.unwrap().rows, 300);
    }
    assert_eq!(put(&client, "t", wide(1_000..1_300)).await.unwrap().rows, 300);
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, (accepted + 4) * 300);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_for_lack_of_room_says_when_to_come_again() {
    let server = TestServer::with(little_memory).await;
    let client = server.client().await;
    client.execute("CREATE TABLE t (id BIGINT, text VARCHAR)").await.unwrap();
    let flight: FlightServiceClient<Channel> = server.flight().await;
    let mut held = Vec::new();
    let mut refusal = None;
    // Uploads that never end fill the memory; the one that finds it full is answered.
    while refusal.is_none() {
        assert!(held.len() < 10, "ten times 300 kB in a mebibyte");
        let upload = RawUpload::start(flight.clone());
        for message in messages("t", vec![wide(0..300)]) {
            upload.send(message);
        }
        held.push(upload);
        let probe = RawUpload::start(flight.clone());
        for message in messages("t", vec![wide(0..300)]) {
            probe.send(message);
        }
        refusal = probe.finish().await.err();
    }
    let refusal = refusal.unwrap();
    assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal:?}");
    assert!(refusal.metadata().contains_key("grpc-retry-pushback-ms"), "{refusal:?}");
    for upload in held {
        upload.cancel().await;
    }
    until("the memory is free again", async || put(&client, "t", wide(0..300)).await.is_ok()).await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_more_loaders_than_memory_all_get_an_answer() {
    let server = TestServer::with(|config| {
        little_memory(config);
        config.engine.wait = Duration::from_secs(10);
    })
    .await;
    let client = server.client().await;
    client.execute("CREATE TABLE t (id BIGINT, text VARCHAR)").await.unwrap();
    let puts = (0..100).map(|number| put(&client, "t", wide(number * 100..(number + 1) * 100)));
    for ack in join_all(puts).await {
        assert_eq!(ack.unwrap().rows, 100);
    }
    assert_eq!(integer(&client, "SELECT count(DISTINCT id) FROM t").await, 10_000);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_the_limit_is_refused_by_name() {
    let server = TestServer::with(|config| config.network.max_message_bytes = 64 << 10).await;
    let (client, flight) = (server.client().await, server.flight().await);
    let upload = RawUpload::start(flight);
    for message in messages("t", vec![wide(0..500)]) {
        upload.send(message);
    }
    let refusal = upload.finish().await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument, "{refusal:?}");
    assert!(refusal.message().starts_with("MESSAGE_TOO_LARGE: "), "{refusal:?}");
    assert_eq!(put(&client, "t", wide(0..10)).await.unwrap().rows, 10);
    server.shutdown().await;
}
