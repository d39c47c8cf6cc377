//! Whoever stalls, or takes too much, costs the others nothing.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use futures::{FutureExt, StreamExt, future::join_all};
use merganser::{Error, RowStream};
use merganser_server::config::Keepalive;
use merganser_tests::{
    LongStream, Proxy, RawUpload, TestServer, ids, integer, messages, put, put_keyed, refused, soon, until,
    wide,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::Code;

/// Rows without end, of which the first come at once.
const ENDLESS: &str = "SELECT range AS id FROM range(1000000000000)";

/// One place for reads, and little patience with whoever does not take their rows.
async fn one_place(patience: Duration) -> TestServer {
    TestServer::with(|config| {
        config.engine.read_concurrency = 1;
        config.engine.stall_timeout = patience;
    })
    .await
}

/// Reads on to the error that ends a result.
async fn end_of(mut rows: RowStream) -> Error {
    let end = async {
        loop {
            match rows.next().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => break error,
                None => panic!("a result without end has ended well"),
            }
        }
    };
    soon("the end of the result", end).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_nobody_takes_loses_its_place_and_is_told() {
    let server = one_place(Duration::from_millis(200)).await;
    let (client, other) = (server.client().await, server.client().await);
    let mut stalled = client.query(ENDLESS).await.unwrap();
    soon("the first rows", stalled.next()).await.unwrap().unwrap();
    // It is still open when its place goes to the next.
    server.no_reads_left().await;
    assert_eq!(integer(&other, "SELECT 42").await, 42);
    let told = refused(Err::<(), _>(end_of(stalled).await), Code::Aborted, "STALLED");
    assert!(told.contains("took no rows"), "{told}");
    assert_eq!(integer(&client, "SELECT 43").await, 43);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_download_that_goes_on_keeps_its_place() {
    let patience = Duration::from_secs(2);
    let server = one_place(patience).await;
    let client = server.client().await;
    let mut rows = client.query(ENDLESS).await.unwrap();
    let (begun, mut pace) = (Instant::now(), tokio::time::interval(Duration::from_millis(25)));
    while begun.elapsed() < 2 * patience {
        pace.tick().await;
        soon("more rows", rows.next()).await.unwrap().unwrap();
    }
    assert_eq!(server.engine().reads_in_progress(), 1);
    drop(rows);
    server.no_reads_left().await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_download_in_a_transaction_is_given_up_and_the_transaction_goes_on() {
    let server = one_place(Duration::from_millis(200)).await;
    let client = server.client().await;
    client.execute("BEGIN").await.unwrap();
    client.execute("CREATE TABLE t AS SELECT 1 AS id").await.unwrap();
    let mut stalled = client.query(ENDLESS).await.unwrap();
    soon("the first rows", stalled.next()).await.unwrap().unwrap();
    server.no_reads_left().await;
    assert_eq!(integer(&client, "SELECT id FROM t").await, 1);
    refused(Err::<(), _>(end_of(stalled).await), Code::Aborted, "STALLED");
    client.execute("COMMIT").await.unwrap();
    assert_eq!(integer(&server.client().await, "SELECT count(*) FROM t").await, 1);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loader_that_takes_all_it_can_get_and_stalls_costs_the_others_nothing() {
    const BUDGET: usize = 4 << 20;
    let server = TestServer::with(|config| {
        config.engine.queue_bytes = BUDGET;
        config.engine.bulk_bytes = 1 << 20;
        config.engine.wait = Duration::from_secs(1);
    })
    .await;
    let client = server.client().await;
    client.execute("CREATE TABLE t (id BIGINT, text VARCHAR)").await.unwrap();
    let greedy = server.flight().await;
    let hold = || {
        let upload = RawUpload::start(greedy.clone());
        messages("t", vec![wide(0..300)]).into_iter().for_each(|message| upload.send(message));
        upload
    };
    let queued = || server.engine().bytes_queued();
    let mut held = vec![hold()];
    until("the first upload is there", async || queued() > 0).await;
    let one = queued();
    // Twelve times 300 kB would be nearly all; what is beyond its share is refused.
    held.extend((0..11).map(|_| hold()));
    until("the greedy loader has its share", async || queued() + one > BUDGET / 2).await;
    let refusal = hold().refusal().await.unwrap_err();
    assert!(refusal.message().starts_with("QUEUE_FULL: "), "{refusal:?}");
    assert!(queued() <= BUDGET / 2, "{} bytes", queued());
    let loads = (0..20).map(async |loader: i64| {
        let client = server.client().await;
        for unit in 0..10 {
            let first = 1_000 * loader + 50 * unit;
            put(&client, "t", wide(first..first + 50)).await.unwrap();
        }
    });
    soon("the others", join_all(loads)).await;
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 20 * 10 * 50);
    for upload in held {
        upload.cancel().await;
    }
    until("its share is free again", async || queued() == 0).await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_of_one_connection_that_stall_leave_room_for_its_others() {
    const BUDGET: usize = 6 << 20;
    let server = TestServer::with(|config| {
        config.engine.queue_bytes = BUDGET;
        // Who finds no room waits for longer than this test takes.
        config.engine.wait = Duration::from_secs(60);
    })
    .await;
    let connection = server.flight().await;
    let queued = || server.engine().bytes_queued();
    // As threads of one process that share a connection: each sends a megabyte, bit by bit, and then stalls.
    let stalled: Vec<_> = (0..3).map(|_| RawUpload::start(connection.clone())).collect();
    for (number, upload) in stalled.iter().enumerate() {
        let before = queued();
        messages("t", (0..50).map(|part| wide(20 * part..20 * (part + 1))).collect())
            .into_iter()
            .for_each(|message| upload.send(message));
        // The first two have all of it in memory; the third is kept from what is left for the others.
        let least = if number < 2 { 900_000 } else { 300_000 };
        until("an upload has come as far as it can", async || queued() >= before + least).await;
    }
    assert!(queued() > BUDGET / 3, "{} bytes", queued());
    let key = |sequence| format!("small/1/{sequence}");
    for sequence in 1..=20 {
        let unit = vec![wide(0..80)];
        let ack = soon("a small unit", put_keyed(&connection, "small", &key(sequence), unit)).await;
        assert_eq!(ack.unwrap().rows, 80);
        assert!(queued() <= BUDGET / 2, "{} bytes", queued());
    }
    for upload in stalled {
        upload.cancel().await;
    }
    until("all of it is free again", async || queued() == 0).await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn units_beyond_the_places_of_the_queue_are_refused_and_may_come_again() {
    const LOADERS: i64 = 60;
    let server = TestServer::with(|config| {
        config.engine.queue_units = 1;
        config.engine.wait = Duration::ZERO;
    })
    .await;
    let client = server.client().await;
    client.execute("CREATE TABLE t (id BIGINT)").await.unwrap();
    let (mut stored, mut refusals) = (0, 0);
    until("a unit finds no place", async || {
        let puts = (0..LOADERS).map(|loader| put(&client, "t", ids([loader])));
        for outcome in join_all(puts).await {
            match outcome {
                Ok(_) => stored += 1,
                full => {
                    let told = refused(full, Code::ResourceExhausted, "QUEUE_FULL");
                    assert!(told.contains("again"), "{told}");
                    refusals += 1;
                }
            }
        }
        refusals > 0
    })
    .await;
    assert!(stored > 0);
    until("the places are free again", async || server.engine().units_queued() == 0).await;
    put(&client, "t", ids([0])).await.unwrap();
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, stored + 1);
    let file = server.shutdown().await;

    // With the usual number of places all of them wait.
    let server = TestServer::open(file, |_| ()).await;
    let client = server.client().await;
    for outcome in join_all((0..LOADERS).map(|loader| put(&client, "t", ids([loader])))).await {
        outcome.unwrap();
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_beyond_those_that_a_connection_may_have_open_wait_for_one_to_end() {
    const CALLS: usize = 4;
    let server = TestServer::with(|config| config.network.max_streams = CALLS as u32).await;
    let connection = server.flight().await;
    let hold = |number: i64| {
        let upload = RawUpload::start(connection.clone());
        messages("t", vec![wide(100 * number..100 * (number + 1))]).into_iter().for_each(|m| upload.send(m));
        upload
    };
    let queued = || server.engine().bytes_queued();
    let mut held = Vec::new();
    for number in 0..CALLS as i64 {
        let before = queued();
        held.push(hold(number));
        until("the server has the upload", async || queued() > before).await;
    }
    let full = queued();
    let mut waiting = pin!(put_keyed(&connection, "t", "a/1/1", vec![ids([1])]));
    // Another connection has its own calls. By the time of these answers that one would have come, too.
    let other = server.client().await;
    for number in 0..50 {
        assert!((&mut waiting).now_or_never().is_none(), "a call too many");
        put(&other, "other", ids([number])).await.unwrap();
    }
    // An answer comes a moment before its rows are let go of.
    until("only what is held is there", async || queued() == full).await;
    held.pop().unwrap().cancel().await;
    assert_eq!(soon("the call that has waited", waiting).await.unwrap().rows, 1);
    for upload in held {
        upload.cancel().await;
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_is_found_out_and_leaves_all_that_it_held() {
    let server = TestServer::with(|config| {
        config.engine.read_concurrency = 1;
        // Nothing but the silence of the connection gives the client away.
        config.engine.stall_timeout = Duration::from_secs(600);
        // On a machine that is busy, one that lives may take a while to answer.
        config.network.keepalive =
            Keepalive { silence: Duration::from_millis(200), answer_within: Duration::from_secs(3) };
    })
    .await;
    let queued = || server.engine().bytes_queued();
    let (reading, loading) = (Proxy::start(server.address()).await, Proxy::start(server.address()).await);
    let client = reading.client().await;
    let mut rows = client.query(ENDLESS).await.unwrap();
    soon("the first rows", rows.next()).await.unwrap().unwrap();
    let upload = RawUpload::start(loading.flight().await);
    messages("t", vec![wide(0..300)]).into_iter().for_each(|message| upload.send(message));
    until("the upload is there", async || queued() > 0).await;
    // A connection that only rests answers, and so lives on.
    let resting = server.client().await;
    assert_eq!(server.engine().reads_in_progress(), 1);

    let vanished = (reading.silence(), loading.silence());
    server.no_reads_left().await;
    until("the upload has given its memory back", async || queued() == 0).await;
    assert_eq!(integer(&resting, "SELECT 42").await, 42);
    assert_eq!(integer(&resting, "SELECT count(*) FROM duckdb_tables() WHERE table_name = 't'").await, 0);
    drop((vanished, rows, client));
    upload.cancel().await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_answers_no_ping_is_closed_in_time() {
    /// What begins a connection of HTTP/2: the preface, and settings that say nothing.
    const BEGINNING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    /// The head of a ping that wants an answer: eight bytes, of type 6, without flags, of no stream.
    const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0";
    // Shorter than what the transport takes for itself where it is told nothing.
    let (silence, answer_within) = (Duration::from_millis(200), Duration::from_millis(300));
    let server = TestServer::with(|config| {
        config.network.begin_within = Duration::from_secs(600);
        config.network.keepalive = Keepalive { silence, answer_within };
    })
    .await;
    let mut silent = TcpStream::connect(server.address()).await.unwrap();
    let begun = Instant::now();
    silent.write_all(BEGINNING).await.unwrap();
    let mut answer = Vec::new();
    // It may be a reset.
    let _ = soon("the end", silent.read_to_end(&mut answer)).await;
    let took = begun.elapsed();
    assert!(took >= silence + answer_within && took < Duration::from_secs(10), "{took:?}");
    assert!(answer.windows(PING.len()).any(|window| window == PING), "{answer:?}");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_does_not_begin_is_closed_and_one_that_rests_is_not() {
    let server = TestServer::with(|config| config.network.begin_within = Duration::from_millis(300)).await;
    let client = server.client().await;
    for beginning in [&b""[..], b"PRI * HTTP/2.0\r\n", b"G"] {
        let mut silent = TcpStream::connect(server.address()).await.unwrap();
        silent.write_all(beginning).await.unwrap();
        let mut answer = Vec::new();
        // Its own settings may come first; then comes the end, or a reset.
        let _ = soon("the end", silent.read_to_end(&mut answer)).await;
    }
    // It has begun, and since then it has rested for longer.
    assert_eq!(integer(&client, "SELECT 1").await, 1);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_columns_and_too_long_names_are_refused_before_anything_is_made() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let one: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let columns = |names: Vec<String>| {
        let columns = names.into_iter().map(|name| (name, Arc::clone(&one)));
        RecordBatch::try_from_iter(columns).unwrap()
    };
    let many = |count: usize| columns((0..count).map(|column| format!("c{column}")).collect());
    refused(put(&client, "t", many(4_097)).await, Code::InvalidArgument, "SCHEMA_MISMATCH");
    refused(put(&client, "t", columns(vec!["x".repeat(256)])).await, Code::InvalidArgument, "BAD_NAME");
    assert_eq!(integer(&client, "SELECT count(*) FROM duckdb_tables() WHERE NOT internal").await, 0);
    put(&client, "wide", many(500)).await.unwrap();
    put(&client, "long", columns(vec!["x".repeat(255)])).await.unwrap();
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tiny_units_that_wait_for_the_writer_break_no_connection() {
    const LOADERS: i64 = 200;
    const UNITS: i64 = 50;
    let server = TestServer::with(|config| config.engine.wait = Duration::from_secs(30)).await;
    let client = server.client().await;
    let flights = join_all((0..LOADERS).map(|_| server.flight())).await;
    let key = |loader: i64, sequence: i64| format!("l{loader}/1/{sequence}");
    put_keyed(&flights[0], "t", "first/1/1", vec![ids([0])]).await.unwrap();
    // While the table is being changed nothing of it is committed, and soon nothing more is read.
    client.execute("BEGIN").await.unwrap();
    client.execute("ALTER TABLE t ADD COLUMN more BIGINT").await.unwrap();
    let loads = flights.iter().zip(0..).map(async |(flight, loader)| {
        let stream = LongStream::start(flight, "t", &key(loader, 1), ids([loader])).await.unwrap();
        for sequence in 2..=UNITS {
            // Each in a frame of its own; every other one has no rows, and so hardly any bytes.
            if sequence % 2 == 0 {
                stream.send_mark(&key(loader, sequence));
            } else {
                stream.send(&key(loader, sequence), ids([loader]));
            }
            tokio::task::yield_now().await;
        }
        stream
    });
    let streams = soon("all units are sent", join_all(loads)).await;
    client.execute("COMMIT").await.unwrap();
    for acks in join_all(streams.into_iter().map(LongStream::finish)).await {
        assert_eq!(acks.unwrap().last().unwrap().units, UNITS as u64);
    }
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 1 + LOADERS * UNITS / 2);
    server.shutdown().await;
}
