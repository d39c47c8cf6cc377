//! Messages on their way in: what they hold of the memory for uploads, and what becomes of those that do not come.

use std::{sync::Arc, time::Duration};

use arrow_array::{ArrayRef, DictionaryArray, RecordBatch, StringArray, types::Int32Type};
use arrow_flight::{
    FlightData, FlightDescriptor,
    encode::{DictionaryHandling, FlightDataEncoderBuilder},
};
use bytes::Bytes;
use futures::{TryStreamExt, future::join_all, stream};
use merganser_server::config::{PasswordHash, User};
use merganser_tests::{
    LongStream, RawBody, RawUpload, TestServer, announced, ended_with, framed, ids, integer, mark, messages,
    soon, until, wide,
};
use tonic::Code;

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_long_stream_may_rest_between_two_messages_and_not_within_one() {
    let server = TestServer::with(|config| config.engine.stall_timeout = Duration::from_millis(500)).await;
    let client = server.client().await;
    client.execute("CREATE TABLE t (id BIGINT)").await.unwrap();
    let mut resting = LongStream::start(&server.flight().await, "t", "resting/1/1", ids([1])).await.unwrap();
    resting.acknowledged().await.unwrap();
    let half = RawBody::start(server.channel().await);
    let mut unit = messages("t", vec![ids([2])]);
    unit.last_mut().unwrap().app_metadata = mark("half/1/1", false);
    unit.iter().for_each(|message| half.send(framed(message)));
    until("the first unit is there", async || integer(&client, "SELECT count(*) FROM t").await == 2).await;
    half.send(announced(MIB));
    half.send(Bytes::from_static(&[0; 100]));
    let end = half.refusal().await;
    assert!(ended_with(&end, Code::Aborted, "STALLED"), "{end:?}");
    until("its memory is free again", async || server.engine().bytes_queued() == 0).await;
    resting.send("resting/1/2", ids([3]));
    resting.acknowledged().await.unwrap();
    resting.finish().await.unwrap();
    server.shutdown().await;
}

/// Rows with a dictionary of so many kilobytes, as messages: the schema, the dictionary, the rows.
async fn with_dictionary(kilobytes: usize) -> Vec<FlightData> {
    let values = StringArray::from_iter_values((0..kilobytes).map(|number| format!("{number:01024}")));
    let column = DictionaryArray::<Int32Type>::new(vec![0, 1].into(), Arc::new(values));
    let column: ArrayRef = Arc::new(column);
    let rows = RecordBatch::try_from_iter([("text", column)]).unwrap();
    let encoder = FlightDataEncoderBuilder::new()
        .with_flight_descriptor(Some(FlightDescriptor::new_path(vec!["t".into()])))
        .with_dictionary_handling(DictionaryHandling::Resend)
        .build(stream::iter([Ok(rows)]));
    encoder.try_collect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn dictionaries_are_counted_as_long_as_their_upload_goes_on() {
    let server = TestServer::with(|config| {
        config.engine.queue_bytes = 12 * MIB;
        config.engine.bulk_bytes = MIB;
    })
    .await;
    let flight = server.flight().await;
    let queued = || server.engine().bytes_queued();
    let upload = RawUpload::start(flight.clone());
    let parts = with_dictionary(1_000).await;
    assert_eq!(parts.len(), 3);
    parts[..2].iter().for_each(|part| upload.send(part.clone()));
    until("the dictionary is counted", async || queued() >= 1_000 << 10).await;
    // One that takes its place counts in its place.
    (0..5).for_each(|_| upload.send(parts[1].clone()));
    upload.send(parts[2].clone());
    upload.finish().await.unwrap();
    until("it is free again", async || queued() == 0).await;

    let upload = RawUpload::start(flight);
    with_dictionary(3_000).await.into_iter().for_each(|part| upload.send(part));
    let refusal = upload.finish().await.unwrap_err();
    assert!(ended_with(&refusal, Code::InvalidArgument, "BAD_ARROW"), "{refusal:?}");
    assert!(refusal.message().contains("the dictionaries of the upload are too large"), "{refusal:?}");
    until("it is free again", async || queued() == 0).await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_silent_after_a_message_that_had_to_wait_has_stalled() {
    let server = TestServer::with(|config| {
        config.engine.queue_bytes = 24 * MIB;
        config.engine.stall_timeout = Duration::from_millis(500);
        config.engine.wait = Duration::from_secs(2);
    })
    .await;
    let hog = RawUpload::start(server.flight().await);
    messages("hog", vec![wide(0..22_000)]).into_iter().for_each(|part| hog.send(part));
    until("little is left", async || server.engine().bytes_queued() > 20 * MIB).await;
    let silent = RawUpload::start(server.flight().await);
    // Rows, and then a dictionary, behind which no rows come.
    let large = with_dictionary(3_000).await.into_iter().skip(1).take(1);
    with_dictionary(2).await.into_iter().chain(large).for_each(|part| silent.send(part));
    let refusals = soon("both have stalled", join_all([hog.refusal(), silent.refusal()])).await;
    for refusal in refusals {
        let refusal = refusal.unwrap_err();
        assert!(ended_with(&refusal, Code::Aborted, "STALLED"), "{refusal:?}");
    }
    until("all of it is free again", async || server.engine().bytes_queued() == 0).await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_wait_for_what_all_of_them_hold_go_on_in_pieces() {
    const LOADERS: usize = 4;
    let server = TestServer::with(|config| config.engine.queue_bytes = 6 * MIB).await;
    let client = server.client().await;
    client.execute("CREATE TABLE t (id BIGINT, text VARCHAR)").await.unwrap();
    let parts = messages("t", vec![wide(0..450); 10]);
    let mut uploads = Vec::new();
    for _ in 0..LOADERS {
        let upload = RawUpload::start(server.flight().await);
        parts[..3].iter().for_each(|part| upload.send(part.clone()));
        uploads.push(upload);
    }
    until("each holds its share", async || server.engine().bytes_queued() > 3 * MIB).await;
    for upload in &uploads {
        parts[3..].iter().for_each(|part| upload.send(part.clone()));
    }
    for end in join_all(uploads.into_iter().map(RawUpload::finish)).await {
        end.unwrap();
    }
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 4_500 * LOADERS as i64);
    assert_eq!(server.engine().bytes_queued(), 0);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_cannot_take_room_by_announcing_messages() {
    let server = TestServer::with(|config| {
        let password = PasswordHash::of("secret").unwrap();
        config.security.users = vec![User { name: "ana".into(), password }];
    })
    .await;
    let paths = ["/arrow.flight.protocol.FlightService/Handshake", "/grpc.health.v1.Health/Check"];
    for path in paths {
        let announcing = RawBody::to(path, server.channel().await);
        announcing.send(announced(3 * MIB));
        let end = announcing.refusal().await;
        assert!(ended_with(&end, Code::InvalidArgument, "MESSAGE_TOO_LARGE"), "{end:?}");
        assert_eq!(server.engine().bytes_queued(), 0);
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_ends_behind_the_head_of_a_message_is_not_complete() {
    let server = TestServer::start().await;
    let client = server.client().await;
    client.execute("CREATE TABLE t (id BIGINT)").await.unwrap();
    let cut = RawBody::start(server.channel().await);
    messages("t", vec![ids(0..10)]).iter().for_each(|message| cut.send(framed(message)));
    cut.send(announced(100));
    let end = cut.end().await;
    assert!(ended_with(&end, Code::InvalidArgument, "BAD_ARROW"), "{end:?}");
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 0);
    server.shutdown().await;
}
