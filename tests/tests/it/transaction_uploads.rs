//! Uploads into a transaction, while others store rows in the same table: none of those is lost or doubled, and none has to
//! wait for ever.

use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_flight::{
    flight_service_client::FlightServiceClient,
    sql::{EndTransaction, client::FlightSqlServiceClient},
};
use merganser::{Client, Error};
use merganser_tests::{Put, TestServer, Upload, ids, integer, integers, put, refused, soon, until, wide};
use tonic::{Code, transport::Channel};

/// A driver that has begun a transaction.
struct Driver {
    sql: FlightSqlServiceClient<Channel>,
    flight: FlightServiceClient<Channel>,
    transaction: bytes::Bytes,
}

impl Driver {
    async fn begins(server: &TestServer) -> Self {
        let channel = server.channel().await;
        let mut sql = FlightSqlServiceClient::new(channel.clone());
        let transaction = sql.begin_transaction().await.unwrap();
        Self { sql, flight: FlightServiceClient::new(channel), transaction }
    }

    async fn execute(&mut self, text: &str) {
        self.sql.execute_update(text.to_owned(), Some(self.transaction.clone())).await.unwrap();
    }

    /// After which it has a snapshot that it must keep.
    async fn reads(server: &TestServer) -> Self {
        let mut driver = Self::begins(server).await;
        driver.execute("CREATE TEMP TABLE seen AS FROM t").await;
        driver
    }

    async fn sends(&self, put: Put, rows: RecordBatch) -> Result<i64, Error> {
        put.within(self.transaction.clone()).send(&self.flight, vec![rows]).await
    }

    async fn commits(&mut self) -> Result<(), arrow_flight::error::FlightError> {
        self.sql.end_transaction(self.transaction.clone(), EndTransaction::Commit).await
    }
}

fn upsert() -> Put {
    Put::to("t").with("merge_keys", "id")
}

/// Ways of somebody else to store the row 99.
#[derive(Debug, Clone, Copy)]
enum Way {
    Put,
    Insert,
    InsertInTransaction,
    PutInTransaction,
    PutAfterInsert,
}

impl Way {
    const ALL: [Self; 5] =
        [Self::Put, Self::Insert, Self::InsertInTransaction, Self::PutInTransaction, Self::PutAfterInsert];

    async fn stores(self, server: &TestServer) {
        const INSERT: &str = "INSERT INTO t VALUES (99)";
        match self {
            Self::Put => {
                put(&server.client().await, "t", ids([99])).await.unwrap();
            }
            Self::Insert => {
                server.client().await.execute(INSERT).await.unwrap();
            }
            Self::InsertInTransaction => {
                let mut driver = Driver::begins(server).await;
                driver.execute(INSERT).await;
                driver.commits().await.unwrap();
            }
            Self::PutInTransaction => {
                let mut driver = Driver::begins(server).await;
                driver.sends(Put::to("t"), ids([99])).await.unwrap();
                driver.commits().await.unwrap();
            }
            Self::PutAfterInsert => {
                let mut driver = Driver::begins(server).await;
                driver.sends(Put::to("t"), ids([99])).await.unwrap();
                driver.execute("INSERT INTO other VALUES (1)").await;
                driver.commits().await.unwrap();
            }
        }
    }
}

async fn with_table() -> (TestServer, Client) {
    let server = TestServer::start().await;
    let client = server.client().await;
    client.execute("CREATE TABLE other (id BIGINT); CREATE TABLE t AS SELECT 1::BIGINT AS id").await.unwrap();
    (server, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_has_read_neither_loses_nor_doubles_what_others_stored_since() {
    for way in Way::ALL {
        for upload in [Put::to("t").replacing(), upsert()] {
            let (server, client) = with_table().await;
            let mut driver = Driver::reads(&server).await;
            way.stores(&server).await;
            let text = refused(driver.sends(upload, ids([99])).await, Code::Aborted, "CONFLICT");
            assert!(text.contains("rows were stored in the table"), "{text}");
            assert!(driver.commits().await.unwrap_err().to_string().contains("TRANSACTION_LOST"));
            assert_eq!(integers(&client, "SELECT id FROM t ORDER BY id").await.unwrap(), [1, 99], "{way:?}");
            // What is stored elsewhere meanwhile is no conflict.
            let driver = &mut Driver::reads(&server).await;
            client.execute("INSERT INTO other VALUES (2)").await.unwrap();
            driver.sends(upsert(), ids([99])).await.unwrap();
            driver.commits().await.unwrap();
            assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 2);
            server.shutdown().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_does_one_that_takes_the_table_away_by_sql() {
    for way in Way::ALL {
        let (server, client) = with_table().await;
        let mut driver = Driver::reads(&server).await;
        way.stores(&server).await;
        let dropped =
            driver.sql.execute_update("DROP TABLE t".into(), Some(driver.transaction.clone())).await;
        let told = dropped.unwrap_err().to_string();
        assert!(told.contains("CONFLICT"), "{way:?}: {told}");
        assert_eq!(integers(&client, "SELECT id FROM t ORDER BY id").await.unwrap(), [1, 99], "{way:?}");
        server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upsert_that_waits_for_its_turn_meets_the_rows_of_the_one_before() {
    let (server, client) = with_table().await;
    let (mut first, mut second) = (Driver::begins(&server).await, Driver::begins(&server).await);
    first.sends(upsert(), ids([5])).await.unwrap();
    let waiting = tokio::spawn(async move {
        second.sends(upsert(), ids([5])).await.unwrap();
        second.commits().await.unwrap();
    });
    let waits = "SELECT count(*) FROM merganser_statements() WHERE state = 'waiting for the turn to write'";
    until("the second waits", async || integer(&client, waits).await > 0).await;
    first.commits().await.unwrap();
    soon("the second", waiting).await.unwrap();
    assert_eq!(integers(&client, "SELECT id FROM t ORDER BY id").await.unwrap(), [1, 5]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_whose_table_is_replaced_before_they_are_committed_are_not_acknowledged_in_vain() {
    for end in ["COMMIT", "ROLLBACK"] {
        let (server, client) = with_table().await;
        let loader = server.client().await;
        loader.execute("BEGIN").await.unwrap();
        put(&loader, "t", ids([2])).await.unwrap();
        client.execute("BEGIN; CREATE OR REPLACE TABLE t AS FROM t").await.unwrap();
        let committing = tokio::spawn(async move { loader.execute("COMMIT").await });
        let watcher = server.client().await;
        let commits = "SELECT count(*) FROM merganser_statements() WHERE sql = 'COMMIT'";
        until("the commit waits", async || integer(&watcher, commits).await > 0).await;
        client.execute(end).await.unwrap();
        let committed = soon("the commit", committing).await.unwrap();
        assert_eq!(committed.is_ok(), end == "ROLLBACK", "{committed:?}");
        let stored = integer(&client, "SELECT count(*) FROM t").await;
        assert_eq!(stored, 1 + i64::from(committed.is_ok()), "{end}: {committed:?}");
        server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_never_ends_does_not_keep_its_transaction_beyond_the_limit() {
    let server = TestServer::with(|config| {
        config.engine.bulk_bytes = 64 << 10;
        config.sessions.transactions.turn = Duration::from_secs(1);
    })
    .await;
    let (client, other) = (server.client().await, server.client().await);
    client.execute("CREATE TABLE other (id BIGINT); BEGIN; INSERT INTO other VALUES (1)").await.unwrap();
    let upload = Upload::start(&client, "t", wide([]).schema());
    upload.send(wide(0..400));
    let appends = "SELECT count(*) FROM merganser_statements() WHERE kind = 'ingest' AND rows > 0";
    until("rows are appended", async || integer(&other, appends).await > 0).await;
    soon("the other's turn", other.execute("INSERT INTO other VALUES (2)")).await.unwrap();
    let told = refused(upload.refusal().await, Code::Aborted, "TRANSACTION_LOST");
    assert!(told.contains("has had the turn to write for 1s"), "{told}");
    refused(client.execute("COMMIT").await, Code::Aborted, "TRANSACTION_LOST");
    assert_eq!(integers(&other, "SELECT id FROM other").await.unwrap(), [2]);
    server.shutdown().await;
}
