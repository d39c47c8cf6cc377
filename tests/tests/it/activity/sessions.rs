//! `merganser_sessions()` and `CLOSE SESSION`.

use arrow_flight::sql::client::FlightSqlServiceClient;
use merganser_tests::{TestServer, integer, refused, soon};
use tonic::Code;

use super::{HOURS, read, seen, session_of, told};

const TOLD: &str = "an operator has closed this session";

#[tokio::test(flavor = "multi_thread")]
async fn a_session_shows_its_transaction_its_turn_and_what_it_keeps() {
    let server = TestServer::start().await;
    let (client, operator) = (server.client().await, server.client().await);
    let session = session_of(&client).await;
    let row = format!(
        "SELECT concat_ws('|', transaction_since IS NOT NULL, has_turn, turn_since IS NOT NULL, is_pinned, catalog, \
         user_name IS NULL, peer LIKE '127.0.0.1:%', opened_at <= used_at, used_at <= now()) \
         FROM merganser_sessions() WHERE session = {session}"
    );
    let ends = "test|true|true|true|true";
    assert_eq!(told(&operator, &row).await, format!("false|false|false|false|{ends}"));
    client.execute("CREATE TEMP TABLE mine (id BIGINT)").await.unwrap();
    assert_eq!(told(&operator, &row).await, format!("false|false|false|true|{ends}"));
    client.execute("BEGIN").await.unwrap();
    assert_eq!(told(&operator, &row).await, format!("true|false|false|true|{ends}"));
    client.execute("CREATE TABLE t (id BIGINT)").await.unwrap();
    assert_eq!(told(&operator, &row).await, format!("true|true|true|true|{ends}"));
    client.execute("COMMIT").await.unwrap();
    assert_eq!(told(&operator, &row).await, format!("false|false|false|true|{ends}"));

    let mut sql = FlightSqlServiceClient::new(server.channel().await);
    let prepared = sql.prepare("SELECT 1".into(), None).await.unwrap();
    let count = "SELECT sum(prepared_statements)::BIGINT FROM merganser_sessions()";
    assert_eq!(integer(&operator, count).await, 1);
    prepared.close().await.unwrap();
    assert_eq!(integer(&operator, count).await, 0);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_closed_has_nothing_left_and_its_client_learns_it() {
    let server = TestServer::start().await;
    let (client, operator) = (server.client().await, server.client().await);
    client.execute("CREATE TABLE t (id BIGINT)").await.unwrap();
    client.execute("CREATE TEMP TABLE mine AS SELECT 7 AS id").await.unwrap();
    client.execute("BEGIN; INSERT INTO t VALUES (1)").await.unwrap();
    let session = session_of(&client).await;
    let running = tokio::spawn(read(client.clone(), HOURS.into()));
    seen(&operator, HOURS, "running").await;

    let close = format!("CLOSE SESSION {session}");
    assert_eq!(operator.execute(&close).await.unwrap(), 1);
    refused(soon("its end", running).await.unwrap(), Code::Cancelled, "CANCELLED");
    // The turn is free.
    operator.execute("INSERT INTO t VALUES (2)").await.unwrap();
    // What was meant to be a part of the transaction must not run by itself.
    let told = refused(client.execute("INSERT INTO t VALUES (3)").await, Code::Aborted, "SESSION_CLOSED");
    assert!(told.contains(TOLD), "{told}");
    refused(client.execute("INSERT INTO t VALUES (3)").await, Code::Aborted, "SESSION_CLOSED");
    refused(client.execute("COMMIT").await, Code::Aborted, "SESSION_CLOSED");
    refused(read(client.clone(), "FROM mine".into()).await, Code::NotFound, "NOT_FOUND");
    assert_eq!(integer(&client, "SELECT sum(id) FROM t").await, 2);
    assert_eq!(session_of(&client).await, session, "it may begin again");
    let none = operator.execute("CLOSE SESSION 4000000").await;
    refused(none, Code::NotFound, "SESSION_NOT_FOUND");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handle_of_a_transaction_of_a_closed_session_rolls_back_and_does_not_commit() {
    let server = TestServer::start().await;
    let operator = server.client().await;
    operator.execute("CREATE TABLE t (id BIGINT)").await.unwrap();
    let mut sql = FlightSqlServiceClient::new(server.channel().await);
    for commits in [true, false] {
        let transaction = sql.begin_transaction().await.unwrap();
        sql.execute_update("INSERT INTO t VALUES (1)".into(), Some(transaction.clone())).await.unwrap();
        let with_turn = "SELECT session FROM merganser_sessions() WHERE has_turn";
        let session = integer(&operator, with_turn).await;
        operator.execute(&format!("CLOSE SESSION {session}")).await.unwrap();
        use arrow_flight::sql::EndTransaction::{Commit, Rollback};
        let ended = sql.end_transaction(transaction, if commits { Commit } else { Rollback }).await;
        match commits {
            true => assert!(ended.unwrap_err().to_string().contains("SESSION_CLOSED")),
            false => ended.unwrap(),
        }
        let table_is_free = operator.execute("INSERT INTO t VALUES (2)").await;
        table_is_free.unwrap();
    }
    assert_eq!(integer(&operator, "SELECT sum(id) FROM t").await, 4);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_closes_its_own_session_is_answered() {
    let server = TestServer::start().await;
    let client = server.client().await;
    client.execute("CREATE TEMP TABLE mine (id BIGINT)").await.unwrap();
    let session = session_of(&client).await;
    assert_eq!(client.execute(&format!("CLOSE SESSION {session}")).await.unwrap(), 1);
    refused(client.execute("FROM mine").await, Code::Aborted, "SESSION_CLOSED");
    server.shutdown().await;
}
