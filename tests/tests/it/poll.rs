//! PollFlightInfo: what runs at DoGet is answered at once; a statement that is run for its effect starts once,
//! goes on without a request, and is asked after by its handle.

use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightDescriptor, FlightInfo,
    PollInfo, Ticket, flight_service_client::FlightServiceClient,
};
use futures::{TryStreamExt, future::join_all};
use merganser::Client;
use merganser_server::config::{PasswordHash, User};
use merganser_tests::{TestServer, integer, integers, soon, until};
use prost::Message;
use tonic::{Code, Request, Status, transport::Channel};

type Flight = FlightServiceClient<Channel>;

/// A write that would take hours.
const ENDLESS: &str = "CREATE TABLE endless AS SELECT count(*) FROM range(10000000) a, range(10000000) b";

async fn poll(flight: &mut Flight, descriptor: &FlightDescriptor) -> Result<PollInfo, Status> {
    soon("a poll is answered", flight.poll_flight_info(descriptor.clone()))
        .await
        .map(|info| info.into_inner())
}

async fn poll_sql(flight: &mut Flight, sql: &str) -> Result<PollInfo, Status> {
    poll(flight, &FlightDescriptor::new_cmd(sql.to_owned())).await
}

/// Starts a statement that must not be over when its first poll is answered, and gives what to poll with.
async fn start(flight: &mut Flight, sql: &str) -> FlightDescriptor {
    let first = poll_sql(flight, sql).await.unwrap();
    assert!(first.info.unwrap().endpoint.is_empty(), "there is nothing to fetch yet");
    assert!(first.expiration_time.is_some());
    first.flight_descriptor.unwrap()
}

/// Polls until the statement has ended; gives every progress that was told, and the end.
async fn poll_to_the_end(
    flight: &mut Flight,
    mut descriptor: FlightDescriptor,
) -> (Vec<f64>, Result<FlightInfo, Status>) {
    let mut progress = Vec::new();
    loop {
        match poll(flight, &descriptor).await {
            Err(status) => return (progress, Err(status)),
            Ok(info) => {
                progress.extend(info.progress);
                match info.flight_descriptor {
                    Some(next) => descriptor = next,
                    None => return (progress, Ok(info.info.unwrap())),
                }
            }
        }
    }
}

async fn act(flight: &mut Flight, name: &str, body: Vec<u8>) -> Result<Vec<u8>, Status> {
    let results = flight.do_action(Action { r#type: name.into(), body: body.into() }).await?.into_inner();
    let results: Vec<_> = results.try_collect().await?;
    Ok(results[0].body.to_vec())
}

async fn cancel(flight: &mut Flight, descriptor: &FlightDescriptor) -> Result<CancelStatus, Status> {
    let info = FlightInfo { flight_descriptor: Some(descriptor.clone()), ..FlightInfo::default() };
    let request = CancelFlightInfoRequest { info: Some(info) };
    let result = act(flight, "CancelFlightInfo", request.encode_to_vec()).await?;
    Ok(CancelFlightInfoResult::decode(&*result).unwrap().status())
}

/// The rows under a complete info.
async fn rows(flight: &mut Flight, info: &FlightInfo) -> Result<usize, Status> {
    let ticket: Ticket = info.endpoint[0].ticket.clone().unwrap();
    let data = flight.do_get(ticket).await?.into_inner();
    let batches = arrow_flight::decode::FlightRecordBatchStream::new_from_flight_data(
        data.map_err(arrow_flight::error::FlightError::from),
    );
    let batches: Vec<_> = batches.try_collect().await.unwrap();
    Ok(batches.iter().map(|batch| batch.num_rows()).sum())
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, slug: &str) {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), code, "{status}");
    assert!(status.message().starts_with(&format!("{slug}: ")), "{status}");
}

/// A transaction that has the turn until it ends; its client has a table `t` with the numbers 1 and 2.
async fn holding_the_turn(server: &TestServer) -> Client {
    let client = server.client().await;
    for sql in
        ["CREATE TABLE t (id BIGINT)", "INSERT INTO t VALUES (1), (2)", "BEGIN", "DELETE FROM t WHERE false"]
    {
        client.execute(sql).await.unwrap();
    }
    client
}

/// Waits until a write finds the turn free.
async fn turn_is_free(client: &Client) {
    until("the turn is free again", async || {
        client.execute("CREATE OR REPLACE TABLE probe (id BIGINT)").await.is_ok()
    })
    .await;
}

async fn exists(client: &Client, table: &str) -> bool {
    let sql = format!("SELECT count(*) FROM duckdb_tables() WHERE table_name = '{table}'");
    integer(client, &sql).await == 1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_complete_at_once() {
    let server = TestServer::start().await;
    let mut flight = server.flight().await;
    // Its rows would take hours.
    for sql in ["SELECT 42", "SELECT count(*) FROM range(10000000) a, range(10000000) b"] {
        let answer = poll_sql(&mut flight, sql).await.unwrap();
        assert_eq!((answer.flight_descriptor, answer.progress), (None, Some(1.0)));
        assert_eq!(answer.info.unwrap().endpoint.len(), 1);
    }
    let answer = poll_sql(&mut flight, "SELECT range FROM range(3)").await.unwrap();
    assert_eq!(rows(&mut flight, &answer.info.unwrap()).await.unwrap(), 3);
    refused(poll_sql(&mut flight, "SELECT nothing").await, Code::InvalidArgument, "BINDER");
    refused(poll_sql(&mut flight, "SELECT 1; SELECT 2").await, Code::InvalidArgument, "MULTI_STATEMENT");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_statement_has_run_once_when_its_first_poll_is_answered() {
    let server = TestServer::start().await;
    let (client, mut flight) = (server.client().await, server.flight().await);
    client.execute("CREATE TABLE t (id BIGINT PRIMARY KEY)").await.unwrap();
    let answer = poll_sql(&mut flight, "INSERT INTO t VALUES (1), (2)").await.unwrap();
    assert_eq!((answer.flight_descriptor, answer.progress), (None, Some(1.0)));
    assert_eq!(answer.info.unwrap().total_records, 2);
    refused(
        poll_sql(&mut flight, "INSERT INTO t VALUES (3), (1)").await,
        Code::AlreadyExists,
        "DUPLICATE_KEY",
    );
    assert_eq!(integers(&client, "FROM t ORDER BY id").await.unwrap(), [1, 2]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_waits_for_its_turn_runs_once_and_its_end_can_be_asked_for_twice() {
    let server = TestServer::start().await;
    let holder = holding_the_turn(&server).await;
    let mut flight = server.flight().await;
    let descriptor = start(&mut flight, "INSERT INTO t SELECT id + 10 FROM t RETURNING id").await;
    assert_eq!(integer(&holder, "SELECT count(*) FROM t").await, 2);
    holder.execute("COMMIT").await.unwrap();
    let (_, end) = poll_to_the_end(&mut flight, descriptor.clone()).await;
    let end = end.unwrap();
    assert_eq!(rows(&mut flight, &end).await.unwrap(), 2);
    let again = poll(&mut flight, &descriptor).await.unwrap();
    assert_eq!((again.info, again.flight_descriptor), (Some(end), None));
    assert_eq!(integers(&holder, "FROM t ORDER BY id").await.unwrap(), [1, 2, 11, 12]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_told_to_every_poll() {
    let server = TestServer::start().await;
    let holder = holding_the_turn(&server).await;
    let mut flight = server.flight().await;
    let sql = "INSERT INTO t SELECT CAST(CASE id WHEN 1 THEN 'one' ELSE '2' END AS BIGINT) FROM t";
    let descriptor = start(&mut flight, sql).await;
    holder.execute("ROLLBACK").await.unwrap();
    let (_, end) = poll_to_the_end(&mut flight, descriptor.clone()).await;
    refused(end, Code::InvalidArgument, "CONVERSION");
    refused(poll(&mut flight, &descriptor).await, Code::InvalidArgument, "CONVERSION");
    assert_eq!(integers(&holder, "FROM t ORDER BY id").await.unwrap(), [1, 2]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_grows_until_the_statement_ends() {
    let server = TestServer::with(|config| config.engine.threads = Some(1)).await;
    let (client, mut flight) = (server.client().await, server.flight().await);
    client.execute("CREATE TABLE source AS SELECT range AS id FROM range(4000000)").await.unwrap();
    let sql = "CREATE TABLE t AS SELECT id, md5(md5(md5(md5(id::VARCHAR)))) AS text FROM source";
    let descriptor = start(&mut flight, sql).await;
    let (progress, end) = poll_to_the_end(&mut flight, descriptor).await;
    end.unwrap();
    assert!(progress.is_sorted(), "{progress:?}");
    assert!(progress.iter().any(|progress| 0.0 < *progress && *progress < 1.0), "{progress:?}");
    assert_eq!(progress.last(), Some(&1.0));
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 4_000_000);
    // What was set on the connection for this statement is not seen by the next.
    let printing = "SELECT count(*) FROM duckdb_settings() \
                    WHERE name = 'enable_progress_bar' AND value = 'true'";
    assert_eq!(integer(&client, printing).await, 0);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_in_a_session_that_keeps_state_is_polled_too() {
    let server = TestServer::start().await;
    let mut flight = server.flight().await;
    poll_sql(&mut flight, "CREATE TEMP TABLE mine AS SELECT 7 AS id").await.unwrap();
    let holder = holding_the_turn(&server).await;
    let descriptor = start(&mut flight, "CREATE TABLE kept AS FROM mine").await;
    holder.execute("COMMIT").await.unwrap();
    poll_to_the_end(&mut flight, descriptor).await.1.unwrap();
    assert_eq!(integers(&holder, "FROM kept").await.unwrap(), [7]);
    let endless = start(&mut flight, ENDLESS).await;
    assert_eq!(cancel(&mut flight, &endless).await.unwrap(), CancelStatus::Cancelled);
    turn_is_free(&holder).await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_stops_a_statement_that_runs() {
    let server = TestServer::start().await;
    let (client, mut flight) = (server.client().await, server.flight().await);
    let descriptor = start(&mut flight, ENDLESS).await;
    assert_eq!(cancel(&mut flight, &descriptor).await.unwrap(), CancelStatus::Cancelled);
    refused(poll(&mut flight, &descriptor).await, Code::Cancelled, "CANCELLED");
    assert_eq!(cancel(&mut flight, &descriptor).await.unwrap(), CancelStatus::NotCancellable);
    turn_is_free(&client).await;
    assert!(!exists(&client, "endless").await);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_gives_up_a_statement_that_waits_for_its_turn() {
    let server = TestServer::start().await;
    let holder = holding_the_turn(&server).await;
    let mut flight = server.flight().await;
    let descriptor = start(&mut flight, "INSERT INTO t VALUES (3)").await;
    assert_eq!(cancel(&mut flight, &descriptor).await.unwrap(), CancelStatus::Cancelled);
    refused(poll(&mut flight, &descriptor).await, Code::Cancelled, "CANCELLED");
    holder.execute("COMMIT").await.unwrap();
    turn_is_free(&holder).await;
    assert_eq!(integers(&holder, "FROM t ORDER BY id").await.unwrap(), [1, 2]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_its_session_stops_a_statement() {
    let server = TestServer::start().await;
    let (client, mut flight) = (server.client().await, server.flight().await);
    let descriptor = start(&mut flight, ENDLESS).await;
    act(&mut flight, "CloseSession", Vec::new()).await.unwrap();
    let (_, end) = poll_to_the_end(&mut flight, descriptor).await;
    refused(end, Code::Cancelled, "CANCELLED");
    turn_is_free(&client).await;
    // Without a token or a cookie, the connection is the session.
    start(&mut flight, ENDLESS).await;
    drop(flight);
    turn_is_free(&client).await;
    assert!(!exists(&client, "endless").await);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_and_changed_handles_are_refused() {
    let server = TestServer::with(|config| {
        let user = |name: &str| User { name: name.into(), password: PasswordHash::of(name).unwrap() };
        config.security.users = ["ana", "eva"].map(user).to_vec();
    })
    .await;
    let mut flight = server.flight().await;
    let as_user = |header: &'static str, descriptor: &FlightDescriptor| {
        let mut request = Request::new(descriptor.clone());
        request.metadata_mut().insert("authorization", header.parse().unwrap());
        request
    };
    // Basic with ana:ana and eva:eva.
    let (ana, eva) = ("Basic YW5hOmFuYQ==", "Basic ZXZhOmV2YQ==");
    let endless = FlightDescriptor::new_cmd(ENDLESS);
    let first = flight.poll_flight_info(as_user(ana, &endless)).await.unwrap().into_inner();
    let descriptor = first.flight_descriptor.unwrap();
    refused(flight.poll_flight_info(as_user(eva, &descriptor)).await, Code::NotFound, "POLL_EXPIRED");
    let mut changed = descriptor.clone();
    let mut cmd = changed.cmd.to_vec();
    *cmd.last_mut().unwrap() ^= 1;
    changed.cmd = cmd.into();
    refused(flight.poll_flight_info(as_user(ana, &changed)).await, Code::InvalidArgument, "BAD_TICKET");
    let mut fetch = Request::new(Ticket::new(descriptor.cmd.clone()));
    fetch.metadata_mut().insert("authorization", ana.parse().unwrap());
    refused(flight.do_get(fetch).await.map(|_| ()), Code::InvalidArgument, "BAD_TICKET");
    let again = flight.poll_flight_info(as_user(ana, &descriptor)).await.unwrap().into_inner();
    assert!(again.flight_descriptor.is_some(), "it still runs");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_may_have_sixteen_statements_under_way() {
    let server = TestServer::start().await;
    let holder = holding_the_turn(&server).await;
    let mut flight = server.flight().await;
    let polls = (0..17).map(|_| {
        let mut flight = flight.clone();
        async move { poll_sql(&mut flight, "INSERT INTO t VALUES (3)").await }
    });
    let (mut started, full): (Vec<_>, Vec<_>) = join_all(polls).await.into_iter().partition(Result::is_ok);
    assert_eq!((started.len(), full.len()), (16, 1));
    for refusal in full {
        refused(refusal, Code::ResourceExhausted, "TOO_MANY_POLLS");
    }
    // One that has ended makes room.
    let one = started.pop().unwrap().unwrap().flight_descriptor.unwrap();
    assert_eq!(cancel(&mut flight, &one).await.unwrap(), CancelStatus::Cancelled);
    start(&mut flight, "INSERT INTO t VALUES (3)").await;
    drop(holder);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_a_statement_that_nobody_waits_for() {
    let server = TestServer::start().await;
    let mut flight = server.flight().await;
    start(&mut flight, ENDLESS).await;
    let file = server.shutdown().await;
    let server = TestServer::open(file, |_| ()).await;
    assert!(!exists(&server.client().await, "endless").await);
    server.shutdown().await;
}
