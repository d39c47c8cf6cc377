//! Statements that DuckDB does not stop: who asked is answered, and they do not keep others from reading for ever.

use std::time::{Duration, Instant};

use futures::TryStreamExt;
use merganser::{Client, Error};
use merganser_server::{Config, engine::Condition};
use merganser_tests::{TestServer, integer, refused, soon, until};
use tonic::Code;

/// The text of a number with so many digits, for which DuckDB takes a time that grows with their square and hears no
/// interrupt. `digits` is an expression; one without columns is computed while the statement is planned.
fn deaf(digits: &str) -> String {
    format!("SELECT length((repeat('9', {digits})::BIGNUM)::VARCHAR) AS length FROM range(1) AS r(zero)")
}

/// With so many digits it takes about so long on this machine.
async fn digits_for(server: &TestServer, time: Duration) -> u32 {
    const TRIED: u32 = 100_000;
    let start = Instant::now();
    // Its time may be over before it is done.
    let _ = read(&server.client().await, &deaf(&format!("({TRIED} + zero)::INTEGER"))).await;
    server.no_reads_left().await;
    (f64::from(TRIED) * (time.as_secs_f64() / start.elapsed().as_secs_f64()).sqrt()) as u32
}

fn one_place(config: &mut Config) {
    config.engine.query_timeout = Some(Duration::from_secs(1));
    config.engine.wait = Duration::from_millis(100);
    config.engine.read_concurrency = 1;
}

async fn read(client: &Client, sql: &str) -> Result<(), Error> {
    client.query(sql).await?.try_collect::<Vec<_>>().await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn its_client_is_answered_and_its_place_is_taken_until_it_ends() {
    let server = TestServer::with(one_place).await;
    let (client, session) = (server.client().await, server.client().await);
    session.execute("CREATE TEMP TABLE mine AS SELECT 7 AS i").await.unwrap();
    let digits = digits_for(&server, Duration::from_secs(8)).await;
    let (planned, run) = (deaf(&digits.to_string()), deaf(&format!("({digits} + zero)::INTEGER")));
    for (asks, sql) in [(&client, planned), (&session, run)] {
        refused(read(asks, &sql).await, Code::DeadlineExceeded, "QUERY_TIMEOUT");
        assert_eq!(server.engine().statements_overdue(), 1, "{sql}");
        refused(read(&server.client().await, "SELECT 1").await, Code::ResourceExhausted, "READS_BUSY");
        until("it has ended", async || server.engine().statements_overdue() == 0).await;
        server.no_reads_left().await;
    }
    assert_eq!(integer(&client, "SELECT 42").await, 42);
    assert_eq!(integer(&session, "FROM mine").await, 7);
    assert_eq!(*server.engine().condition().borrow(), Condition::Open);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_such_statements_have_all_places_the_database_is_opened_again() {
    let server = TestServer::with(|config| {
        one_place(config);
        config.engine.overdue_grace = Duration::from_millis(200);
    })
    .await;
    let client = server.client().await;
    let digits = digits_for(&server, Duration::from_secs(7)).await;
    let mut condition = server.engine().condition();
    condition.borrow_and_update();
    let asked = read(&client, &deaf(&format!("({digits} + zero)::INTEGER"))).await;
    refused(asked, Code::DeadlineExceeded, "QUERY_TIMEOUT");
    soon("the database is down", condition.wait_for(|now| *now == Condition::Down)).await.unwrap();
    soon("the database is open", condition.wait_for(|now| *now == Condition::Open)).await.unwrap();
    assert_eq!(integer(&server.client().await, "SELECT 42").await, 42);
    assert_eq!(server.engine().statements_overdue(), 0);
    server.shutdown().await;
}
