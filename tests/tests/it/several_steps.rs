//! Statements of which DuckDB makes several: they run whole, and planning one runs nothing.

use arrow_flight::sql::client::FlightSqlServiceClient;
use merganser::Client;
use merganser_tests::{TestServer, integer, texts};

const ALTER: &str = "ALTER TABLE t ADD COLUMN made TIMESTAMP DEFAULT now()";
const PIVOTED: &str = "CREATE TABLE pivoted AS PIVOT t ON i USING count(*)";

async fn columns(client: &Client, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM duckdb_columns() WHERE table_name = '{table}'");
    integer(client, &sql).await
}

async fn with_table() -> TestServer {
    let server = TestServer::start().await;
    server.client().await.execute("CREATE TABLE t AS SELECT 1 AS i").await.unwrap();
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn planning_one_leaves_nothing_on_the_connections_of_others() {
    let server = with_table().await;
    let mut planning = FlightSqlServiceClient::new_from_inner(server.flight().await);
    for sql in [
        ALTER,
        "ALTER TABLE t ADD COLUMN made INTEGER DEFAULT (1 + 1)",
        PIVOTED,
        "PIVOT_WIDER t ON i USING count(*)",
        "FROM (UNPIVOT t ON i)",
    ] {
        for _ in 0..3 {
            planning.prepare(sql.to_owned(), None).await.unwrap();
        }
        let client = server.client().await;
        for _ in 0..8 {
            assert_eq!(integer(&client, "SELECT i::BIGINT FROM t").await, 1, "{sql}");
        }
        let enums = "SELECT type_name FROM duckdb_types() WHERE labels IS NOT NULL";
        assert_eq!(texts(&client, enums).await.unwrap(), [""; 0], "{sql}");
        // What is written is committed at once, and there after a restart.
        client.execute("CREATE OR REPLACE TABLE written AS SELECT 7 AS i").await.unwrap();
        assert_eq!(integer(&server.client().await, "SELECT i::BIGINT FROM written").await, 7, "{sql}");
    }
    assert_eq!(columns(&server.client().await, "t").await, 1);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_runs_in_every_place() {
    let server = with_table().await;
    let client = server.client().await;
    client.execute(ALTER).await.unwrap();
    client.execute(PIVOTED).await.unwrap();
    assert_eq!((columns(&client, "t").await, columns(&client, "pivoted").await), (2, 2));
    client.execute("DROP TABLE pivoted; ALTER TABLE t DROP COLUMN made").await.unwrap();

    // By a session, in a transaction, in a script, and in a transaction that is rolled back.
    let session = server.client().await;
    session.execute("CREATE TEMP TABLE mine AS SELECT 1 AS i").await.unwrap();
    session.execute(ALTER).await.unwrap();
    session.execute("ALTER TABLE t DROP COLUMN made").await.unwrap();
    session.execute("BEGIN").await.unwrap();
    session.execute(ALTER).await.unwrap();
    session.execute(PIVOTED).await.unwrap();
    assert_eq!(columns(&client, "t").await, 1);
    session.execute("ROLLBACK").await.unwrap();
    assert_eq!((columns(&session, "t").await, columns(&session, "pivoted").await), (1, 0));
    session.execute(&format!("{ALTER}; {PIVOTED}")).await.unwrap();
    assert_eq!((columns(&client, "t").await, columns(&client, "pivoted").await), (2, 2));

    // All or nothing.
    let failing = "ALTER TABLE t ADD COLUMN bad INTEGER DEFAULT error('no')";
    for asks in [&client, &session] {
        asks.execute(failing).await.unwrap_err();
        assert_eq!(columns(&client, "t").await, 2);
    }
    server.shutdown().await;
}
