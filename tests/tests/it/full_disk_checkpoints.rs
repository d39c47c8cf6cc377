//! On a full disk no checkpoint begins. It writes into the file before the log is gone, and one that finds no room there
//! costs the whole database.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use futures::{TryStreamExt, stream};
use merganser::{Client, Error, IngestMode, TablePath};
use merganser_tests::{DatabaseFile, Process, SmallDisk, integer, put, refused, until};
use tempfile::TempDir;
use tonic::Code;

use crate::{
    disk_full::{ROWS, check, fill, noise},
    log_lines,
};

const DISK: u64 = 24 << 20;
/// So many units make a log that is just worth a checkpoint once nobody writes.
const UNITS: i64 = 206;
/// What is left of the disk then: less than the log has, and less than the server's reserve.
const LEFT: usize = 1 << 20;

/// A server that tells of checkpoints in its log.
async fn start(log: &Path, database: &Path, more: &[&str]) -> Process {
    let options = ["--database", database.to_str().unwrap(), "--log-level", "merganser_server=debug"];
    log_lines::start(log, &[&options, more].concat()).await
}

/// How often the log has told of a checkpoint that was put off for lack of room.
fn put_off(log: &Path) -> usize {
    fs::read_to_string(log).unwrap().matches("there is too little room on the disk for a checkpoint").count()
}

/// A database file and its log, byte for byte: a checkpoint that has begun has written to the log.
fn contents(database: &Path) -> [Option<Vec<u8>>; 2] {
    [database.to_owned(), wal_of(database)].map(|file| fs::read(file).ok())
}

fn wal_of(database: &Path) -> PathBuf {
    database.with_extension("duckdb.wal")
}

fn wal_bytes(database: &Path) -> u64 {
    fs::metadata(wal_of(database)).map_or(0, |file| file.len())
}

/// A server over a small disk that was filled from outside once there was a log.
struct Full {
    disk: SmallDisk,
    file: DatabaseFile,
    server: Process,
    client: Client,
    acknowledged: BTreeSet<i64>,
    log: PathBuf,
    _folder: TempDir,
}

impl Full {
    async fn begin(test: &str) -> Option<Self> {
        let disk = SmallDisk::mount_for(&format!("full_disk_checkpoints::{test}"), DISK)?;
        let (file, folder) = (disk.database(), tempfile::tempdir().unwrap());
        let log = folder.path().join("log");
        let server = start(&log, file.path(), &[]).await;
        let client = server.client().await;
        for number in 0..UNITS {
            put(&client, "t", noise(number, ROWS)).await.unwrap();
        }
        disk.leave(LEFT);
        // What the server has measured just before may let a few in.
        let (more, refusal) = fill(&client, UNITS).await;
        refused(Err::<(), _>(refusal), Code::ResourceExhausted, "DISK_FULL");
        let acknowledged = (0..UNITS).chain(more).collect();
        assert!(wal_bytes(file.path()) > LEFT as u64, "the log is in the file already");
        Some(Self { disk, file, server, client, acknowledged, log, _folder: folder })
    }
}

/// Opens the file again: all of it is there, and a stop leaves no log.
async fn check_again(file: &DatabaseFile, log: &Path, acknowledged: &BTreeSet<i64>) {
    let server = start(log, file.path(), &[]).await;
    check(&server.client().await, acknowledged).await;
    assert_eq!(server.terminate().await.code(), Some(0));
    assert_eq!(wal_bytes(file.path()), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_begins_no_checkpoint_until_there_is_room() {
    let Some(mut it) = Full::begin("a_full_disk_begins_no_checkpoint_...").await else { return };
    let (before, times) = (contents(it.file.path()), put_off(&it.log));
    until("a checkpoint is put off again and again", async || put_off(&it.log) >= times + 3).await;
    assert!(contents(it.file.path()) == before, "a checkpoint has begun");
    check(&it.client, &it.acknowledged).await;

    it.disk.make_room();
    until("the log is checkpointed", async || wal_bytes(it.file.path()) == 0).await;
    put(&it.client, "t", noise(1_000, ROWS)).await.unwrap();
    it.acknowledged.insert(1_000);
    check(&it.client, &it.acknowledged).await;
    assert_eq!(it.server.terminate().await.code(), Some(0));
    check_again(&it.file, &it.log, &it.acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_is_asked_for_is_refused_on_a_full_disk() {
    let Some(it) = Full::begin("a_checkpoint_that_is_asked_for_...").await else { return };
    let before = contents(it.file.path());
    let session = it.server.client().await;
    session.execute("CREATE TEMP TABLE mine AS SELECT 1 AS checkpoint").await.unwrap();
    for client in [&it.client, &session] {
        for sql in ["CHECKPOINT", "SELECT 1; checkpoint"] {
            refused(client.execute(sql).await, Code::ResourceExhausted, "DISK_FULL");
        }
        let asked =
            async { client.query("/* as a query */ CHECKPOINT").await?.try_collect::<Vec<_>>().await };
        refused(asked.await, Code::ResourceExhausted, "DISK_FULL");
    }
    assert!(contents(it.file.path()) == before, "a checkpoint has begun");
    // A column of that name is no checkpoint.
    assert_eq!(integer(&session, "SELECT checkpoint FROM mine").await, 1);

    it.disk.make_room();
    it.client.execute("CHECKPOINT").await.unwrap();
    assert_eq!(wal_bytes(it.file.path()), 0);
    check(&it.client, &it.acknowledged).await;
    assert_eq!(it.server.terminate().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_on_a_full_disk_leaves_file_and_log_as_they_are() {
    let Some(it) = Full::begin("a_stop_on_a_full_disk_...").await else { return };
    let before = contents(it.file.path());
    assert_eq!(it.server.terminate().await.code(), Some(0));
    assert!(contents(it.file.path()) == before, "a checkpoint has begun");
    // Nor does the next start need any room.
    it.disk.leave(0);
    let server = start(&it.log, it.file.path(), &[]).await;
    check(&server.client().await, &it.acknowledged).await;
    assert_eq!(server.terminate().await.code(), Some(0));
    assert!(contents(it.file.path()) == before, "a checkpoint has begun");
    it.disk.make_room();
    check_again(&it.file, &it.log, &it.acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_it_is_with_the_file_of_an_attached_catalog() {
    let Some(disk) = SmallDisk::mount_for("full_disk_checkpoints::so_it_is_with_...", DISK) else { return };
    let (side, own, folder) = (disk.database(), DatabaseFile::new(), tempfile::tempdir().unwrap());
    let [log, config] = ["log", "merganser.toml"].map(|name| folder.path().join(name));
    let path = side.path().display();
    fs::write(&config, format!("[[catalog]]\nname = 'side'\ntype = 'duckdb'\npath = '{path}'\n")).unwrap();
    let server = start(&log, own.path(), &["--config", config.to_str().unwrap()]).await;
    let client = server.client().await;
    let mut units = load_beside(&client, &disk, side.path(), 0).await;
    let before = contents(side.path());
    until("a checkpoint is put off again and again", async || put_off(&log) >= 2).await;
    refused(client.execute("CHECKPOINT side").await, Code::ResourceExhausted, "DISK_FULL");
    assert!(contents(side.path()) == before, "a checkpoint has begun");
    let count = "SELECT count(*) FROM side.main.t";
    assert_eq!(integer(&client, count).await, units * ROWS);

    disk.make_room();
    until("the log is checkpointed", async || wal_bytes(side.path()) == 0).await;
    units = load_beside(&client, &disk, side.path(), units).await;
    assert_eq!(integer(&client, count).await, units * ROWS);
    let before = contents(side.path());
    assert_eq!(server.terminate().await.code(), Some(0));
    assert!(contents(side.path()) == before, "a checkpoint has begun");
}

/// Puts units into the catalog `side` until its log has more than will be left of its disk; how many there are then. There is
/// ever less room for a checkpoint between two of them.
async fn load_beside(client: &Client, disk: &SmallDisk, side: &Path, units: i64) -> i64 {
    disk.leave(3 << 20);
    let mut number = units;
    while wal_bytes(side) < LEFT as u64 {
        let rows = noise(number, ROWS);
        let (table, schema) = (TablePath::new("t").with_catalog("side", "main"), rows.schema());
        let rows = stream::iter([Ok::<_, Error>(rows)]);
        client.ingest(&table, IngestMode::CreateOrAppend, schema, rows).await.unwrap();
        number += 1;
    }
    disk.leave(LEFT / 2);
    number
}
