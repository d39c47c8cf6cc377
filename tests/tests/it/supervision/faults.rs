//! Statements that DuckDB itself fails at.

use merganser_tests::{TestServer, integer, refused};
use tonic::Code;

use super::{Condition, read, soon};

/// DuckDB 1.5 takes the limit for a negative one, and for a fault of its own.
const FAULT: &str = "SELECT 1 LIMIT (SELECT 18446744073709551615)";

/// Runs a statement that DuckDB fails at, and waits until the database is open again.
async fn fail(server: &TestServer, sent: impl Future<Output = Result<(), merganser::Error>>) {
    let mut condition = server.engine().condition();
    condition.borrow_and_update();
    refused(sent.await, Code::Unknown, "ENGINE");
    // Whoever comes next finds that the instance takes no more.
    let _ = read(&server.client().await, "SELECT 1").await;
    soon("the database is down", condition.changed()).await.unwrap();
    soon("the database is open", condition.wait_for(|now| *now == Condition::Open)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_duckdb_fails_at_does_so_once() {
    let server = TestServer::start().await;
    let (client, session, writer) = (server.client().await, server.client().await, server.client().await);
    session.execute("CREATE TEMP TABLE held AS SELECT 1 AS i").await.unwrap();
    writer.execute("CREATE TABLE t (i INTEGER)").await.unwrap();
    let own = format!("{FAULT} -- in a session");
    let written = format!("INSERT INTO t {FAULT}");
    fail(&server, read(&client, FAULT)).await;
    refused(session.execute("FROM held").await, Code::Aborted, "SESSION_LOST");
    session.execute("CREATE TEMP TABLE held AS SELECT 1 AS i").await.unwrap();
    fail(&server, read(&session, &own)).await;
    fail(&server, async { writer.execute(&written).await.map(drop) }).await;

    let other = server.client().await;
    other.execute("CREATE TEMP TABLE kept AS SELECT 7 AS i").await.unwrap();
    for _ in 0..3 {
        refused(read(&client, FAULT).await, Code::FailedPrecondition, "QUARANTINED");
        refused(read(&other, FAULT).await, Code::FailedPrecondition, "QUARANTINED");
        refused(read(&client, &own).await, Code::FailedPrecondition, "QUARANTINED");
        refused(writer.execute(&written).await, Code::FailedPrecondition, "QUARANTINED");
    }
    // Nobody else has lost anything, and other texts run.
    assert_eq!(integer(&other, "FROM kept").await, 7);
    assert_eq!(integer(&client, "SELECT 1 LIMIT (SELECT 2)").await, 1);
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 0);
    server.shutdown().await;
}
