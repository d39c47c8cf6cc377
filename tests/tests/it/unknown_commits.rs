//! A COMMIT that fails on its way to the disk: nobody knows whether the rows are there, until the database has been
//! opened again. The ledger tells of units with keys; of others the client is told that it is not known.
#![cfg(target_os = "linux")]

use arrow_flight::flight_service_client::FlightServiceClient;
use merganser::{Client, Error, IngestAck};
use merganser_tests::{DatabaseFile, FailingSyncs, Process, integer, put, put_keyed, refused, unit, until};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

use crate::SERVER;

const ROWS: usize = 10;

/// A client of the server once it serves again.
async fn serving(server: &Process) -> Client {
    let client = server.client().await;
    until("the database is open again", async || client.execute("SELECT 1").await.is_ok()).await;
    client
}

async fn flight(server: &Process) -> FlightServiceClient<Channel> {
    let url = server.url().replace("grpc://", "http://");
    FlightServiceClient::new(Endpoint::from_shared(url).unwrap().connect().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_says_what_became_of_a_unit_with_a_key() {
    let file = DatabaseFile::new();
    let server = Process::start(SERVER, file.path(), &[]).await;
    let flight = flight(&server).await;
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
