//! The database fails and is opened again: what everybody is told, and what is left of it.

mod faults;
mod start;
mod storage;

use std::{collections::BTreeSet, time::Duration};

use arrow_flight::{
    FlightDescriptor,
    sql::{CommandStatementQuery, EndTransaction, ProstMessageExt, client::FlightSqlServiceClient},
};
use futures::StreamExt;
use merganser::{Client, Error, IngestMode};
use merganser_server::engine::{Condition, Script};
use merganser_tests::{Pipe, TestServer, Upload, ids, integer, put, refused, soon, unit, until};
use prost::Message;
use tonic::Code;

/// Rows that no client reads to their end by accident.
const ENDLESS: &str = "SELECT range FROM range(1000000000000)";

/// Condemns the instance, and waits until another one is open.
async fn reopen(server: &TestServer) {
    let mut condition = server.engine().condition();
    condition.borrow_and_update();
    server.engine().reopen("a test wants it");
    // Where nobody holds a part of it, it may be open again before this task learns that it was down.
    soon("the database is down", condition.changed()).await.unwrap();
    soon("the database is open", condition.wait_for(|now| *now == Condition::Open)).await.unwrap();
}

/// Reads all rows of a query.
async fn read(client: &Client, sql: &str) -> Result<(), Error> {
    let mut rows = client.query(sql).await?;
    while let Some(batch) = rows.next().await {
        batch?;
    }
    Ok(())
}

fn down<T: std::fmt::Debug>(result: Result<T, Error>) {
    refused(result, Code::Unavailable, "ENGINE_DOWN");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_and_everything_works_again() {
    let server = TestServer::start().await;
    let client = server.client().await;
    put(&client, "t", unit(1, 7)).await.unwrap();
    for round in 2..4 {
        reopen(&server).await;
        assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 7 * (round - 1));
        put(&client, "t", unit(round, 7)).await.unwrap();
        client.execute("CREATE OR REPLACE TABLE u AS FROM t").await.unwrap();
        assert_eq!(integer(&client, "SELECT count(*) FROM u").await, 7 * round);
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_under_way_learn_that_the_database_went_down() {
    let server = TestServer::start().await;
    let client = server.client().await;
    // One waits for its client, one is computing and has sent nothing yet, one computes in a session.
    let mut stalled = client.query(ENDLESS).await.unwrap();
    soon("the first batch", stalled.next()).await.unwrap().unwrap();
    let computing = |client: Client| {
        tokio::spawn(async move { read(&client, &format!("SELECT sum(range) FROM ({ENDLESS})")).await })
    };
    let busy = computing(client.clone());
    let own = server.client().await;
    own.execute("CREATE TEMP TABLE mine AS SELECT 1 AS i").await.unwrap();
    let in_session = computing(own);
    until("three reads run", async || server.engine().reads_in_progress() == 3).await;

    reopen(&server).await;
    let mut last = Ok(());
    while let Some(batch) = soon("the next batch", stalled.next()).await {
        last = batch.map(drop);
    }
    down(last);
    down(soon("the end", busy).await.unwrap());
    // It is asked for twice, and may have been fetched only after the session had lost what it had.
    let Err(Error::Server { slug, .. }) = soon("the end", in_session).await.unwrap() else {
        panic!("an answer")
    };
    assert!(["ENGINE_DOWN", "SESSION_LOST"].contains(&slug.as_str()), "{slug}");
    server.no_reads_left().await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_stall_do_not_keep_the_old_instance() {
    let server = TestServer::with(|config| {
        config.engine.bulk_bytes = 64 << 10;
        config.engine.stall_timeout = Duration::from_secs(3600);
    })
    .await;
    let client = server.client().await;
    for table in ["appended", "in_transaction"] {
        put(&client, table, ids([0])).await.unwrap();
    }
    let other = server.client().await;
    other.execute("CREATE TEMP TABLE held AS SELECT 1::BIGINT AS id; BEGIN").await.unwrap();
    let uploads = [
        Upload::start(&client, "appended", ids([]).schema()),
        Upload::with_mode(&client, "replaced", ids([]).schema(), IngestMode::Replace),
        Upload::start(&other, "in_transaction", ids([]).schema()),
    ];
    for upload in &uploads {
        upload.send(ids(0..100_000));
    }
    server.bulk_uploads(2).await;

    reopen(&server).await;
    let [appended, replaced, in_transaction] = uploads;
    down(appended.refusal().await);
    down(replaced.refusal().await);
    // It may have reached the server only after its session had lost the transaction.
    let Err(Error::Server { slug, .. }) = in_transaction.refusal().await else { panic!("not refused") };
    assert!(["ENGINE_DOWN", "SESSION_LOST"].contains(&slug.as_str()), "{slug}");
    assert_eq!(integer(&client, "SELECT count(*) FROM appended").await, 1);
    assert_eq!(integer(&client, "SELECT count(*) FROM duckdb_tables()").await, 2);
    put(&client, "appended", ids(1..100_000)).await.unwrap();
    server.bulk_uploads(0).await;
    server.shutdown().await;
}

/// Puts one unit after the other; gives the numbers of those that were acknowledged.
async fn load(client: Client, first: i64, rounds: tokio::sync::watch::Receiver<bool>) -> Vec<i64> {
    let mut kept = Vec::new();
    for number in first.. {
        if *rounds.borrow() {
            break;
        }
        match put(&client, "t", unit(number, 7)).await {
            Ok(_) => kept.push(number),
            // The failure met its commit.
            Err(Error::Server { code: Code::Unknown, slug, .. }) if slug == "COMMIT_UNKNOWN" => {}
            other => down(other),
        }
    }
    kept
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_nothing_acknowledged_is_lost_and_nothing_is_there_in_part() {
    let server = TestServer::start().await;
    let client = server.client().await;
    put(&client, "t", unit(0, 7)).await.unwrap();
    let (end, ended) = tokio::sync::watch::channel(false);
    let mut loaders = Vec::new();
    for loader in 1..5 {
        loaders.push(tokio::spawn(load(server.client().await, loader * 1_000_000, ended.clone())));
    }
    for _ in 0..3 {
        let before = integer(&client, "SELECT count(*) FROM t").await;
        until("rows arrive", async || integer(&client, "SELECT count(*) FROM t").await > before + 100).await;
        reopen(&server).await;
    }
    end.send(true).unwrap();
    let mut kept = BTreeSet::from([0]);
    for loader in loaders {
        kept.extend(soon("the loader", loader).await.unwrap());
    }
    let whole = "SELECT unit FROM t GROUP BY unit HAVING count(*) = 7 AND count(DISTINCT part) = 7";
    let whole: BTreeSet<_> = merganser_tests::integers(&client, whole).await.unwrap().into_iter().collect();
    assert!(kept.is_subset(&whole), "lost: {:?}", kept.difference(&whole));
    assert_eq!(integer(&client, "SELECT count(DISTINCT unit) FROM t").await, whole.len() as i64);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_told_once_of_what_it_has_lost_and_the_others_are_not() {
    let server = TestServer::start().await;
    let (with_table, in_transaction, plain) =
        (server.client().await, server.client().await, server.client().await);
    with_table.execute("CREATE TEMP TABLE mine AS SELECT 1 AS i").await.unwrap();
    plain.execute("CREATE TABLE t (id BIGINT)").await.unwrap();
    plain.execute("USE main").await.unwrap();
    in_transaction.execute("BEGIN").await.unwrap();
    in_transaction.execute("INSERT INTO t VALUES (1)").await.unwrap();

    reopen(&server).await;
    assert_eq!(integer(&plain, "SELECT count(*) FROM t").await, 0);
    for (client, ends) in [(with_table, false), (in_transaction, true)] {
        refused(client.execute("INSERT INTO t VALUES (2)").await, Code::Aborted, "SESSION_LOST");
        if ends {
            refused(put(&client, "t", ids([2])).await, Code::Aborted, "SESSION_LOST");
            client.execute("ROLLBACK").await.unwrap();
        }
        client.execute("INSERT INTO t VALUES (3)").await.unwrap();
        client.execute("CREATE TEMP TABLE mine AS SELECT 2::BIGINT AS i").await.unwrap();
        assert_eq!(integer(&client, "SELECT i FROM mine").await, 2);
    }
    assert_eq!(integer(&plain, "SELECT sum(id)::BIGINT FROM t").await, 6);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drivers_transaction_that_is_lost_can_be_rolled_back_and_not_committed() {
    let server = TestServer::start().await;
    server.client().await.execute("CREATE TABLE t (id BIGINT)").await.unwrap();
    for (action, refusal) in
        [(EndTransaction::Rollback, None), (EndTransaction::Commit, Some("SESSION_LOST"))]
    {
        let mut driver = FlightSqlServiceClient::new(server.channel().await);
        let transaction = driver.begin_transaction().await.unwrap();
        let insert = "INSERT INTO t VALUES (1)".to_owned();
        driver.execute_update(insert.clone(), Some(transaction.clone())).await.unwrap();
        reopen(&server).await;
        let ended = driver.end_transaction(transaction.clone(), action).await;
        let text = ended.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(text.contains(refusal.unwrap_or_default()) && text.is_empty() == refusal.is_none(), "{text}");
        // What belongs to the transaction goes nowhere else.
        let after = driver.execute_update(insert.clone(), Some(transaction)).await.unwrap_err();
        assert!(after.to_string().contains("UNKNOWN_TRANSACTION"), "{after}");
        driver.execute_update(insert, None).await.unwrap();
    }
    assert_eq!(integer(&server.client().await, "SELECT count(*) FROM t").await, 2);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_down_everybody_is_told_when_to_come_again() {
    let server = TestServer::start().await;
    let (client, mut flight) = (server.client().await, server.flight().await);
    put(&client, "t", unit(1, 7)).await.unwrap();
    // A read that hears no interrupt keeps the instance from being closed.
    let pipe = Pipe::within(server.path().parent().unwrap());
    let (reader, sql) = (server.client().await, pipe.read_sql());
    let hung = tokio::spawn(async move { read(&reader, &sql).await });
    let silent = pipe.read_by_somebody().await;
    let mut condition = server.engine().condition();
    condition.borrow_and_update();
    server.engine().reopen("a test wants it");
    soon("the database is down", condition.changed()).await.unwrap();

    let query = CommandStatementQuery { query: "FROM t".into(), transaction_id: None };
    let query = FlightDescriptor::new_cmd(query.as_any().encode_to_vec());
    let status = flight.get_flight_info(query).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().starts_with("ENGINE_DOWN: "), "{status}");
    let asked: u64 =
        status.metadata().get("grpc-retry-pushback-ms").unwrap().to_str().unwrap().parse().unwrap();
    assert!((1..=10_000).contains(&asked), "{asked} ms");
    // As our own client reads it; so it is with uploads.
    let wanted = Some(Duration::from_millis(asked));
    let read = read(&client, "FROM t").await.unwrap_err();
    let sent = put(&client, "t", unit(2, 7)).await.unwrap_err();
    assert_eq!((read.retry_after(), sent.retry_after()), (wanted, wanted), "{read} {sent}");
    down(Err::<(), _>(read));
    down(Err::<(), _>(sent));

    // It may come to its end before it hears of an interrupt.
    drop(pipe.let_go(silent, hung).await);
    soon("the database is open", condition.wait_for(|now| *now == Condition::Open)).await.unwrap();
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 7);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_start_up_script_runs_again_when_the_database_is_opened_again() {
    let sql = "ATTACH ':memory:' AS started; CREATE TABLE started.words AS SELECT 'hello' AS word; \
               CREATE TABLE IF NOT EXISTS starts (begun TIMESTAMPTZ); \
               INSERT INTO starts VALUES (now())";
    let server = TestServer::with(|config| {
        config.engine.init_sql = Some(Script { name: "start-up".into(), sql: sql.into() });
    })
    .await;
    let client = server.client().await;
    for starts in 1..4 {
        assert_eq!(integer(&client, "SELECT count(*) FROM starts").await, starts);
        // What was attached went with the instance; nobody but the script has made it anew.
        assert_eq!(integer(&client, "SELECT count(*) FROM started.words WHERE word = 'hello'").await, 1);
        reopen(&server).await;
    }
    server.shutdown().await;
}
