//! A second database that the configuration attaches: uploads go to its own writer, keys to its own ledger.

use arrow_array::RecordBatch;
use arrow_flight::flight_service_client::FlightServiceClient;
use merganser::{Client, Error, IngestAck};
use merganser_tests::{
    DatabaseFile, TestServer, configure, integer, messages_at, put_with, refused, texts, unit, wide,
};
use tempfile::TempDir;
use tonic::{Code, transport::Channel};

const ROWS: usize = 10;

async fn open(folder: &TempDir, file: DatabaseFile, more: &str) -> TestServer {
    let path = folder.path().join("side.db");
    let toml = format!("[[catalog]]\nname = 'side'\ntype = 'duckdb'\npath = '{}'\n{more}", path.display());
    TestServer::open(file, |config| configure(config, &toml)).await
}

async fn put_keyed_at(
    flight: &FlightServiceClient<Channel>,
    path: &[&str],
    key: &str,
    batches: Vec<RecordBatch>,
) -> Result<IngestAck, Error> {
    put_with(flight, &[("x-merganser-ingest-key", key)], messages_at(path, batches)).await
}

async fn count(client: &Client) -> i64 {
    integer(client, "SELECT count(*) FROM side.main.t").await
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_kept_in_the_catalogs_own_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let server = open(&folder, DatabaseFile::new(), "").await;
    let (flight, client) = (server.flight().await, server.client().await);
    let path = ["side", "main", "t"];
    let first = put_keyed_at(&flight, &path, "a/1/1", vec![unit(1, ROWS)]).await.unwrap();
    assert!(!first.duplicate);
    // The same name in the server's own database is another loader.
    put_keyed_at(&flight, &["t"], "a/1/1", vec![unit(7, ROWS)]).await.unwrap();
    let file = server.shutdown().await;

    let server = open(&folder, file, "").await;
    let (flight, client_again) = (server.flight().await, server.client().await);
    drop(client);
    let again = put_keyed_at(&flight, &path, "a/1/1", vec![unit(1, ROWS)]).await.unwrap();
    assert_eq!((again.duplicate, again.commit_id), (true, first.commit_id));
    refused(
        put_keyed_at(&flight, &path, "a/1/3", vec![unit(3, ROWS)]).await,
        Code::FailedPrecondition,
        "SEQ_GAP",
    );
    assert_eq!(count(&client_again).await, ROWS as i64);
    let listed = "SELECT concat(catalog, ' ', last_key) FROM merganser_ingest() ORDER BY ALL";
    assert_eq!(texts(&client_again, listed).await.unwrap(), ["side a/1/1", "test a/1/1"]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_uploads_are_staged_and_repeated_ones_write_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = open(&folder, DatabaseFile::new(), "").await;
    let (flight, client) = (server.flight().await, server.client().await);
    for duplicate in [false, true] {
        let batches = (0..40).map(|part| wide(part * 500..(part + 1) * 500)).collect();
        let ack = put_keyed_at(&flight, &["side", "main", "t"], "a/1/1", batches).await.unwrap();
        assert_eq!((ack.rows, ack.duplicate), (20_000, duplicate));
    }
    assert_eq!(count(&client).await, 20_000);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_can_take_it_away() {
    let folder = tempfile::tempdir().unwrap();
    let server = open(&folder, DatabaseFile::new(), "").await;
    let client = server.client().await;
    for sql in [
        "DETACH side",
        "DETACH DATABASE IF EXISTS \"SIDE\"",
        "ATTACH ':memory:' AS side",
        "CREATE SCHEMA side",
    ] {
        refused(client.execute(sql).await, Code::PermissionDenied, "NOT_ALLOWED");
    }
    client.execute("CREATE TABLE side.t (x INTEGER)").await.unwrap();
    client.execute("CREATE SCHEMA side.more").await.unwrap();
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_read_only_takes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = open(&folder, DatabaseFile::new(), "").await;
    server.client().await.execute("CREATE TABLE side.t (unit BIGINT, part BIGINT)").await.unwrap();
    server.shutdown().await;
    let server = open(&folder, DatabaseFile::new(), "read_only = true").await;
    let (flight, client) = (server.flight().await, server.client().await);
    let refusal = put_with(&flight, &[], messages_at(&["side", "main", "t"], vec![unit(1, ROWS)])).await;
    refused(refusal, Code::PermissionDenied, "READ_ONLY");
    assert_eq!(count(&client).await, 0);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_none_keeps_it_from_being_attached_and_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let file = open(&folder, DatabaseFile::new(), "").await.shutdown().await;
    let log = folder.path().join("side.db.wal");
    std::fs::write(&log, "i,p\n1,a\n").unwrap();
    let server = open(&folder, file, "required = false").await;
    let client = server.client().await;
    let attached = "SELECT count(*) FROM duckdb_databases() WHERE database_name = 'side'";
    assert_eq!(integer(&client, attached).await, 0);
    server.shutdown().await;
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "i,p\n1,a\n");
}
