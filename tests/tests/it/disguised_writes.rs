//! Statements that write without looking like it run all the same, exactly once; scripts are one
//! transaction.

use arrow_array::{RecordBatch, cast::AsArray, types::Int64Type};
use arrow_flight::{
    FlightDescriptor, FlightInfo, Ticket, decode::FlightRecordBatchStream, error::FlightError,
    flight_service_client::FlightServiceClient,
};
use futures::TryStreamExt;
use merganser_server::engine::{Outcome, Place, Statement};
use merganser_tests::{TestServer, ids, integer, integers, put, refused, texts};
use tonic::{Code, transport::Channel};

async fn info(flight: &mut FlightServiceClient<Channel>, sql: &str) -> FlightInfo {
    let descriptor = FlightDescriptor::new_cmd(sql.to_owned());
    flight.get_flight_info(descriptor).await.unwrap().into_inner()
}

async fn fetch(flight: &mut FlightServiceClient<Channel>, ticket: Ticket) -> Vec<i64> {
    let data = flight.do_get(ticket).await.unwrap().into_inner();
    let batches = FlightRecordBatchStream::new_from_flight_data(data.map_err(FlightError::from));
    let batches: Vec<RecordBatch> = batches.try_collect().await.unwrap();
    let columns = batches.iter().map(|batch| batch.column(0).as_primitive::<Int64Type>());
    columns.flat_map(|column| column.values().to_vec()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_select_that_draws_from_a_sequence_draws_once() {
    let server = TestServer::start().await;
    let client = server.client().await;
    client.execute("CREATE SEQUENCE s").await.unwrap();
    match server.engine().run(&Place::Shared(None), Statement::new("SELECT nextval('s')")).await.unwrap() {
        Outcome::Rows(rows) => assert_eq!(rows.try_collect::<Vec<_>>().await.unwrap().len(), 1),
        Outcome::Changed(_) => panic!("a select gives rows"),
    }
    for expected in 2..=5 {
        assert_eq!(integer(&client, "SELECT nextval('s')").await, expected);
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_with_returning_runs_once_and_its_rows_can_be_read_twice() {
    let server = TestServer::start().await;
    let (client, mut flight) = (server.client().await, server.flight().await);
    client.execute("CREATE TABLE t (id BIGINT)").await.unwrap();
    let info = info(&mut flight, "INSERT INTO t VALUES (1), (2) RETURNING id * 10").await;
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 2);
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    assert_eq!(fetch(&mut flight, ticket.clone()).await, [10, 20]);
    assert_eq!(fetch(&mut flight, ticket).await, [10, 20]);
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 2);
    assert_eq!(integers(&client, "DELETE FROM t RETURNING id").await.unwrap(), [1, 2]);
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 0);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_as_a_bare_ticket_runs_once() {
    let server = TestServer::start().await;
    let (client, mut flight) = (server.client().await, server.flight().await);
    client.execute("CREATE TABLE t (id BIGINT)").await.unwrap();
    let ticket = Ticket::new("INSERT INTO t VALUES (7) RETURNING id");
    assert_eq!(fetch(&mut flight, ticket).await, [7]);
    assert_eq!(integers(&client, "FROM t").await.unwrap(), [7]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_plans_and_explain_analyze_runs() {
    let server = TestServer::start().await;
    let client = server.client().await;
    client.execute("CREATE TABLE t (id BIGINT)").await.unwrap();
    assert!(!texts(&client, "EXPLAIN INSERT INTO t VALUES (1)").await.unwrap().is_empty());
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 0);
    assert!(!texts(&client, "EXPLAIN ANALYZE INSERT INTO t VALUES (1)").await.unwrap().is_empty());
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 1);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ddl_through_a_flight_info_has_run_when_it_is_answered() {
    let server = TestServer::start().await;
    let (client, mut flight) = (server.client().await, server.flight().await);
    // Drivers send DDL as a query and never come back for the rows.
    let created = info(&mut flight, "CREATE TABLE t AS SELECT 1::BIGINT AS id").await;
    assert_eq!(integers(&client, "FROM t").await.unwrap(), [1]);
    // The ticket is there for those that do; it does not run the statement again.
    assert!(fetch(&mut flight, created.endpoint[0].ticket.clone().unwrap()).await.is_empty());
    assert_eq!(integers(&client, "FROM t").await.unwrap(), [1]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_runs_whole_or_not_at_all() {
    let server = TestServer::start().await;
    let client = server.client().await;
    put(&client, "t", ids([1])).await.unwrap();
    let script = "INSERT INTO t VALUES (2); CREATE TABLE u (id BIGINT); INSERT INTO nowhere VALUES (3)";
    refused(client.execute(script).await, Code::NotFound, "NOT_FOUND");
    assert_eq!(integers(&client, "FROM t").await.unwrap(), [1]);
    refused(client.query("FROM u").await, Code::NotFound, "NOT_FOUND");

    let script = "INSERT INTO t VALUES (2); CREATE TABLE u AS FROM t; INSERT INTO u VALUES (3)";
    client.execute(script).await.unwrap();
    assert_eq!(integers(&client, "FROM u ORDER BY id").await.unwrap(), [1, 2, 3]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_statements_are_no_query_and_none_of_them_runs() {
    let server = TestServer::start().await;
    let client = server.client().await;
    put(&client, "t", ids([1])).await.unwrap();
    for sql in ["DELETE FROM t; FROM t", "SELECT 1; DROP TABLE t"] {
        refused(client.query(sql).await, Code::InvalidArgument, "MULTI_STATEMENT");
    }
    assert_eq!(integers(&client, "FROM t").await.unwrap(), [1]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pivot_is_one_query_although_duckdb_makes_several_of_it() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let sales = "CREATE TABLE sales AS FROM (VALUES (1, 'north', 10), (1, 'south', 20), (2, 'north', 30)) v(year, region, n)";
    client.execute(sales).await.unwrap();
    for _ in 0..3 {
        let rows = client.query("PIVOT sales ON region USING sum(n) ORDER BY year").await.unwrap();
        let names: Vec<_> = rows.schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(names, ["year", "north", "south"]);
        let years: Vec<_> = rows.try_collect::<Vec<_>>().await.unwrap();
        assert_eq!(years.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_checkpoint_is_refused_and_a_plain_one_works() {
    let server = TestServer::start().await;
    let client = server.client().await;
    put(&client, "t", ids([1])).await.unwrap();
    for sql in [
        "FORCE CHECKPOINT",
        "force /* it */ checkpoint",
        "FROM force_checkpoint()",
        "CALL force_checkpoint()",
    ] {
        refused(client.execute(sql).await, Code::PermissionDenied, "NOT_ALLOWED");
        refused(client.query(sql).await, Code::PermissionDenied, "NOT_ALLOWED");
    }
    client.execute("CHECKPOINT").await.unwrap();
    assert_eq!(integers(&client, "FROM t").await.unwrap(), [1]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_leaves_behind_stays_in_it() {
    let server = TestServer::start().await;
    let (client, other) = (server.client().await, server.client().await);
    put(&client, "t", ids([1])).await.unwrap();
    for sql in ["PREPARE p AS DELETE FROM t", "BEGIN", "EXECUTE p"] {
        client.execute(sql).await.unwrap();
    }
    assert_eq!(integers(&client, "SELECT count(*) FROM t").await.unwrap(), [0]);
    assert_eq!(integers(&other, "SELECT count(*) FROM t").await.unwrap(), [1]);
    client.execute("ROLLBACK").await.unwrap();
    assert_eq!(integers(&client, "SELECT count(*) FROM t").await.unwrap(), [1]);
    refused(client.execute("SET threads = 1").await, Code::PermissionDenied, "NOT_ALLOWED");
    server.shutdown().await;
}
