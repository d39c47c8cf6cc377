//! A disk that fills: nothing is acknowledged that is not there, reads go on, and ingest comes back by itself.

use std::{collections::BTreeSet, sync::Arc};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use futures::future::join_all;
use merganser::{Client, Error};
use merganser_tests::{
    DatabaseFile, Process, SmallDisk, TestServer, Upload, integer, integers, put, refused, until,
};
use tonic::Code;

use crate::SERVER;

pub(crate) const ROWS: i64 = 20;

/// Rows of 1,024 bytes that no compression makes smaller.
pub(crate) fn noise(number: i64, rows: i64) -> RecordBatch {
    let mut state = (number as u64).wrapping_add(1);
    let mut letter = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'!' + ((state >> 33) % 90) as u8)
    };
    let texts = (0..rows).map(|_| Some((0..1_024).map(|_| letter()).collect::<String>()));
    let texts: ArrayRef = Arc::new(texts.collect::<StringArray>());
    let units: ArrayRef = Arc::new(Int64Array::from_value(number, rows as usize));
    RecordBatch::try_from_iter_with_nullable([("unit", units, true), ("text", texts, true)]).unwrap()
}

/// Puts units until one is refused; returns those that were acknowledged, and the refusal.
pub(crate) async fn fill(client: &Client, first: i64) -> (Vec<i64>, Error) {
    let mut acknowledged = Vec::new();
    for number in first.. {
        match put(client, "t", noise(number, ROWS)).await {
            Ok(_) => acknowledged.push(number),
            Err(refusal) => return (acknowledged, refusal),
        }
    }
    unreachable!("the disk is never full");
}

/// The same by several loaders at once, each of which is told that the disk is full.
async fn fill_by_all(loaders: Vec<Client>) -> Vec<i64> {
    let filling = (1..).zip(&loaders).map(|(loader, client)| fill(client, loader * 1_000_000));
    let outcomes = join_all(filling).await.into_iter().map(|(units, refusal)| {
        refused(Err::<(), _>(refusal), Code::ResourceExhausted, "DISK_FULL");
        units
    });
    outcomes.flatten().collect()
}

/// What is there is what was acknowledged, and each unit is whole.
pub(crate) async fn check(client: &Client, acknowledged: &BTreeSet<i64>) {
    let whole = format!("SELECT unit FROM t GROUP BY unit HAVING count(*) = {ROWS}");
    let whole: BTreeSet<_> = integers(client, &whole).await.unwrap().into_iter().collect();
    assert_eq!(&whole, acknowledged);
    assert_eq!(integer(client, "SELECT count(*) FROM t").await, ROWS * whole.len() as i64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_ingest_and_nothing_else_until_there_is_room() {
    const LOADERS: i64 = 4;
    let skipped = "disk_full::a_full_disk_... (a_file_that_may_not_grow_... does without)";
    let Some(disk) = SmallDisk::mount_for(skipped, 24 << 20) else { return };
    disk.fill(8 << 20);
    let server = TestServer::open(disk.database(), |_| ()).await;
    let client = server.client().await;
    put(&client, "t", noise(0, ROWS)).await.unwrap();
    let mut acknowledged = BTreeSet::from([0]);
    acknowledged.extend(fill_by_all(join_all((0..LOADERS).map(|_| server.client())).await).await);
    assert!(acknowledged.len() > 200, "{} units on the disk", acknowledged.len());
    check(&client, &acknowledged).await;

    let insert = client.execute("INSERT INTO t VALUES (-1, 'x')").await;
    refused(insert, Code::ResourceExhausted, "DISK_FULL");
    let bulk = Upload::start(&client, "t", noise(0, 0).schema());
    (0..20).for_each(|part| bulk.send(noise(-part, 500)));
    refused(bulk.refusal().await, Code::ResourceExhausted, "DISK_FULL");
    check(&client, &acknowledged).await;
    // What makes room goes on.
    let deleted = acknowledged.pop_last().unwrap();
    let delete = format!("DELETE FROM t WHERE unit = {deleted}");
    assert_eq!(client.execute(&delete).await.unwrap(), ROWS);
    check(&client, &acknowledged).await;

    disk.make_room();
    until("ingest goes on by itself", async || put(&client, "t", noise(1, ROWS)).await.is_ok()).await;
    acknowledged.insert(1);
    for number in 2..50 {
        put(&client, "t", noise(number, ROWS)).await.unwrap();
        acknowledged.insert(number);
    }
    let file = server.shutdown().await;

    let server = TestServer::open(file, |_| ()).await;
    check(&server.client().await, &acknowledged).await;
    server.shutdown().await;
}

/// Starts the server under a limit of the size of files, in blocks of half a kilobyte or one, as shells differ. What is
/// beyond it fails with an error, not with a signal.
#[cfg(target_os = "linux")]
async fn start_limited(file: &DatabaseFile, blocks: u32) -> Process {
    let limited = format!("trap '' XFSZ; ulimit -S -f {blocks}; exec \"$0\" \"$@\"");
    let mut command = tokio::process::Command::new("sh");
    command.args(["-c", &limited, SERVER]).args(Process::arguments(file.path()));
    Process::run(command).await
}

/// Takes the limit from a process that runs.
#[cfg(target_os = "linux")]
fn lift_limit(server: &Process) {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let id = Pid::from_raw(i32::try_from(server.id()).unwrap());
    prlimit(id, Resource::Fsize, Rlimit { current: None, maximum: None }).unwrap();
}

/// The same without root, and without the server's own look at how much is free: the log cannot be written.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_may_not_grow_stops_ingest_and_nothing_else_until_it_may() {
    const LOADERS: i64 = 4;
    let file = DatabaseFile::new();
    let server = start_limited(&file, 8 << 10).await;
    let client = server.client().await;
    put(&client, "t", noise(0, ROWS)).await.unwrap();
    let mut acknowledged = BTreeSet::from([0]);
    acknowledged.extend(fill_by_all(join_all((0..LOADERS).map(|_| server.client())).await).await);
    // Where no group of several fits, one unit may.
    let (units, refusal) = fill(&client, 9_000_000).await;
    acknowledged.extend(units);
    refused(Err::<(), _>(refusal), Code::ResourceExhausted, "DISK_FULL");
    assert!(acknowledged.len() > 100, "{} units in the file", acknowledged.len());
    check(&client, &acknowledged).await;

    lift_limit(&server);
    until("ingest goes on by itself", async || put(&client, "t", noise(1, ROWS)).await.is_ok()).await;
    acknowledged.insert(1);
    check(&client, &acknowledged).await;
    server.kill().await;

    let server = Process::start(SERVER, file.path(), &[]).await;
    check(&server.client().await, &acknowledged).await;
    assert_eq!(server.terminate().await.code(), Some(0));
}
