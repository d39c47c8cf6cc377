//! What the server keeps of its clients' bytes is bounded, as its own count and the system's tell.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{
    StreamExt,
    future::{join_all, select_all},
};
use merganser::Error;
use merganser_tests::{
    DatabaseFile, Process, RawBody, announced, ended_with, framed, ids, integer, integers, messages, put,
    refused, soon, until, wide,
};
use tonic::Code;

use crate::SERVER;

const MIB: usize = 1 << 20;
/// Rows without end, of which the first come at once.
const ENDLESS: &str = "SELECT range AS id FROM range(1000000000000)";

/// The most that the server has in use until something is there.
async fn peak_until<T>(server: &Process, done: impl Future<Output = T>) -> (usize, T) {
    let (mut done, mut pace) = (pin!(done), tokio::time::interval(Duration::from_millis(20)));
    let mut peak = 0;
    loop {
        tokio::select! {
            done = &mut done => return (peak, done),
            _ = pace.tick() => peak = peak.max(server.resident_bytes()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_never_end_take_no_more_than_the_memory_for_uploads_and_others_go_on() {
    const CONNECTIONS: usize = 60;
    const STREAMS: usize = 3;
    const LENGTH: usize = 5 * MIB;
    let file = DatabaseFile::new();
    let options = ["--queue-bytes", "32MiB", "--read-wait", "2s", "--stall-timeout", "4s"];
    let server = Process::start(SERVER, file.path(), &options).await;
    let client = server.client().await;
    put(&client, "t", wide(0..10)).await.unwrap();
    let before = server.resident_bytes();
    let part = Bytes::from(vec![0; LENGTH - 1]);
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        let channel = server.channel().await;
        for _ in 0..STREAMS {
            let half = RawBody::start(channel.clone());
            half.send(announced(LENGTH));
            half.send(part.clone());
            held.push(half);
        }
    }
    let others = async {
        for _ in 0..20 {
            assert_eq!(integer(&client, "SELECT 42").await, 42);
            assert_eq!(put(&client, "t", wide(0..10)).await.unwrap().rows, 10);
        }
    };
    let ends = join_all(held.into_iter().map(RawBody::refusal));
    let (peak, (ends, ())) = peak_until(&server, async { tokio::join!(ends, others) }).await;
    let stalled = ends.iter().filter(|end| ended_with(end, Code::Aborted, "STALLED")).count();
    let full = ends.iter().filter(|end| ended_with(end, Code::ResourceExhausted, "QUEUE_FULL")).count();
    assert_eq!(stalled + full, CONNECTIONS * STREAMS, "{:?}", ends[0]);
    assert!(stalled >= 1, "none was let in");
    // All of them together are 900 MiB; each connection may have sent one ahead, beside the memory for uploads.
    let ahead = CONNECTIONS * LENGTH;
    assert!(peak < before + 32 * MIB + ahead + 60 * MIB, "{} MiB after {} MiB", peak / MIB, before / MIB);
    assert_eq!(put(&client, "t", wide(0..1_000)).await.unwrap().rows, 1_000);
    assert!(server.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_batches_that_wait_for_room_wait_outside() {
    const LOADERS: usize = 16;
    let file = DatabaseFile::new();
    // One bulk upload at a time.
    let options = ["--queue-bytes", "48MiB", "--read-wait", "3s"];
    let server = Process::start(SERVER, file.path(), &options).await;
    let client = server.client().await;
    client.execute("CREATE TABLE t (id BIGINT)").await.unwrap();
    let parts: Vec<_> = messages("t", vec![ids(0..5_000_000)]).iter().map(framed).collect();
    let begin = async || {
        let upload = RawBody::start(server.channel().await);
        parts.iter().for_each(|part| upload.send(part.clone()));
        upload
    };
    let before = server.resident_bytes();
    // Whoever is first stalls, and keeps the others waiting.
    let mut uploads = Vec::new();
    for _ in 0..LOADERS {
        uploads.push(begin().await);
    }
    let first = select_all(uploads.into_iter().map(|upload| Box::pin(upload.refusal())));
    let (peak, (end, _, others)) = peak_until(&server, first).await;
    assert!(ended_with(&end, Code::ResourceExhausted, "QUEUE_FULL"), "{end:?}");
    // All of them together are 640 MiB; each may have sent one ahead on its stream.
    assert!(peak < before + 300 * MIB, "{} MiB after {} MiB", peak / MIB, before / MIB);
    drop(others);
    assert_eq!(integer(&client, "SELECT 42").await, 42);
    server.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_disconnects_leave_places_and_memory_as_they_were() {
    const PLACES: usize = 8;
    let file = DatabaseFile::new();
    let server = Process::start(SERVER, file.path(), &["--read-concurrency", "8"]).await;
    // Each on a connection of its own, which goes away with rows on their way.
    let disconnect = async || {
        let client = server.client().await;
        let mut rows = client.query(ENDLESS).await.unwrap();
        soon("the first rows", rows.next()).await.unwrap().unwrap();
    };
    let many = async |count: usize| {
        let waves = (0..PLACES).map(async |_| {
            for _ in 0..count / PLACES {
                disconnect().await;
            }
        });
        join_all(waves).await;
    };
    many(200).await;
    let before = server.resident_bytes();
    many(1_000).await;
    let since = Instant::now();
    // Every place is free: as many reads as there are begin at once.
    let client = server.client().await;
    let mut reads = join_all((0..PLACES).map(|_| client.query(ENDLESS))).await;
    for read in &mut reads {
        soon("the first rows", read.as_mut().unwrap().next()).await.unwrap().unwrap();
    }
    drop(reads);
    until("the memory is free again", async || server.resident_bytes() < before + 64 * MIB).await;
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    assert!(server.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_stalled_downloads_are_bounded_and_a_probe_is_answered() {
    let file = DatabaseFile::new();
    let options = ["--read-concurrency", "8", "--read-wait", "500ms", "--stall-timeout", "2s"];
    let server = Process::start(SERVER, file.path(), &options).await;
    let (client, probe) = (server.client().await, server.client().await);
    let before = server.resident_bytes();
    // What has its place keeps it, and what is refused is refused in words; nobody reads on.
    let downloads = join_all((0..200).map(async |_| {
        let mut rows = client.query(ENDLESS).await?;
        rows.next().await.expect("rows, or why there are none")?;
        Ok::<_, Error>(rows)
    }));
    let (peak, downloads) = peak_until(&server, soon("an answer to each", downloads)).await;
    let (served, busy): (Vec<_>, Vec<_>) = downloads.into_iter().partition(Result::is_ok);
    assert!(served.len() >= 8 && !busy.is_empty(), "{} were served", served.len());
    for busy in busy {
        refused(busy.map(|_| ()), Code::ResourceExhausted, "READS_BUSY");
    }
    let (later, ()) = peak_until(&server, async {
        until("the probe is answered", async || integers(&probe, "SELECT 42").await.is_ok()).await;
    })
    .await;
    assert!(peak.max(later) < before + 400 * MIB, "{} MiB", peak.max(later) / MIB);
    drop(served);
    assert!(server.terminate().await.success());
}
