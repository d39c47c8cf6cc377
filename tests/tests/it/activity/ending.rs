//! `CANCEL STATEMENT`: whatever a statement is at, its client is told who has ended it, and nothing of it is left.

use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::StreamExt;
use merganser_server::Config;
use merganser_tests::{HttpClient, TestServer, Upload, ids, integer, put, refused, soon, until};
use tonic::Code;

use super::{HOURS, cancel, gone, read, seen};

const BY_WHOM: &str = "an operator has ended this statement";

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_runs_is_ended_and_gives_its_place_back() {
    let server = TestServer::start().await;
    let (victim, operator) = (server.client().await, server.client().await);
    let running = tokio::spawn(read(victim.clone(), HOURS.into()));
    let id = seen(&operator, HOURS, "running").await;
    assert_eq!(cancel(&operator, id).await.unwrap(), 1);
    let told = refused(soon("its end", running).await.unwrap(), Code::Cancelled, "CANCELLED");
    assert!(told.contains(BY_WHOM), "{told}");
    server.no_reads_left().await;
    gone(&operator, id).await;
    refused(cancel(&operator, id).await, Code::NotFound, "STATEMENT_NOT_FOUND");
    assert_eq!(integer(&victim, "SELECT 42").await, 42);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_nobody_takes_is_ended() {
    let server = TestServer::start().await;
    let (victim, operator) = (server.client().await, server.client().await);
    let mut rows = victim.query("SELECT range AS id FROM range(1000000000000)").await.unwrap();
    let id = seen(&operator, "SELECT range", "sending rows").await;
    cancel(&operator, id).await.unwrap();
    // Nobody has to read for that.
    server.no_reads_left().await;
    let end = async {
        loop {
            if let Err(error) = rows.next().await.expect("no end that looks like one") {
                return error;
            }
        }
    };
    let told = refused(Err::<(), _>(soon("its end", end).await), Code::Cancelled, "CANCELLED");
    assert!(told.contains(BY_WHOM), "{told}");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_runs_is_undone_and_gives_the_turn_back() {
    let server = TestServer::start().await;
    let (victim, operator) = (server.client().await, server.client().await);
    let sql = format!("CREATE TABLE endless AS {HOURS}");
    let running = tokio::spawn(async move { victim.execute(&sql).await });
    let id = seen(&operator, "CREATE TABLE endless", "running").await;
    cancel(&operator, id).await.unwrap();
    let told = refused(soon("its end", running).await.unwrap(), Code::Cancelled, "CANCELLED");
    assert!(told.contains(BY_WHOM), "{told}");
    operator.execute("CREATE TABLE other (id BIGINT)").await.unwrap();
    assert_eq!(integer(&operator, "SELECT count(*) FROM duckdb_tables()").await, 1);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_waits_for_the_turn_is_given_up_at_once() {
    let server = TestServer::with(|config: &mut Config| config.engine.wait *= 60).await;
    let (holder, victim, operator) = (server.client().await, server.client().await, server.client().await);
    holder.execute("BEGIN; CREATE TABLE held (id BIGINT)").await.unwrap();
    let waiting = tokio::spawn(async move { victim.execute("CREATE TABLE mine (id BIGINT)").await });
    let id = seen(&operator, "CREATE TABLE mine", "waiting for the turn to write").await;
    cancel(&operator, id).await.unwrap();
    let told = refused(soon("its end", waiting).await.unwrap(), Code::Cancelled, "CANCELLED");
    assert!(told.contains(BY_WHOM), "{told}");
    holder.execute("COMMIT").await.unwrap();
    assert_eq!(integer(&operator, "SELECT count(*) FROM duckdb_tables()").await, 1);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_has_not_ended_leaves_nothing() {
    let server = TestServer::start().await;
    let (client, operator) = (server.client().await, server.client().await);
    put(&client, "t", ids([1])).await.unwrap();
    for batches in [1, 40] {
        let upload = Upload::start(&client, "t", ids([0]).schema());
        (0..batches).for_each(|_| upload.send(ids(0..50_000)));
        let id = seen(&operator, "t", "receiving rows").await;
        let rows = format!("SELECT rows FROM merganser_statements() WHERE id = {id}");
        until("its rows have come", async || integer(&operator, &rows).await == batches * 50_000).await;
        cancel(&operator, id).await.unwrap();
        let told = refused(upload.refusal().await, Code::Cancelled, "CANCELLED");
        assert!(told.contains(BY_WHOM), "{told}");
        gone(&operator, id).await;
    }
    put(&client, "t", ids([2])).await.unwrap();
    assert_eq!(integer(&operator, "SELECT sum(id) FROM t").await, 3);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_statements_are_seen_ended_and_end_others() {
    let server = TestServer::with(|config| config.network.http = Some(([127, 0, 0, 1], 0).into())).await;
    let http = server.http_address().unwrap();
    let operator = server.client().await;
    let mut victim = HttpClient::connect(http).await;
    let running = tokio::spawn(async move { victim.sql("json", HOURS).await.problem() });
    let id = seen(&operator, HOURS, "running").await;
    let row = format!(
        "SELECT count(*) FROM merganser_statements() WHERE id = {id} AND protocol = 'http' AND kind = 'http' \
         AND session IS NULL AND peer LIKE '127.0.0.1:%'"
    );
    assert_eq!(integer(&operator, &row).await, 1);
    let ended = HttpClient::connect(http).await.sql("json", &format!("CANCEL STATEMENT {id}")).await;
    assert_eq!(ended.json()["changed"], 1);
    assert_eq!(soon("its end", running).await.unwrap(), (503, "CANCELLED".into()));
    server.no_reads_left().await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_running_it_ends_a_statement_and_not_asking_what_it_would_give() {
    let server = TestServer::start().await;
    let (victim, operator) = (server.client().await, server.client().await);
    let running = tokio::spawn(read(victim, HOURS.into()));
    let id = seen(&operator, HOURS, "running").await;
    let mut sql = FlightSqlServiceClient::new(server.channel().await);
    let mut prepared = sql.prepare(format!("CANCEL STATEMENT {id}"), None).await.unwrap();
    assert!(prepared.dataset_schema().unwrap().fields().is_empty());
    assert_eq!(seen(&operator, HOURS, "running").await, id);
    assert_eq!(prepared.execute_update().await.unwrap(), 1);
    refused(soon("its end", running).await.unwrap(), Code::Cancelled, "CANCELLED");

    // Clients that run everything as a query do so exactly once.
    let running = tokio::spawn(read(server.client().await, HOURS.into()));
    let id = seen(&operator, HOURS, "running").await;
    let rows = operator.query(&format!("CANCEL STATEMENT {id}")).await.unwrap();
    assert_eq!(rows.affected_rows(), Some(1));
    refused(soon("its end", running).await.unwrap(), Code::Cancelled, "CANCELLED");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_inside_a_transaction_takes_the_transaction_with_it() {
    let server = TestServer::start().await;
    let (victim, operator) = (server.client().await, server.client().await);
    victim.execute("CREATE TABLE t (id BIGINT)").await.unwrap();
    victim.execute("BEGIN; INSERT INTO t VALUES (1)").await.unwrap();
    let running = tokio::spawn(read(victim.clone(), HOURS.into()));
    let id = seen(&operator, HOURS, "running").await;
    cancel(&operator, id).await.unwrap();
    let told = refused(soon("its end", running).await.unwrap(), Code::Cancelled, "CANCELLED");
    assert!(told.contains(BY_WHOM), "{told}");
    refused(victim.execute("COMMIT").await, Code::Aborted, "TRANSACTION_LOST");
    assert_eq!(integer(&victim, "SELECT count(*) FROM t").await, 0);
    server.shutdown().await;
}
