//! Statements whose entries in the write-ahead log DuckDB cannot replay by itself: a crash after them loses nothing, and
//! the database opens.

use merganser_tests::{DatabaseFile, Process, ids, integer, put, texts};

use crate::SERVER;

/// Each with what there is to be of it afterwards.
const STATEMENTS: [&str; 9] = [
    "CREATE TABLE d (a TIMESTAMPTZ DEFAULT now(), b INT); INSERT INTO d (b) VALUES (1); ALTER TABLE d ADD COLUMN c INT",
    "CREATE TABLE g (a INT, b AS (a + 1), c INT); INSERT INTO g (a) VALUES (1); ALTER TABLE g RENAME c TO d",
    "CREATE TABLE g2 (a INT, b AS (a + 1), c INT); ALTER TABLE g2 DROP COLUMN c",
    "CREATE TABLE g3 (a INT, b AS (a + 1), c INT); ALTER TABLE g3 ALTER c SET DEFAULT 5",
    "CREATE TABLE g4 (a INT, b AS (a + 1), c INT); COMMENT ON COLUMN g4.c IS 'x'",
    "CREATE TABLE k (a INT CHECK (a + 1 > 0), b INT); ALTER TABLE k RENAME b TO d",
    "CREATE TABLE u (a VARCHAR); INSERT INTO u VALUES ('xy'); ALTER TABLE u ALTER a TYPE INT USING length(a)",
    "CREATE TABLE s (a STRUCT(x INT)); ALTER TABLE s ADD COLUMN a.y INT",
    "CREATE TABLE m (a MAP(VARCHAR, STRUCT(x INT))); ALTER TABLE m ADD COLUMN a.value.z INT",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_after_any_ddl_leaves_a_database_that_opens_with_all_that_was_acknowledged() {
    for sql in STATEMENTS {
        let file = DatabaseFile::new();
        let server = Process::start(SERVER, file.path(), &[]).await;
        let client = server.client().await;
        put(&client, "units", ids(0..10)).await.unwrap();
        client.execute(sql).await.unwrap();
        put(&client, "units", ids(10..20)).await.unwrap();
        let columns = "SELECT string_agg(table_name || '.' || column_name || ' ' || data_type, ',' ORDER BY ALL) \
                       FROM duckdb_columns() WHERE NOT internal";
        let before = texts(&client, columns).await.unwrap();
        server.kill().await;
        let server = Process::start(SERVER, file.path(), &[]).await;
        let client = server.client().await;
        assert_eq!(integer(&client, "SELECT count(*) FROM units").await, 20, "{sql}");
        assert_eq!(texts(&client, columns).await.unwrap(), before, "{sql}");
        put(&client, "units", ids(20..30)).await.unwrap();
        assert!(server.terminate().await.success());
    }
}
