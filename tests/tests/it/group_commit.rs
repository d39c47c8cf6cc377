//! What waits for the writer is committed together, and acknowledged after the commit.

use std::collections::BTreeSet;

use futures::future::join_all;
use merganser_tests::{TestServer, integer, integers, put, unit};

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_one_row_puts_share_commits() {
    const LOADERS: i64 = 64;
    const ROUNDS: i64 = 4;
    let server = TestServer::start().await;
    let client = server.client().await;
    client.execute("CREATE TABLE t (unit BIGINT, part BIGINT)").await.unwrap();

    let loaders = (0..LOADERS).map(|loader| {
        let client = client.clone();
        tokio::spawn(async move {
            let mut acks = Vec::new();
            for round in 0..ROUNDS {
                acks.push(put(&client, "t", unit(loader * ROUNDS + round, 1)).await.unwrap());
            }
            acks
        })
    });
    let acks: Vec<_> =
        join_all(loaders.collect::<Vec<_>>()).await.into_iter().flat_map(Result::unwrap).collect();

    assert!(acks.iter().all(|ack| ack.committed && ack.rows == 1 && ack.commit_id > 0));
    let commits: BTreeSet<u64> = acks.iter().map(|ack| ack.commit_id).collect();
    assert!(commits.len() * 2 < acks.len(), "{} commits for {} units", commits.len(), acks.len());
    assert_eq!(
        integers(&client, "SELECT unit FROM t ORDER BY unit").await.unwrap(),
        (0..LOADERS * ROUNDS).collect::<Vec<_>>()
    );
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledged_put_is_visible_to_the_next_query_of_anybody() {
    let server = TestServer::start().await;
    let (loader, reader) = (server.client().await, server.client().await);
    for number in 1..=50 {
        put(&loader, "t", unit(number, 3)).await.unwrap();
        assert_eq!(integer(&reader, "SELECT count(*) FROM t").await, number * 3);
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn puts_that_find_no_table_create_it_once_and_all_land() {
    let server = TestServer::start().await;
    let loaders = (0..32).map(|loader| {
        let server = &server;
        async move { put(&server.client().await, "fresh", unit(loader, 5)).await }
    });
    for ack in join_all(loaders).await {
        assert_eq!(ack.unwrap().rows, 5);
    }
    let client = server.client().await;
    assert_eq!(integer(&client, "SELECT count(DISTINCT (unit, part)) FROM fresh").await, 160);
    assert_eq!(integer(&client, "SELECT count(*) FROM fresh").await, 160);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_without_rows_commits_nothing_and_says_so() {
    let server = TestServer::start().await;
    let client = server.client().await;
    put(&client, "t", unit(1, 1)).await.unwrap();
    let ack = put(&client, "t", unit(2, 0)).await.unwrap();
    assert_eq!((ack.rows, ack.commit_id), (0, 0));
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 1);
    server.shutdown().await;
}
