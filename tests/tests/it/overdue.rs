//! Statements that DuckDB does not stop: who asked is answered, and they do not keep others from reading for ever.

use std::time::Duration;

use futures::TryStreamExt;
use merganser::{Client, Error};
use merganser_server::{Config, engine::Condition};
use merganser_tests::{Pipe, TestServer, integer, refused, soon, until};
use tonic::Code;

fn one_place(config: &mut Config) {
    config.engine.query_timeout = Some(Duration::from_millis(300));
    config.engine.wait = Duration::from_millis(100);
    config.engine.read_concurrency = 1;
}

async fn read(client: Client, sql: String) -> Result<(), Error> {
    client.query(&sql).await?.try_collect::<Vec<_>>().await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn its_client_is_answered_and_its_place_is_taken_until_it_ends() {
    let server = TestServer::with(one_place).await;
    let (client, session) = (server.client().await, server.client().await);
    session.execute("CREATE TEMP TABLE mine AS SELECT 7::BIGINT AS i").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let pipe = Pipe::within(folder.path());
    for (asks, sql) in [
        (&client, pipe.read_sql()),
        (&client, pipe.planned_sql()),
        (&session, pipe.read_sql()),
        (&session, pipe.planned_sql()),
    ] {
        let asked = tokio::spawn(read(asks.clone(), sql.clone()));
        let silent = pipe.read_by_somebody().await;
        let answer = soon("the answer", asked).await.unwrap();
        refused(answer, Code::DeadlineExceeded, "QUERY_TIMEOUT");
        assert_eq!(server.engine().statements_overdue(), 1, "{sql}");
        let other = read(server.client().await, "SELECT 1".into()).await;
        refused(other, Code::ResourceExhausted, "READS_BUSY");
        drop(silent);
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
    let folder = tempfile::tempdir().unwrap();
    let pipe = Pipe::within(folder.path());
    let mut condition = server.engine().condition();
    condition.borrow_and_update();
    let asked = tokio::spawn(read(server.client().await, pipe.read_sql()));
    let silent = pipe.read_by_somebody().await;
    refused(soon("the answer", asked).await.unwrap(), Code::DeadlineExceeded, "QUERY_TIMEOUT");
    soon("the database is down", condition.wait_for(|now| *now == Condition::Down)).await.unwrap();
    drop(silent);
    soon("the database is open", condition.wait_for(|now| *now == Condition::Open)).await.unwrap();
    assert_eq!(integer(&server.client().await, "SELECT 42").await, 42);
    assert_eq!(server.engine().statements_overdue(), 0);
    server.shutdown().await;
}
