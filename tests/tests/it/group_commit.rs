//! What waits for the writer is committed together, and acknowledged after the commit.

use std::{collections::BTreeSet, net::SocketAddr};

use futures::future::join_all;
use merganser_tests::{HttpClient, Put, TestServer, integer, integers, put, soon, unit, until};

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

/// The units that wait, by the metrics of the server that was asked last: another test of this process may come in
/// between.
async fn waiting(http: &mut HttpClient) -> String {
    let told = http.send("GET", "/metrics", &[], "").await;
    let gauge = told.text().lines().find_map(|line| line.strip_prefix("merganser_queue_units "));
    gauge.unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn units_that_cannot_be_committed_yet_show_in_the_depth_of_the_queue() {
    const LOADERS: i64 = 5;
    let server =
        TestServer::with(|config| config.network.http = Some(SocketAddr::from(([127, 0, 0, 1], 0)))).await;
    let client = server.client().await;
    client.execute("CREATE TABLE t AS SELECT 1::BIGINT AS unit, 0::BIGINT AS part").await.unwrap();
    let mut http = HttpClient::connect(server.http_address().unwrap()).await;
    until("nothing waits", async || waiting(&mut http).await == "0").await;
    // It has the turn that upserts need.
    client.execute("BEGIN").await.unwrap();
    client.execute("UPDATE t SET part = 1").await.unwrap();
    let flight = server.flight().await;
    let loaders = (0..LOADERS).map(|loader| {
        let flight = flight.clone();
        let upsert = Put::to("t").with("merge_keys", "unit,part");
        tokio::spawn(async move { upsert.send(&flight, vec![unit(loader, 1)]).await })
    });
    let loaders: Vec<_> = loaders.collect();
    until("all of them wait", async || waiting(&mut http).await == LOADERS.to_string()).await;
    client.execute("ROLLBACK").await.unwrap();
    for loader in loaders {
        assert_eq!(soon("the answer", loader).await.unwrap().unwrap(), 1);
    }
    until("nothing waits any more", async || waiting(&mut http).await == "0").await;
    server.shutdown().await;
}
