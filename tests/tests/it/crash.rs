//! The real binary: killed, told to stop, and started twice.

use std::{collections::BTreeSet, path::Path, time::Duration};

use futures::StreamExt;
use merganser::{Client, IngestMode};
use merganser_tests::{DatabaseFile, Process, TestServer, Upload, ids, integer, integers, put, soon, unit};
use predicates::prelude::*;
use tokio::sync::mpsc;

use crate::SERVER;

const ROWS: usize = 7;

/// Puts one unit after the other until the server is gone.
async fn load(client: Client, first: i64, acknowledged: mpsc::UnboundedSender<i64>) {
    for number in first.. {
        if put(&client, "t", unit(number, ROWS)).await.is_err() {
            return;
        }
        acknowledged.send(number).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_sigkill_every_acknowledged_unit_is_there_and_every_unit_is_whole() {
    const LOADERS: i64 = 8;
    let file = DatabaseFile::new();
    let mut kept = BTreeSet::new();
    for round in 0..3 {
        let server = Process::start(SERVER, file.path(), &[]).await;
        let (acknowledge, mut acknowledged) = mpsc::unbounded_channel();
        for loader in 0..LOADERS {
            let first = (round * LOADERS + loader) * 1_000_000;
            tokio::spawn(load(server.client().await, first, acknowledge.clone()));
        }
        drop(acknowledge);
        let before = kept.len();
        while kept.len() < before + 150 {
            kept.insert(acknowledged.recv().await.unwrap());
        }
        server.kill().await;
        // Ends when the last loader has noticed.
        while let Some(number) = acknowledged.recv().await {
            kept.insert(number);
        }
        check(file.path(), &kept).await;
    }
}

/// Starts a server on what the killed one left, and compares.
async fn check(database: &Path, kept: &BTreeSet<i64>) {
    let server = Process::start(SERVER, database, &[]).await;
    let client = server.client().await;
    let whole = format!(
        "SELECT unit FROM t GROUP BY unit HAVING count(*) = {ROWS} AND count(DISTINCT part) = {ROWS}"
    );
    let whole: BTreeSet<_> = integers(&client, &whole).await.unwrap().into_iter().collect();
    assert!(kept.is_subset(&whole), "lost: {:?}", kept.difference(&whole));
    assert_eq!(integer(&client, "SELECT count(DISTINCT unit) FROM t").await, whole.len() as i64);
    server.kill().await;
}

/// The tables that are there, those that the server made for itself included.
const TABLES: &str = "SELECT count(*) FROM duckdb_tables()";

#[tokio::test(flavor = "multi_thread")]
async fn after_sigkill_a_bulk_upload_into_a_new_table_is_there_whole_or_not_at_all() {
    const ROWS: i64 = 300_000;
    let file = DatabaseFile::new();
    for round in 0..4 {
        let server = Process::start(SERVER, file.path(), &["--bulk-size", "64KiB"]).await;
        let client = server.client().await;
        assert_eq!(integer(&client, TABLES).await, i64::from(round > 0));
        let upload = Upload::with_mode(&client, "t", ids([]).schema(), IngestMode::Replace);
        for batch in 0..10 {
            upload.send(ids(batch * ROWS / 10..(batch + 1) * ROWS / 10));
        }
        let finished = round % 2 == 0;
        if finished {
            upload.send(ids([round]));
            assert_eq!(upload.finish().await.unwrap().rows, ROWS as u64 + 1);
        } else {
            // By the time of this answer the server has read a good part of the upload.
            put(&client, "beside", unit(round, ROWS as usize)).await.unwrap();
            assert!(!upload.is_answered());
            drop(upload);
        }
        server.kill().await;

        let server = Process::start(SERVER, file.path(), &[]).await;
        let client = server.client().await;
        // The upload that was cut off has left what was there before it.
        let last = if finished { round } else { round - 1 };
        let kept = integers(&client, "SELECT id FROM t").await.unwrap();
        assert!(kept.into_iter().eq((0..ROWS).chain([last])), "round {round}");
        client.execute("DROP TABLE IF EXISTS beside").await.unwrap();
        assert_eq!(integer(&client, TABLES).await, 1);
        assert_eq!(server.terminate().await.code(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_to_stop_ends_the_server_well_although_clients_stall() {
    let file = DatabaseFile::new();
    let server = Process::start(SERVER, file.path(), &["--drain-timeout", "300ms"]).await;
    let client = server.client().await;
    put(&client, "t", unit(1, ROWS)).await.unwrap();
    let upload = Upload::start(&client, "t", unit(2, ROWS).schema());
    upload.send(unit(2, ROWS));
    let mut download = client.query("SELECT range FROM range(1000000000000)").await.unwrap();
    soon("the first batch", download.next()).await.unwrap().unwrap();

    assert_eq!(server.terminate().await.code(), Some(0));
    upload.refusal().await.unwrap_err();
    drop(download);
    check(file.path(), &BTreeSet::from([1])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_the_file_says_so_in_one_line_and_exits_with_1() {
    let server = TestServer::start().await;
    let name = server.path().display().to_string();
    let database = name.clone();
    let assert = tokio::task::spawn_blocking(move || {
        assert_cmd::Command::new(SERVER)
            .args(["--database", &database, "--listen", "127.0.0.1:0"])
            .timeout(Duration::from_secs(20))
            .assert()
    });
    assert
        .await
        .unwrap()
        .code(1)
        .stdout(predicate::str::is_empty())
        .stderr(predicate::str::contains(name))
        .stderr(predicate::function(|text: &str| text.lines().count() == 1));
    // The first one is none the worse.
    let client = server.client().await;
    put(&client, "t", unit(1, ROWS)).await.unwrap();
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, ROWS as i64);
    server.shutdown().await;
}
