//! Failures of the disk under DuckDB, in the real binary.

use std::{fs, process::Command};

use futures::StreamExt;
use merganser::Error;
use merganser_tests::{DatabaseFile, FailingSyncs, Pipe, Process, integer, put, refused, soon, unit, until};
use tokio::task::JoinHandle;
use tonic::{Code, Streaming, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};

use super::read as read_all;
use crate::SERVER;

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

/// A query that notices no interrupt, because it waits for the system: for whoever writes to a pipe.
async fn hang(server: &Process, file: &DatabaseFile) -> (Pipe, JoinHandle<Result<(), Error>>, fs::File) {
    let pipe = Pipe::within(file.path().parent().unwrap());
    let (client, read) = (server.client().await, pipe.read_sql());
    let hung = tokio::spawn(async move { read_all(&client, &read).await });
    let silent = pipe.read_by_somebody().await;
    (pipe, hung, silent)
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_fatal_error_the_database_is_opened_again() {
    let file = DatabaseFile::new();
    let server = Process::start(SERVER, file.path(), &[]).await;
    let client = server.client().await;
    put(&client, "t", unit(1, 20_000)).await.unwrap();
    let session = server.client().await;
    session.execute("CREATE TEMP TABLE mine AS SELECT 1 AS i").await.unwrap();
    let mut health = watch(&server).await;
    hear(&mut health, ServingStatus::Serving).await;

    let (pipe, held_up, silent) = hang(&server, &file).await;
    let failing = FailingSyncs::begin(&server).await;
    let put_in_doubt = {
        let client = client.clone();
        tokio::spawn(async move { put(&client, "t", unit(2, 1)).await })
    };
    hear(&mut health, ServingStatus::NotServing).await;
    failing.end().await;
    refused(client.execute("FROM t").await, Code::Unavailable, "ENGINE_DOWN");
    pipe.let_go(silent, held_up).await.unwrap_err();
    hear(&mut health, ServingStatus::Serving).await;
    let told = soon("the put is answered", put_in_doubt).await.unwrap();
    refused(told, Code::Unknown, "COMMIT_UNKNOWN");
    assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE unit = 1").await, 20_000);
    refused(session.execute("FROM mine").await, Code::Aborted, "SESSION_LOST");
    assert_eq!(integer(&session, "SELECT count(*) FROM t WHERE unit = 1").await, 20_000);

    put(&client, "t", unit(3, 1)).await.unwrap();
    assert_eq!(server.terminate().await.code(), Some(0));
    let server = Process::start(SERVER, file.path(), &[]).await;
    let kept = "SELECT count(*) FROM t WHERE unit <> 2";
    assert_eq!(integer(&server.client().await, kept).await, 20_001);
    server.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_cannot_be_got_rid_of_ends_the_process_with_70() {
    let file = DatabaseFile::new();
    let server = Process::start(SERVER, file.path(), &[]).await;
    let client = server.client().await;
    put(&client, "t", unit(1, 20_000)).await.unwrap();
    let (_pipe, hung, _silent) = hang(&server, &file).await;

    let failing = FailingSyncs::begin(&server).await;
    let in_doubt = tokio::spawn(async move { put(&client, "t", unit(2, 1)).await });
    assert_eq!(server.ended().await.code(), Some(70));
    drop(failing);
    soon("the read fails", hung).await.unwrap().unwrap_err();
    soon("the put fails", in_doubt).await.unwrap().unwrap_err();
    let server = Process::start(SERVER, file.path(), &[]).await;
    let kept = "SELECT count(*) FROM t WHERE unit = 1";
    assert_eq!(integer(&server.client().await, kept).await, 20_000);
    server.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_on_file_sizes_is_a_full_disk_and_no_signal_ends_the_server() {
    let file = DatabaseFile::new();
    let server = Process::start(SERVER, file.path(), &["--disk-reserve", "0B"]).await;
    let client = server.client().await;
    put(&client, "t", unit(1, 7)).await.unwrap();
    let limit = |bytes: &str| {
        let (pid, limit) = (server.id().to_string(), format!("--fsize={bytes}:"));
        run(Command::new("prlimit").args(["--pid", &pid, &limit]));
    };
    limit("65536");
    refused(put(&client, "t", unit(2, 100_000)).await, Code::ResourceExhausted, "DISK_FULL");
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 7);
    limit("unlimited");
    until("rows are taken", async || put(&client, "t", unit(3, 7)).await.is_ok()).await;
    assert_eq!(server.terminate().await.code(), Some(0));
}
