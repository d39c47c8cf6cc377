//! Failures of DuckDB that a full disk provokes, in the real binary.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use futures::StreamExt;
use merganser::{Client, Error};
use merganser_tests::{Process, integer, put, soon, unit, until};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tonic::{Code, Streaming, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};

use super::read as read_all;
use crate::SERVER;

/// Tests on full disks let the server use all of theirs.
const OPTIONS: [&str; 2] = ["--disk-reserve", "0B"];

/// A small disk of its own; gone when dropped.
struct Disk {
    folder: TempDir,
}

impl Disk {
    fn new(size: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(folder.path()));
        Self { folder }
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("full.duckdb")
    }

    /// Leaves no room at all.
    fn fill(&self) {
        let mut ballast = fs::File::create(self.ballast()).unwrap();
        for piece in [1 << 16, 1 << 12, 1] {
            while ballast.write_all(&vec![1; piece]).is_ok() {}
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.folder.path().join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a server that is being killed may still be there.
        run(Command::new("umount").arg("-l").arg(self.folder.path()));
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

/// What somebody hears who watches the server's health.
async fn watch(server: &Process) -> Streaming<HealthCheckResponse> {
    let address = server.url().replace("grpc://", "http://");
    let channel = Endpoint::from_shared(address).unwrap().connect().await.unwrap();
    let request = HealthCheckRequest { service: String::new() };
    HealthClient::new(channel).watch(request).await.unwrap().into_inner()
}

async fn hear(statuses: &mut Streaming<HealthCheckResponse>, status: ServingStatus) {
    let heard = soon("a status", statuses.next()).await.unwrap().unwrap();
    assert_eq!(heard.status(), status);
}

/// Loads so much that a checkpoint needs more room than a full disk has.
async fn load(client: &Client) {
    for number in 0..10 {
        put(client, "t", unit(number, 20_000)).await.unwrap();
    }
}

/// A checkpoint without room invalidates the instance.
async fn fail_checkpoint(client: &Client) {
    let error = client.execute("CHECKPOINT").await.unwrap_err();
    assert!(
        error.to_string().contains("ENGINE_DOWN") || error.to_string().contains("COMMIT_UNKNOWN"),
        "{error}"
    );
}

/// A query that notices no interrupt, because it waits for the system: for whoever writes to a pipe.
async fn hang(server: &Process, disk: &Disk) -> (JoinHandle<Result<(), Error>>, fs::File) {
    let pipe = disk.database().with_file_name("pipe");
    run(Command::new("mkfifo").arg(&pipe));
    let client = server.client().await;
    let columns = "auto_detect = false, header = false, columns = {'line': 'VARCHAR'}";
    let read = format!("FROM read_csv('{}', {columns})", pipe.display());
    let hung = tokio::spawn(async move { read_all(&client, &read).await });
    let mut silent = None;
    until("somebody reads the pipe", async || {
        silent = silent.take().or_else(|| other_end(&pipe));
        silent.is_some()
    })
    .await;
    (hung, silent.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_fatal_error_the_database_is_opened_again() {
    let disk = Disk::new("24m");
    let server = Process::start(SERVER, &disk.database(), &OPTIONS).await;
    let client = server.client().await;
    load(&client).await;
    let session = server.client().await;
    session.execute("CREATE TEMP TABLE mine AS SELECT 1 AS i").await.unwrap();
    let mut health = watch(&server).await;
    hear(&mut health, ServingStatus::Serving).await;

    let (held_up, pipe) = hang(&server, &disk).await;
    disk.fill();
    fail_checkpoint(&client).await;
    hear(&mut health, ServingStatus::NotServing).await;
    merganser_tests::refused(client.execute("FROM t").await, Code::Unavailable, "ENGINE_DOWN");
    drop(pipe);
    soon("the read fails", held_up).await.unwrap().unwrap_err();
    hear(&mut health, ServingStatus::Serving).await;
    // The disk is still full: reads work, and writes do not.
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 200_000);
    put(&client, "t", unit(10, 20_000)).await.unwrap_err();
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 200_000);
    merganser_tests::refused(session.execute("FROM mine").await, Code::Aborted, "SESSION_LOST");
    assert_eq!(integer(&session, "SELECT count(*) FROM t").await, 200_000);

    disk.make_room();
    until("rows are taken", async || put(&client, "t", unit(11, 1)).await.is_ok()).await;
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 200_001);
    assert_eq!(server.terminate().await.code(), Some(0));
    let server = Process::start(SERVER, &disk.database(), &OPTIONS).await;
    assert_eq!(integer(&server.client().await, "SELECT count(*) FROM t").await, 200_001);
    server.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_cannot_be_got_rid_of_ends_the_process_with_70() {
    let disk = Disk::new("24m");
    let server = Process::start(SERVER, &disk.database(), &OPTIONS).await;
    let client = server.client().await;
    load(&client).await;
    let (hung, _pipe) = hang(&server, &disk).await;

    disk.fill();
    fail_checkpoint(&client).await;
    assert_eq!(server.ended().await.code(), Some(70));
    soon("the read fails", hung).await.unwrap().unwrap_err();
    disk.make_room();
    let server = Process::start(SERVER, &disk.database(), &OPTIONS).await;
    assert_eq!(integer(&server.client().await, "SELECT count(*) FROM t").await, 200_000);
    server.kill().await;
}

/// The end of a pipe to write to, once somebody has opened the other one.
fn other_end(pipe: &Path) -> Option<fs::File> {
    const NON_BLOCKING: i32 = 0o4000;
    fs::OpenOptions::new().write(true).custom_flags(NON_BLOCKING).open(pipe).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_on_file_sizes_is_a_full_disk_and_no_signal_ends_the_server() {
    let file = merganser_tests::DatabaseFile::new();
    let server = Process::start(SERVER, file.path(), &OPTIONS).await;
    let client = server.client().await;
    put(&client, "t", unit(1, 7)).await.unwrap();
    let limit = |bytes: &str| {
        let (pid, limit) = (server.id().to_string(), format!("--fsize={bytes}:"));
        run(Command::new("prlimit").args(["--pid", &pid, &limit]));
    };
    limit("65536");
    let error = put(&client, "t", unit(2, 100_000)).await.unwrap_err();
    assert!(!error.to_string().contains("UNAVAILABLE"), "{error}");
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 7);
    limit("unlimited");
    until("rows are taken", async || put(&client, "t", unit(3, 7)).await.is_ok()).await;
    assert_eq!(server.terminate().await.code(), Some(0));
}
