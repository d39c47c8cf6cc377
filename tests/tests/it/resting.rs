//! What a session had is taken away, because nobody used it for long or an operator wanted it so, and its client goes
//! on: nothing of what it sends may run otherwise than it believes.

use std::time::Duration;

use arrow_flight::{
    flight_service_client::FlightServiceClient,
    sql::{EndTransaction, client::FlightSqlServiceClient},
};
use merganser::Client;
use merganser_tests::{Put, TestServer, ids, integer, integers, put, refused, until};
use tonic::{Code, transport::Channel};

/// Long enough for two statements, and short enough to wait for.
const IDLE: Duration = Duration::from_secs(2);

async fn server() -> TestServer {
    TestServer::with(|config| {
        config.sessions.idle = IDLE;
        config.sessions.transactions.at_all = IDLE;
    })
    .await
}

/// Waits until no other session but the operator's lives.
async fn all_rest(operator: &Client) {
    let alone = async || integer(operator, "SELECT count(*) FROM merganser_sessions()").await == 1;
    until("the sessions rest that nobody uses", alone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_has_rested_means_the_same_by_names() {
    let server = server().await;
    let (client, operator) = (server.client().await, server.client().await);
    operator
        .execute("CREATE SCHEMA s; CREATE TABLE s.t (id BIGINT); CREATE TABLE t AS SELECT 1::BIGINT AS id")
        .await
        .unwrap();
    client.execute("USE s").await.unwrap();
    all_rest(&operator).await;
    put(&client, "t", ids([2])).await.unwrap();
    assert_eq!(integer(&operator, "SELECT sum(id)::BIGINT FROM s.t").await, 2);
    all_rest(&operator).await;
    assert_eq!(client.execute("DELETE FROM t").await.unwrap(), 1);
    assert_eq!(integer(&operator, "SELECT count(*) FROM main.t").await, 1);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_finds_temporary_things_gone_is_told_once_and_who_had_none_is_not() {
    let server = server().await;
    let (client, ended, plain, operator) =
        (server.client().await, server.client().await, server.client().await, server.client().await);
    operator.execute("CREATE TABLE mine AS SELECT 8::BIGINT AS id").await.unwrap();
    client.execute("CREATE TEMP TABLE mine AS SELECT 7::BIGINT AS id").await.unwrap();
    ended.execute("BEGIN; INSERT INTO mine VALUES (1); COMMIT").await.unwrap();
    assert_eq!(integer(&plain, "SELECT count(*) FROM mine").await, 2);
    all_rest(&operator).await;
    let told = refused(integers(&client, "FROM mine").await, Code::Aborted, "SESSION_LOST");
    assert!(told.contains("was not used for 2s"), "{told}");
    assert_eq!(integer(&client, "SELECT sum(id)::BIGINT FROM mine").await, 9);
    for untouched in [plain, ended] {
        assert_eq!(integer(&untouched, "SELECT sum(id)::BIGINT FROM mine").await, 9);
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_a_transaction_by_sql_is_refused_until_its_client_ends_it() {
    let server = server().await;
    let operator = server.client().await;
    operator.execute("CREATE TABLE t (id BIGINT)").await.unwrap();
    for end in ["COMMIT", "ROLLBACK", "BEGIN; ROLLBACK"] {
        let client = server.client().await;
        client.execute("BEGIN; INSERT INTO t VALUES (1)").await.unwrap();
        all_rest(&operator).await;
        for _ in 0..2 {
            refused(client.execute("INSERT INTO t VALUES (2)").await, Code::Aborted, "SESSION_LOST");
            refused(put(&client, "t", ids([3])).await, Code::Aborted, "SESSION_LOST");
            refused(integers(&client, "FROM t").await, Code::Aborted, "SESSION_LOST");
        }
        let ended = client.execute(end).await;
        match end {
            "COMMIT" => drop(refused(ended, Code::Aborted, "SESSION_LOST")),
            _ => drop(ended.unwrap()),
        }
        assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 0, "{end}");
    }
    server.shutdown().await;
}

/// A driver with a transaction, in which it has written and prepared a statement.
struct Driver {
    sql: FlightSqlServiceClient<Channel>,
    flight: FlightServiceClient<Channel>,
    transaction: bytes::Bytes,
    prepared: arrow_flight::sql::client::PreparedStatement<Channel>,
}

const INSERT: &str = "INSERT INTO t VALUES (1)";

impl Driver {
    async fn in_transaction(server: &TestServer) -> Self {
        let channel = server.channel().await;
        let mut sql = FlightSqlServiceClient::new(channel.clone());
        let transaction = sql.begin_transaction().await.unwrap();
        let mut prepared = sql.prepare(INSERT.into(), Some(transaction.clone())).await.unwrap();
        assert_eq!(prepared.execute_update().await.unwrap(), 1);
        Self { sql, flight: FlightServiceClient::new(channel), transaction, prepared }
    }

    /// All that may be meant for the transaction is refused.
    async fn is_refused(&mut self, slug: &str) {
        let by_handle = self.sql.execute_update(INSERT.into(), Some(self.transaction.clone())).await;
        let unnamed = self.sql.execute_update(INSERT.into(), None).await;
        for refusal in [by_handle, unnamed, self.prepared.execute_update().await] {
            let told = refusal.unwrap_err().to_string();
            assert!(told.contains(slug), "{told}");
        }
        for upload in [Put::to("t"), Put::to("t").within(self.transaction.clone())] {
            refused(upload.send(&self.flight, vec![ids([1])]).await, Code::Aborted, slug);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_a_drivers_transaction_is_refused_until_that_is_ended_or_another_begun() {
    let server = server().await;
    let operator = server.client().await;
    operator.execute("CREATE TABLE t (id BIGINT)").await.unwrap();
    let count = "SELECT count(*) FROM t";
    for (closed, slug) in [(false, "SESSION_LOST"), (true, "SESSION_CLOSED")] {
        for end in [Some(EndTransaction::Commit), Some(EndTransaction::Rollback), None] {
            let mut driver = Driver::in_transaction(&server).await;
            match closed {
                true => {
                    let open = "SELECT session FROM merganser_sessions() WHERE transaction_since IS NOT NULL";
                    let session = integer(&operator, open).await;
                    operator.execute(&format!("CLOSE SESSION {session}")).await.unwrap();
                }
                false => all_rest(&operator).await,
            }
            for _ in 0..2 {
                driver.is_refused(slug).await;
            }
            assert_eq!(integer(&operator, count).await, 0);
            match end {
                Some(end) => {
                    let ended = driver.sql.end_transaction(driver.transaction.clone(), end).await;
                    assert_eq!(ended.is_err(), end == EndTransaction::Commit, "{ended:?}");
                }
                None => {
                    let begun = driver.sql.begin_transaction().await.unwrap();
                    let old = driver.prepared.execute_update().await.unwrap_err().to_string();
                    assert!(old.contains(slug), "{old}");
                    driver.sql.end_transaction(begun, EndTransaction::Rollback).await.unwrap();
                }
            }
            let alone = driver.sql.execute_update(INSERT.into(), None).await;
            assert_eq!(alone.unwrap(), 1, "it runs by itself, as its client means it");
            operator.execute("DELETE FROM t").await.unwrap();
        }
    }
    server.shutdown().await;
}
