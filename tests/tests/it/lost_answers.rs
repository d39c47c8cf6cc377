//! A unit that is sent again because its answer was lost is stored once.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use arrow_flight::{FlightData, flight_service_client::FlightServiceClient};
use futures::{future::join_all, stream};
use merganser::IngestAck;
use merganser_tests::{DatabaseFile, Process, integer, messages, put_streamed, soon, unit, until};
use tokio::sync::{Notify, watch};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use crate::SERVER;

const LOADERS: u64 = 20;
const UNITS: u64 = 500;
const ROWS: usize = 3;

/// What becomes of an attempt.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    /// The answer arrives.
    Answered,
    /// The answer arrives and is thrown away unread.
    ThrownAway,
    /// The call is cancelled when another unit is acknowledged, which is before or after its own commit.
    Cancelled,
}

/// The same fates at every run: three attempts in ten lose their answer.
fn fate(loader: u64, sequence: u64, attempt: u64) -> Fate {
    let mut number = loader << 40 ^ sequence << 20 ^ attempt;
    for _ in 0..3 {
        number = (number ^ number >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    }
    match (number >> 33) % 20 {
        0..3 => Fate::ThrownAway,
        3..6 => Fate::Cancelled,
        _ => Fate::Answered,
    }
}

/// The unit of a loader, as its messages.
fn upload(loader: u64, sequence: u64) -> Vec<FlightData> {
    messages("t", vec![unit((loader * 1_000_000 + sequence) as i64, ROWS)])
}

fn key(loader: u64, sequence: u64) -> String {
    format!("loader-{loader}/1/{sequence}")
}

/// One attempt; `None` when its answer was lost.
async fn attempt(
    flight: &FlightServiceClient<Channel>,
    (loader, sequence): (u64, u64),
    fate: Fate,
    another: &Notify,
) -> Option<Result<IngestAck, Status>> {
    let messages = stream::iter(upload(loader, sequence));
    let key = key(loader, sequence);
    let headers = [("x-merganser-ingest-key", &*key)];
    let put = put_streamed(flight, &headers, messages);
    match fate {
        Fate::Answered => Some(put.await),
        Fate::ThrownAway => {
            let _ = put.await;
            None
        }
        Fate::Cancelled => {
            tokio::select! {
                _ = put => {}
                () = another.notified() => {}
            }
            None
        }
    }
}

/// What all loaders have counted.
#[derive(Default)]
struct Counts {
    acknowledged: AtomicU64,
    lost: AtomicU64,
    duplicates: AtomicU64,
    /// Told of every acknowledgement.
    another: Notify,
}

/// Sends the units of one loader, each until its answer has arrived, to whichever server is there.
async fn load(loader: u64, mut servers: watch::Receiver<String>, counts: &Counts) {
    let connect = |url: String| {
        FlightServiceClient::new(Endpoint::from_shared(url).unwrap().tcp_nodelay(true).connect_lazy())
    };
    let mut flight = connect(servers.borrow_and_update().replace("grpc://", "http://"));
    for sequence in 1..=UNITS {
        for number in 0.. {
            let fate = fate(loader, sequence, number);
            match attempt(&flight, (loader, sequence), fate, &counts.another).await {
                None => drop(counts.lost.fetch_add(1, Ordering::Relaxed)),
                Some(Ok(ack)) => {
                    assert_eq!(ack.rows, ROWS as u64);
                    counts.duplicates.fetch_add(ack.duplicate.into(), Ordering::Relaxed);
                    counts.acknowledged.fetch_add(1, Ordering::Relaxed);
                    counts.another.notify_waiters();
                    break;
                }
                Some(Err(status)) => {
                    let gone =
                        status.code() == Code::Unavailable || std::error::Error::source(&status).is_some();
                    assert!(gone, "{status:?}");
                    // That server has been killed; the next one is announced.
                    soon("the next server", servers.changed()).await.unwrap();
                    flight = connect(servers.borrow_and_update().replace("grpc://", "http://"));
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_units_of_which_three_in_ten_answers_are_lost_are_stored_once_over_crashes() {
    let file = DatabaseFile::new();
    let mut server = Process::start(SERVER, file.path(), &[]).await;
    let client = server.client().await;
    client.execute("CREATE TABLE t (unit BIGINT, part BIGINT)").await.unwrap();
    let (announce, servers) = watch::channel(server.url().to_owned());
    let counts = Arc::new(Counts::default());
    let loaders: Vec<_> = (0..LOADERS)
        .map(|loader| {
            let (servers, counts) = (servers.clone(), counts.clone());
            tokio::spawn(async move { load(loader, servers, &counts).await })
        })
        .collect();
    for crash in 1..=3 {
        let enough = crash * LOADERS * UNITS / 4;
        until("a quarter of the units", async || counts.acknowledged.load(Ordering::Relaxed) >= enough).await;
        server.kill().await;
        server = Process::start(SERVER, file.path(), &[]).await;
        announce.send_replace(server.url().to_owned());
    }
    for loader in join_all(loaders).await {
        loader.unwrap();
    }

    let client = server.client().await;
    let all = (LOADERS * UNITS) as i64;
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, all * ROWS as i64);
    let whole = format!(
        "SELECT count(*) FROM (SELECT unit FROM t GROUP BY unit \
         HAVING count(*) = {ROWS} AND count(DISTINCT part) = {ROWS})"
    );
    assert_eq!(integer(&client, &whole).await, all);
    let lost = counts.lost.load(Ordering::Relaxed);
    assert!(lost > 3_000, "{lost} answers were lost");
    // Not every cancelled upload was committed, but every one whose answer was thrown away was.
    let duplicates = counts.duplicates.load(Ordering::Relaxed);
    assert!(duplicates > 1_000, "{duplicates} units were recognised");
    assert_eq!(server.terminate().await.code(), Some(0));
}
