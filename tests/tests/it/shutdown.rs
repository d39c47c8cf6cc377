//! A stop loses nothing that was acknowledged, and leaves nothing half done.

use std::{collections::BTreeSet, time::Duration};

use futures::StreamExt;
use merganser::{Client, Error};
use merganser_tests::{TestServer, Upload, ids, integer, integers, put, refused, unit, until, wide};
use tokio::sync::mpsc;
use tonic::Code;

const ROWS: usize = 10;

/// Puts one unit after the other until the server takes no more; returns the error that ended it.
async fn load(client: Client, loader: i64, acknowledged: mpsc::UnboundedSender<i64>) -> Error {
    for number in loader * 1_000_000.. {
        match put(&client, "t", unit(number, ROWS)).await {
            Ok(_) => acknowledged.send(number).unwrap(),
            Err(error) => return error,
        }
    }
    unreachable!("numbers do not end")
}

fn says_that_the_server_is_gone(error: &Error) -> bool {
    match error {
        Error::Connect(_) | Error::Disconnected(_) => true,
        Error::Server { code, .. } => *code == Code::Unavailable,
        _ => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_under_load_keeps_every_acknowledged_unit_whole() {
    let server = TestServer::start().await;
    let (acknowledge, mut acknowledged) = mpsc::unbounded_channel();
    let mut loaders = Vec::new();
    for loader in 0..8 {
        let client = server.client().await;
        loaders.push(tokio::spawn(load(client, loader, acknowledge.clone())));
    }
    drop(acknowledge);
    let mut kept = BTreeSet::new();
    while kept.len() < 100 {
        kept.insert(acknowledged.recv().await.unwrap());
    }
    let late = server.client().await;
    let file = server.shutdown().await;
    for loader in loaders {
        let error = loader.await.unwrap();
        assert!(says_that_the_server_is_gone(&error), "{error:?}");
    }
    while let Some(number) = acknowledged.recv().await {
        kept.insert(number);
    }
    let error = put(&late, "t", unit(-1, ROWS)).await.unwrap_err();
    assert!(says_that_the_server_is_gone(&error), "{error:?}");

    let server = TestServer::open(file, |_| ()).await;
    let client = server.client().await;
    let whole = format!("SELECT unit FROM t GROUP BY unit HAVING count(*) = {ROWS}");
    let whole: BTreeSet<_> = integers(&client, &whole).await.unwrap().into_iter().collect();
    assert!(kept.is_subset(&whole), "lost: {:?}", kept.difference(&whole));
    assert_eq!(integer(&client, "SELECT count(DISTINCT unit) FROM t").await, whole.len() as i64);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_under_way_may_end_well_while_the_server_stops() {
    let server = TestServer::with(|config| config.engine.bulk_bytes = 64 << 10).await;
    let client = server.client().await;
    let upload = Upload::start(&client, "t", wide([]).schema());
    upload.send(wide(0..200));
    server.bulk_uploads(1).await;
    let rest = async {
        upload.send(wide(200..400));
        upload.finish().await
    };
    let (file, ack) = tokio::join!(server.shutdown(), rest);
    assert_eq!(ack.unwrap().rows, 400);
    let server = TestServer::open(file, |_| ()).await;
    assert_eq!(integer(&server.client().await, "SELECT count(*) FROM t").await, 400);
    server.shutdown().await;
}

/// Both one whose rows are on their way and one that has none yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_is_cut_off_by_a_stop_is_told_so() {
    let server = TestServer::with(|config| config.network.drain_timeout = Duration::from_millis(100)).await;
    let (client, other) = (server.client().await, server.client().await);
    let mut rows = client.query("FROM range(1_000_000_000_000)").await.unwrap();
    rows.next().await.unwrap().unwrap();
    let forever = "SELECT sum(hash(a.range, b.range)) FROM range(10_000_000) a, range(10_000_000) b";
    let waiting = tokio::spawn(async move { integers(&other, forever).await });
    until("both run", async || server.engine().reads_in_progress() == 2).await;
    let to_the_end = async {
        loop {
            if let Err(error) = rows.next().await.expect("no end without an error") {
                return error;
            }
        }
    };
    let (_, error) = tokio::join!(server.shutdown(), to_the_end);
    refused(Err::<(), _>(error), Code::Unavailable, "SHUTTING_DOWN");
    refused(waiting.await.unwrap(), Code::Unavailable, "SHUTTING_DOWN");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_leaves_everything_in_the_file_itself() {
    let server = TestServer::start().await;
    let client = server.client().await;
    put(&client, "t", ids(0..1_000)).await.unwrap();
    drop(client);
    let file = server.shutdown().await;
    let log = file.path().with_extension("duckdb.wal");
    assert!(!log.exists(), "the write-ahead log was checkpointed");
    let server = TestServer::open(file, |_| ()).await;
    assert_eq!(integer(&server.client().await, "SELECT count(*) FROM t").await, 1_000);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_shut_down_refuses_puts_and_still_answers_queries() {
    let server = TestServer::start().await;
    let client = server.client().await;
    put(&client, "t", ids([1])).await.unwrap();
    server.engine().shutdown().await;
    let refusal = put(&client, "t", ids([2])).await;
    refused(refusal, Code::Unavailable, "SHUTTING_DOWN");
    assert_eq!(integers(&client, "FROM t").await.unwrap(), [1]);
    drop(client);
    server.shutdown().await;
}
