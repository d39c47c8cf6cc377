//! Who has the turn to write is known, and nobody keeps it for ever.

use std::time::Duration;

use merganser::Error;
use merganser_server::Config;
use merganser_tests::{TestServer, integer, refused, soon};
use tonic::Code;

use super::session_of;

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_the_turn_in_vain_learns_whose_it_is() {
    let server =
        TestServer::with(|config: &mut Config| config.engine.wait = Duration::from_millis(100)).await;
    let (holder, other) = (server.client().await, server.client().await);
    holder.execute("BEGIN; CREATE TABLE t (id BIGINT)").await.unwrap();
    let session = session_of(&holder).await;
    let busy =
        refused(other.execute("CREATE TABLE u (id BIGINT)").await, Code::ResourceExhausted, "WRITE_BUSY");
    assert!(busy.starts_with(&format!("session {session} (by its statement ")), "{busy}");
    assert!(busy.contains("has had the turn to write for"), "{busy}");
    other.execute(&format!("CLOSE SESSION {session}")).await.unwrap();
    let mut free = other.execute("CREATE TABLE u (id BIGINT)").await;
    while free.is_err() {
        refused(free, Code::ResourceExhausted, "WRITE_BUSY");
        free = other.execute("CREATE TABLE u (id BIGINT)").await;
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_never_at_rest_does_not_keep_the_turn_for_longer_than_its_limit() {
    let server = TestServer::with(|config: &mut Config| {
        config.engine.wait *= 60;
        config.sessions.transactions.turn = Duration::from_secs(1);
    })
    .await;
    let (holder, other) = (server.client().await, server.client().await);
    holder.execute("CREATE TABLE t (id BIGINT)").await.unwrap();
    holder.execute("BEGIN; INSERT INTO t VALUES (1)").await.unwrap();
    let waiting = tokio::spawn(async move { other.execute("INSERT INTO t VALUES (2)").await });
    let busy = async {
        loop {
            match holder.execute("SELECT 1").await {
                // The interrupt has met a statement, a moment before the rollback.
                Err(Error::Server { slug, .. }) if slug == "TRANSACTION_ABORTED" => {}
                Err(error) => return error,
                Ok(_) => {}
            }
        }
    };
    let error: Error = soon("the transaction is rolled back", busy).await;
    let told = refused(Err::<(), _>(error), Code::Aborted, "TRANSACTION_LOST");
    assert!(told.contains("has had the turn to write for 1s, and others wait for it"), "{told}");
    assert_eq!(soon("the turn", waiting).await.unwrap().unwrap(), 1);
    refused(holder.execute("COMMIT").await, Code::Aborted, "TRANSACTION_LOST");
    assert_eq!(integer(&holder, "SELECT sum(id) FROM t").await, 2);
    server.shutdown().await;
}
