//! Who replaces a table in a transaction loses no row that was acknowledged meanwhile.

use merganser::{Client, Error};
use merganser_tests::{
    TestServer, Upload, configure, ids, integer, messages_at, put, put_with, refused, soon, until, wide,
};
use tonic::Code;

/// The ways of a transaction to put a table in the place of another, each a list of texts.
const REPLACEMENTS: [&[&str]; 3] = [
    &["BEGIN", "CREATE OR REPLACE TABLE t AS FROM t", "COMMIT"],
    &["BEGIN", "CREATE TABLE n AS FROM t; DROP TABLE t; ALTER TABLE n RENAME TO t", "COMMIT"],
    &["BEGIN; CREATE OR REPLACE TABLE t AS FROM t; COMMIT"],
];

async fn waits_for_a_table(client: &Client) -> bool {
    let waiting = "SELECT count(*) FROM merganser_statements() WHERE state = 'waiting for a table'";
    integer(client, waiting).await > 0
}

/// A server, and an upload that is under way into its table `t`.
async fn with_upload() -> (TestServer, Client, Upload) {
    let server = TestServer::with(|config| config.engine.bulk_bytes = 64 << 10).await;
    let client = server.client().await;
    put(&client, "t", wide([0])).await.unwrap();
    let upload = Upload::start(&server.client().await, "t", wide([]).schema());
    upload.send(wide(1..200));
    server.bulk_uploads(1).await;
    (server, client, upload)
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_stored_while_a_transaction_waits_are_in_what_it_replaces() {
    for texts in REPLACEMENTS {
        let (server, client, upload) = with_upload().await;
        let replacing = {
            let client = server.client().await;
            tokio::spawn(async move {
                for text in texts {
                    client.execute(text).await?;
                }
                Ok::<_, Error>(())
            })
        };
        until("the transaction waits", async || waits_for_a_table(&client).await).await;
        upload.send(wide(200..400));
        assert_eq!(upload.finish().await.unwrap().rows, 399);
        soon("the transaction", replacing).await.unwrap().unwrap();
        assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 400, "{texts:?}");
        server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_has_read_before_is_rolled_back_instead() {
    for change in ["CREATE OR REPLACE TABLE t AS FROM t", "DROP TABLE t", "ALTER TABLE t RENAME TO n"] {
        let server = TestServer::start().await;
        let (client, loader) = (server.client().await, server.client().await);
        put(&loader, "t", ids([1])).await.unwrap();
        put(&loader, "other", ids([1])).await.unwrap();
        client.execute("BEGIN").await.unwrap();
        assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 1);
        put(&loader, "t", ids([2])).await.unwrap();
        let text = refused(client.execute(change).await, Code::Aborted, "CONFLICT");
        assert!(text.contains("rows were stored in the table"), "{text}");
        refused(client.execute("COMMIT").await, Code::Aborted, "TRANSACTION_LOST");
        assert_eq!(integer(&loader, "SELECT count(*) FROM t").await, 2, "{change}");
        // What was stored elsewhere is no conflict, nor is what the transaction has seen.
        client.execute("BEGIN").await.unwrap();
        assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 2);
        put(&loader, "other", ids([2])).await.unwrap();
        client.execute(change).await.unwrap();
        client.execute("ROLLBACK").await.unwrap();
        server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_waits_for_its_turn_sees_what_was_committed_meanwhile() {
    let server = TestServer::start().await;
    let (first, second) = (server.client().await, server.client().await);
    put(&first, "t", ids([1])).await.unwrap();
    first.execute("BEGIN").await.unwrap();
    first.execute("UPDATE t SET id = 2").await.unwrap();
    second.execute("BEGIN").await.unwrap();
    let waiting = tokio::spawn(async move {
        second.execute("UPDATE t SET id = id + 1").await?;
        second.execute("COMMIT").await
    });
    let watcher = server.client().await;
    let waits = "SELECT count(*) FROM merganser_statements() WHERE state = 'waiting for the turn to write'";
    until("the second waits", async || integer(&watcher, waits).await > 0).await;
    first.execute("COMMIT").await.unwrap();
    soon("the second", waiting).await.unwrap().unwrap();
    assert_eq!(integer(&watcher, "SELECT id FROM t").await, 3);
    server.shutdown().await;
}

/// Statements and uploads by turns, into a catalog that the configuration attaches.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_in_an_attached_catalog_either() {
    const LOADERS: usize = 4;
    let folder = tempfile::tempdir().unwrap();
    let catalog = format!(
        "[[catalog]]\nname = 'side'\ntype = 'duckdb'\npath = '{}'",
        folder.path().join("side.db").display()
    );
    let server = TestServer::with(|config| configure(config, &catalog)).await;
    let client = server.client().await;
    client.execute("CREATE TABLE side.main.t (id BIGINT)").await.unwrap();
    let (over, ended) = tokio::sync::watch::channel(false);
    let loaders: Vec<_> = (0..LOADERS)
        .map(|_| {
            let (connecting, ended) = (server.flight(), ended.clone());
            async move {
                let flight = connecting.await;
                let mut rows = 0;
                while !*ended.borrow() {
                    match put_with(&flight, &[], messages_at(&["side", "main", "t"], vec![ids([1])])).await {
                        Ok(ack) => rows += ack.rows,
                        Err(Error::Server { code: Code::Aborted, .. }) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
                rows
            }
        })
        .collect();
    let replaces = async {
        for _ in 0..20 {
            match client.execute("CREATE OR REPLACE TABLE side.main.t AS FROM side.main.t").await {
                Ok(_) | Err(Error::Server { code: Code::Aborted, .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        over.send_replace(true);
    };
    let (acknowledged, ()) = futures::join!(futures::future::join_all(loaders), replaces);
    let stored = integer(&client, "SELECT count(*) FROM side.main.t").await;
    assert_eq!(stored, acknowledged.iter().sum::<u64>() as i64);
    server.shutdown().await;
}
