//! A COMMIT that fails on its way to the disk: nobody knows whether the rows are there, until the database has been
//! opened again. The ledger tells of units with keys; of others the client is told that it is not known.
#![cfg(target_os = "linux")]

use std::time::Duration;

use arrow_flight::{Empty, flight_service_client::FlightServiceClient};
use futures::future::join_all;
use merganser::{Client, Error, IngestAck};
use merganser_tests::{
    DatabaseFile, FailingSyncs, Process, ids, integer, messages, put, put_keyed, put_with, refused, soon,
    unit, until,
};
use tonic::{Code, transport::Channel};

use crate::SERVER;

const ROWS: usize = 10;

/// A client of the server once it serves again.
async fn serving(server: &Process) -> Client {
    let client = server.client().await;
    until("the database is open again", async || client.execute("SELECT 1").await.is_ok()).await;
    client
}

/// Sends a unit whose rows are matched by key.
async fn upsert(
    flight: &FlightServiceClient<Channel>,
    loader: i64,
    sequence: i64,
) -> Result<IngestAck, Error> {
    let key = format!("{loader}/1/{sequence}");
    let headers = [("x-merganser-ingest-key", &*key), ("x-merganser-merge-keys", "id")];
    put_with(flight, &headers, messages("t", vec![ids([0, loader * 1000 + sequence])])).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_says_what_became_of_a_unit_with_a_key() {
    let file = DatabaseFile::new();
    let server = Process::start(SERVER, file.path(), &[]).await;
    let flight = server.flight().await;
    for sequence in 1..=2 {
        put_keyed(&flight, "t", &format!("a/1/{sequence}"), vec![unit(sequence, ROWS)]).await.unwrap();
    }
    let failing = FailingSyncs::begin(&server).await;
    let first: Result<IngestAck, Error> = put_keyed(&flight, "t", "a/1/3", vec![unit(3, ROWS)]).await;
    failing.end().await;
    let client = serving(&server).await;
    let stored = integer(&client, "SELECT count(*) FROM t WHERE unit = 3").await;
    match first {
        // It is there, and the ledger has said so.
        Ok(_) => assert_eq!(stored, 10),
        Err(error) => {
            refused(Err::<(), _>(error), Code::Unavailable, "ENGINE_DOWN");
            assert_eq!(stored, 0);
        }
    }
    put_keyed(&flight, "t", "a/1/3", vec![unit(3, ROWS)]).await.unwrap();
    put_keyed(&flight, "t", "a/1/4", vec![unit(4, ROWS)]).await.unwrap();
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 40);
    assert_eq!(integer(&client, "SELECT count(DISTINCT unit) FROM t").await, 4);
    assert_eq!(server.terminate().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_unit_without_a_key_it_is_said_that_nobody_knows() {
    let file = DatabaseFile::new();
    let server = Process::start(SERVER, file.path(), &[]).await;
    let client = server.client().await;
    put(&client, "t", unit(1, ROWS)).await.unwrap();
    let failing = FailingSyncs::begin(&server).await;
    let text = refused(put(&client, "t", unit(2, ROWS)).await, Code::Unknown, "COMMIT_UNKNOWN");
    assert!(text.contains("check before"), "{text}");
    failing.end().await;
    let client = serving(&server).await;
    let stored = integer(&client, "SELECT count(*) FROM t WHERE unit = 2").await;
    assert!([0, 10].contains(&stored), "{stored} rows of a unit of 10");
    put(&client, "t", unit(3, ROWS)).await.unwrap();
    assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE unit = 3").await, 10);
    assert_eq!(server.terminate().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alter_that_waits_at_the_gate_of_a_unit_in_doubt_learns_that_the_database_went_down() {
    let file = DatabaseFile::new();
    // Who waits would do so for longer than the server waits for the failed instance to be let go.
    let server = Process::start(SERVER, file.path(), &["--read-wait", "60s"]).await;
    let (session, flight) = (server.client().await, server.flight().await);
    put_keyed(&flight, "t", "a/1/1", vec![unit(1, ROWS)]).await.unwrap();
    session.execute("CREATE TEMP TABLE mine AS SELECT 1::BIGINT AS i").await.unwrap();
    // The commit takes so long that all of this comes before its end.
    let failing = FailingSyncs::begin_after(&server, Duration::from_secs(3)).await;
    let loader = flight.clone();
    let put = tokio::spawn(async move { put_keyed(&loader, "t", "a/1/2", vec![unit(2, ROWS)]).await });
    for _ in 0..20 {
        flight.clone().list_actions(Empty {}).await.unwrap();
    }
    let alter = {
        let session = session.clone();
        tokio::spawn(async move { session.execute("ALTER TABLE t ADD COLUMN more BIGINT").await })
    };
    refused(soon("the end", alter).await.unwrap(), Code::Unavailable, "ENGINE_DOWN");
    failing.end().await;
    let client = serving(&server).await;
    let put: Result<IngestAck, Error> = put.await.unwrap();
    let stored = integer(&client, "SELECT count(*) FROM t WHERE unit = 2").await;
    assert_eq!(stored, if put.is_ok() { 10 } else { 0 });
    refused(session.execute("SELECT 1").await, Code::Aborted, "SESSION_LOST");
    session.execute("ALTER TABLE t ADD COLUMN more BIGINT").await.unwrap();
    assert_eq!(server.terminate().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_wait_behind_one_in_doubt_do_not_keep_the_database_from_opening_again() {
    const LOADERS: i64 = 16;
    let file = DatabaseFile::new();
    // Those who wait for their turn would wait for longer than the server waits for the failed instance to be let go.
    let server = Process::start(SERVER, file.path(), &["--read-wait", "60s"]).await;
    let client = server.client().await;
    client.execute("CREATE TABLE t (id BIGINT PRIMARY KEY)").await.unwrap();
    client.execute("CREATE TABLE held AS SELECT 1 AS i").await.unwrap();
    client.execute("CREATE TABLE beside (unit BIGINT, part BIGINT)").await.unwrap();
    let flight = server.flight().await;
    upsert(&flight, 0, 1).await.unwrap();
    client.execute("BEGIN").await.unwrap();
    client.execute("UPDATE held SET i = 2").await.unwrap();
    let uploads = (1..=LOADERS).map(|loader| {
        let flight = flight.clone();
        tokio::spawn(async move { upsert(&flight, loader, 1).await })
    });
    let uploads: Vec<_> = uploads.collect();
    // What came over the connection before these has been read by then: a group waits for the turn, another is staged.
    for number in 0..20 {
        put_keyed(&flight, "beside", &format!("b/1/{number}"), vec![unit(number, ROWS)]).await.unwrap();
    }
    let failing = FailingSyncs::begin(&server).await;
    client.execute("ROLLBACK").await.unwrap();
    let outcomes: Vec<_> = join_all(uploads).await.into_iter().map(Result::unwrap).collect();
    failing.end().await;
    assert!(outcomes.iter().any(Result::is_err), "no sync has failed");
    for outcome in &outcomes {
        let told = outcome.as_ref().err().map(|error| error.to_string());
        assert!(told.as_ref().is_none_or(|told| told.contains("ENGINE_DOWN")), "{told:?}");
    }
    let client = serving(&server).await;
    join_all((1..=LOADERS).map(|loader| upsert(&flight, loader, 1))).await.into_iter().for_each(|again| {
        assert_eq!(again.unwrap().rows, 2);
    });
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, LOADERS + 2);
    assert_eq!(server.terminate().await.code(), Some(0));
}
