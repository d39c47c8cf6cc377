//! A bad unit fails alone: those that were to be committed with it are.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use futures::future::join_all;
use merganser_tests::{TestServer, ids, integer, integers, put, put_keyed, refused};
use tokio::sync::Barrier;
use tonic::Code;

const STRICT: &str =
    "CREATE TABLE strict (id BIGINT PRIMARY KEY, need VARCHAR NOT NULL, n INTEGER CHECK (n > 0))";

/// Three rows, of which the last has what is given.
fn rows(number: i64, last: (i64, Option<&str>, i64)) -> RecordBatch {
    let first = number * 10;
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new(Int64Array::from(vec![first, first + 1, last.0]))),
        ("need", Arc::new(StringArray::from(vec![Some("a"), Some("b"), last.1]))),
        ("n", Arc::new(Int64Array::from(vec![1, 2, last.2]))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_concurrent_units_only_the_bad_ones_fail_each_for_its_own_reason() {
    const LOADERS: i64 = 32;
    let server = TestServer::start().await;
    let client = server.client().await;
    client.execute(STRICT).await.unwrap();
    client.execute("INSERT INTO strict VALUES (-1, 'there', 1)").await.unwrap();

    let start = Arc::new(Barrier::new(LOADERS as usize));
    let loaders = (0..LOADERS).map(|loader| {
        let start = Arc::clone(&start);
        // A connection each: the server sets a loader that failed apart from the others.
        let connecting = server.client();
        async move {
            let client = connecting.await;
            let good = loader * 10 + 2;
            let last = match loader {
                3 => (-1, Some("c"), 3),
                9 => (good, None, 3),
                17 => (good, Some("c"), -5),
                25 => (good, Some("c"), 1 << 40),
                _ => (good, Some("c"), 3),
            };
            start.wait().await;
            put(&client, "strict", rows(loader, last)).await
        }
    });
    let mut good = Vec::new();
    for (loader, outcome) in (0..).zip(join_all(loaders).await) {
        match loader {
            3 => drop(refused(outcome, Code::AlreadyExists, "DUPLICATE_KEY")),
            9 => assert!(refused(outcome, Code::InvalidArgument, "CONSTRAINT").contains("need")),
            17 => drop(refused(outcome, Code::InvalidArgument, "CONSTRAINT")),
            25 => drop(refused(outcome, Code::InvalidArgument, "CONVERSION")),
            _ => {
                let ack = outcome.unwrap();
                assert!(ack.rows == 3 && ack.commit_id > 0);
                good.extend((0..3).map(|row| loader * 10 + row));
            }
        }
    }
    assert_eq!(integers(&client, "SELECT id FROM strict WHERE id >= 0 ORDER BY id").await.unwrap(), good);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_units_with_one_key_exactly_one_is_kept() {
    const LOADERS: usize = 16;
    let server = TestServer::start().await;
    let client = server.client().await;
    client.execute("CREATE TABLE t (id BIGINT PRIMARY KEY)").await.unwrap();
    for round in 0..10 {
        let loaders = (0..LOADERS as i64).map(|loader| {
            let own = 1_000_000 + round * 1_000 + loader;
            put(&client, "t", ids([own, round]))
        });
        let (kept, refusals): (Vec<_>, Vec<_>) = join_all(loaders).await.into_iter().partition(Result::is_ok);
        assert_eq!((kept.len(), refusals.len()), (1, LOADERS - 1));
        for refusal in refusals {
            refused(refusal, Code::AlreadyExists, "DUPLICATE_KEY");
        }
    }
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 20);
    server.shutdown().await;
}

/// Groups with keys overlap, so that a row may meet its like in a group that is not committed yet.
#[tokio::test(flavor = "multi_thread")]
async fn of_keyed_units_with_one_row_exactly_one_is_kept() {
    const LOADERS: i64 = 16;
    const ROUNDS: i64 = 30;
    let server = TestServer::start().await;
    let (flight, client) = (server.flight().await, server.client().await);
    client.execute("CREATE TABLE t (id BIGINT PRIMARY KEY)").await.unwrap();
    let loaders = (0..LOADERS).map(|loader| {
        let flight = &flight;
        async move {
            let (mut sequence, mut won) = (1, 0);
            for round in 0..ROUNDS {
                let own = 1_000_000 + round * 1_000 + loader;
                let key = format!("loader-{loader}/1/{sequence}");
                match put_keyed(flight, "t", &key, vec![ids([own, round])]).await {
                    Ok(_) => {
                        won += 1;
                        sequence += 1;
                        let again = put_keyed(flight, "t", &key, vec![ids([own, round])]).await.unwrap();
                        assert!(again.duplicate, "{again:?}");
                    }
                    refusal => drop(refused(refusal, Code::AlreadyExists, "DUPLICATE_KEY")),
                }
            }
            won
        }
    });
    let won: i64 = join_all(loaders).await.into_iter().sum();
    assert_eq!(won, ROUNDS);
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 2 * ROUNDS);
    assert_eq!(integer(&client, "SELECT sum(commits)::BIGINT FROM merganser_ingest()").await, ROUNDS);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loader_that_failed_goes_on_with_its_next_unit() {
    let server = TestServer::start().await;
    let client = server.client().await;
    client.execute("CREATE TABLE t (id BIGINT CHECK (id > 0))").await.unwrap();
    for id in 1..=20 {
        refused(put(&client, "t", ids([id, -id])).await, Code::InvalidArgument, "CONSTRAINT");
        assert_eq!(put(&client, "t", ids([id])).await.unwrap().rows, 1);
    }
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 20);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_does_not_fit_the_table_is_refused_by_the_column() {
    let server = TestServer::start().await;
    let client = server.client().await;
    client.execute(STRICT).await.unwrap();
    let reason = refused(put(&client, "strict", ids([1])).await, Code::InvalidArgument, "SCHEMA_MISMATCH");
    assert!(reason.contains("need"), "{reason}");
    assert_eq!(integer(&client, "SELECT count(*) FROM strict").await, 0);
    server.shutdown().await;
}
