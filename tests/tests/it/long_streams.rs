//! One DoPut that carries many units.

use std::time::Duration;

use arrow_flight::FlightData;
use merganser::{IngestMode, Loader, LoaderOptions, OnTrouble, RetryPolicy, TablePath};
use merganser_proto::IngestUnit;
use merganser_tests::{
    LongStream, TestServer, ids, integer, integers, put_keyed, put_with, refused, soon, unit, until, wide,
};
use prost::Message;
use tokio::sync::mpsc;
use tonic::Code;

const ROWS: usize = 10;

fn key(sequence: i64) -> String {
    format!("a/1/{sequence}")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_unit_is_acknowledged_as_it_commits() {
    let server = TestServer::start().await;
    let (flight, client) = (server.flight().await, server.client().await);
    let mut stream = LongStream::start(&flight, "t", &key(1), unit(1, ROWS)).await.unwrap();
    for sequence in 1..=20 {
        let ack = stream.acknowledged().await.unwrap();
        assert_eq!((ack.rows, ack.units, ack.sequence), (10, sequence as u64, sequence as u64));
        assert!(ack.commit_id > 0 && ack.committed && !ack.duplicate);
        // Acknowledged means there for everybody, while the stream is open.
        assert_eq!(integer(&client, "SELECT count(DISTINCT unit) FROM t").await, sequence);
        stream.send(&key(sequence + 1), unit(sequence + 1, ROWS));
    }
    let rest = stream.finish().await.unwrap();
    assert_eq!(rest.last().unwrap().units, 21);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn units_may_be_sent_without_waiting() {
    const UNITS: i64 = 3_000;
    let server = TestServer::start().await;
    let (flight, client) = (server.flight().await, server.client().await);
    let stream = LongStream::start(&flight, "t", &key(1), unit(1, ROWS)).await.unwrap();
    (2..=UNITS).for_each(|sequence| stream.send(&key(sequence), unit(sequence, ROWS)));
    let acks = stream.finish().await.unwrap();
    // A client that does not read may miss acknowledgements, but never the last, which stands for all.
    assert_eq!(acks.last().unwrap().units, UNITS as u64);
    assert!(acks.is_sorted_by(|one, next| one.units < next.units && one.commit_id <= next.commit_id));
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, UNITS * 10);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_units_of_a_stream_wait_than_its_window() {
    // As `proto/merganser.proto` says, besides the one that is being committed and the one that was read last.
    const WINDOW: usize = 64;
    let server = TestServer::with(|config| {
        config.engine.ingest_timeout = None;
        config.network.drain_timeout = Duration::from_millis(200);
    })
    .await;
    let (flight, client) = (server.flight().await, server.client().await);
    // The writer keeps the first for as long as the test takes.
    client
        .execute("CREATE TABLE t (unit BIGINT, part BIGINT, b INTEGER DEFAULT sleep_ms(600000))")
        .await
        .unwrap();
    let mut stream = LongStream::start(&flight, "t", &key(1), unit(1, ROWS)).await.unwrap();
    (2..=500).for_each(|sequence| stream.send(&key(sequence), unit(sequence, ROWS)));
    let queued = || server.engine().units_queued();
    until("the window is full", async || queued() >= WINDOW).await;
    assert!(stream.is_silent_for(Duration::from_millis(200)).await);
    assert!(queued() <= WINDOW + 2, "{} units", queued());
    drop(stream);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_may_have_many_messages_or_none_with_rows() {
    let server = TestServer::with(|config| config.engine.bulk_bytes = 1 << 20).await;
    let (flight, client) = (server.flight().await, server.client().await);
    let mut stream = LongStream::start(&flight, "t", &key(1), wide(0..10)).await.unwrap();
    assert_eq!(stream.acknowledged().await.unwrap().rows, 10);
    // Small, in parts; the last part is a mark alone.
    stream.send_part(&key(2), wide(10..20), true);
    stream.send_part(&key(2), wide(20..30), true);
    assert!(stream.is_silent_for(Duration::from_millis(50)).await);
    stream.send_mark(&key(2));
    assert_eq!(stream.acknowledged().await.unwrap().rows, 20);
    // Empty.
    stream.send_mark(&key(3));
    assert_eq!(stream.acknowledged().await.unwrap().rows, 0);
    // Bulk, and small ones behind it.
    stream.send_part(&key(4), wide(100..2_100), true);
    stream.send_part(&key(4), wide(2_100..4_100), false);
    stream.send(&key(5), wide(5_000..5_001));
    assert_eq!(stream.acknowledged().await.unwrap().rows, 4_000);
    let acks = stream.finish().await.unwrap();
    assert_eq!((acks[0].rows, acks[0].units, acks[0].sequence), (1, 5, 5));
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 4_031);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_begins_where_another_broke_off() {
    let server = TestServer::start().await;
    let (flight, client) = (server.flight().await, server.client().await);
    let mut stream = LongStream::start(&flight, "t", &key(1), unit(1, ROWS)).await.unwrap();
    stream.acknowledged().await.unwrap();
    stream.send(&key(2), unit(2, ROWS));
    drop(stream);
    let mut stream = LongStream::start(&flight, "t", &key(2), unit(2, ROWS)).await.unwrap();
    assert_eq!(stream.acknowledged().await.unwrap().sequence, 2);
    stream.send(&key(3), unit(3, ROWS));
    stream.finish().await.unwrap();
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 30);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_fails_ends_the_stream_behind_those_before_it() {
    let server = TestServer::start().await;
    let (flight, client) = (server.flight().await, server.client().await);
    client.execute("CREATE TABLE t (id BIGINT PRIMARY KEY)").await.unwrap();
    let mut stream = LongStream::start(&flight, "t", &key(1), ids([1])).await.unwrap();
    stream.send(&key(2), ids([2]));
    stream.send(&key(3), ids([1]));
    stream.send(&key(4), ids([4]));
    let mut acknowledged = 0;
    let error = loop {
        match stream.acknowledged().await {
            Ok(ack) => acknowledged = ack.units,
            Err(error) => break error,
        }
    };
    let text = refused(Err::<(), _>(error), Code::AlreadyExists, "DUPLICATE_KEY");
    assert!(text.contains("unit a/1/3"), "{text}");
    assert_eq!(acknowledged, 2);
    assert_eq!(integers(&client, "SELECT id FROM t ORDER BY id").await.unwrap(), [1, 2]);
    // The key of the unit that failed is still the next.
    put_keyed(&flight, "t", &key(3), vec![ids([3])]).await.unwrap();
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_unit_is_refused_and_writes_nothing() {
    let server = TestServer::start().await;
    let (flight, client) = (server.flight().await, server.client().await);
    let garbage = || FlightData { app_metadata: vec![0xff; 9].into(), ..FlightData::default() };
    type Case<'a> = (&'a str, &'a dyn Fn(&LongStream));
    let cases: [Case<'_>; 4] = [
        ("no IngestUnit", &|stream| stream.send_raw(garbage())),
        ("begins before", &|stream| {
            stream.send_part(&key(2), unit(2, ROWS), true);
            stream.send(&key(3), unit(3, ROWS));
        }),
        ("ended inside", &|stream| stream.send_part(&key(2), unit(2, ROWS), true)),
        ("needs the key", &|stream| {
            let mut bare = merganser_tests::messages("t", vec![unit(2, ROWS)]).pop().unwrap();
            bare.app_metadata = bytes::Bytes::new();
            stream.send_raw(bare);
        }),
    ];
    for (text, send) in cases {
        let stream = LongStream::start(&flight, "t", &key(1), unit(1, ROWS)).await.unwrap();
        send(&stream);
        let told = refused(stream.finish().await, Code::InvalidArgument, "BAD_UNIT");
        assert!(told.contains(text), "{told}");
    }
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 10);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_first_message_names_no_unit_is_refused_where_a_later_one_does() {
    let server = TestServer::with(|config| config.engine.bulk_bytes = 1 << 20).await;
    let (flight, client) = (server.flight().await, server.client().await);
    put_keyed(&flight, "t", "b/1/1", vec![wide(0..1)]).await.unwrap();
    let named = IngestUnit { key: key(1), more: false }.encode_to_vec();
    // Small and bulk; with rows behind the name, and without.
    for rows in [10, 3_000] {
        let mut with_rows = merganser_tests::messages("t", vec![wide(1..rows), wide(rows..rows + 10)]);
        with_rows.last_mut().unwrap().app_metadata = named.clone().into();
        let mut mark = merganser_tests::messages("t", vec![wide(1..rows)]);
        mark.push(FlightData { app_metadata: named.clone().into(), ..FlightData::default() });
        for messages in [with_rows, mark] {
            let told = refused(put_with(&flight, &[], messages).await, Code::InvalidArgument, "BAD_UNIT");
            assert!(told.contains("first one had none"), "{told}");
        }
    }
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 1);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_rests_does_not_hold_up_the_stop() {
    let server = TestServer::start().await;
    let flight = server.flight().await;
    let mut stream = LongStream::start(&flight, "t", &key(1), unit(1, ROWS)).await.unwrap();
    stream.acknowledged().await.unwrap();
    let (stopped, told) = tokio::join!(soon("the server stops", server.shutdown()), stream.acknowledged());
    refused(told, Code::Unavailable, "SHUTTING_DOWN");
    drop(stopped);
}

/// Quick, so that the test need not wait.
const RETRY: RetryPolicy = RetryPolicy {
    first: Duration::from_millis(1),
    largest: Duration::from_millis(10),
    ..RetryPolicy::lasting(Duration::from_secs(20))
};

/// A server that lets uploads wait hardly at all while somebody changes a table.
async fn with_a_table_that_changes() -> (TestServer, merganser::Client) {
    let server = TestServer::with(|config| config.engine.wait = Duration::from_millis(20)).await;
    let changing = server.client().await;
    changing.execute("CREATE TABLE t (unit BIGINT, part BIGINT)").await.unwrap();
    changing.execute("BEGIN").await.unwrap();
    changing.execute("ALTER TABLE t ADD COLUMN more INTEGER").await.unwrap();
    (server, changing)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loader_that_is_told_aborted_sends_again_until_it_is_not() {
    let (server, changing) = with_a_table_that_changes().await;
    let client = server.client().await;
    let (tell, mut told) = mpsc::unbounded_channel();
    let options = LoaderOptions {
        retry: RETRY,
        on_trouble: Some(OnTrouble::new(move |error| tell.send(error.to_string()).unwrap())),
        ..LoaderOptions::new("a")
    };
    let mut loader = Loader::open(&client, &TablePath::new("t"), options).await.unwrap();
    for number in 1..=3 {
        loader.send(vec![unit(number, ROWS)]).await.unwrap();
    }
    let trouble = soon("it is aborted", told.recv()).await.unwrap();
    assert!(trouble.starts_with("TABLE_CHANGING: "), "{trouble}");
    assert_eq!(loader.acknowledged().units, 0);
    changing.execute("COMMIT").await.unwrap();
    let acknowledged = soon("all are acknowledged", loader.finish()).await.unwrap();
    assert_eq!((acknowledged.units, acknowledged.duplicates), (3, 0));
    assert!(acknowledged.retries > 0);
    assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE more IS NULL").await, 30);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_without_a_key_that_is_told_aborted_is_sent_again_and_stored_once() {
    let (server, changing) = with_a_table_that_changes().await;
    let client = server.client().await;
    let (tell, mut told) = mpsc::unbounded_channel();
    let sending = tokio::spawn({
        let client = client.clone();
        async move {
            // Nothing was written, so that it does no harm to send it again.
            RETRY
                .run(&client, false, || async {
                    let rows = futures::stream::iter([Ok::<_, merganser::Error>(unit(1, ROWS))]);
                    let schema = unit(1, ROWS).schema();
                    let sent = client.ingest(&TablePath::new("t"), IngestMode::Append, schema, rows).await;
                    sent.inspect_err(|error| tell.send(error.slug().map(str::to_owned)).unwrap())
                })
                .await
        }
    });
    for _ in 0..2 {
        let slug = soon("it is aborted", told.recv()).await.unwrap();
        assert_eq!(slug.as_deref(), Some("TABLE_CHANGING"));
    }
    changing.execute("ROLLBACK").await.unwrap();
    assert_eq!(soon("the answer", sending).await.unwrap().unwrap().rows, ROWS as u64);
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, ROWS as i64);
    server.shutdown().await;
}
