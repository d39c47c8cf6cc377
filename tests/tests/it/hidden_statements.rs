//! SQL that hides what it does: statements from the rules of this server, or its depth from the stack.

use merganser::Client;
use merganser_tests::{DatabaseFile, Process, TestServer, integer, refused, texts};
use tonic::Code;

use crate::SERVER;

/// Each is several statements to DuckDB, and was one to a reading that differs from DuckDB's.
const HIDING: [&str; 5] = [
    "SELECT $\u{20ac}$'$\u{20ac}$; @; SELECT 1 --'",
    "SELECT E'a'\n'\\''; @; SELECT 1 --'",
    "SELECT E'''\\''; @; SELECT 1 --'",
    "SELECT 1 AS \u{20ac}e'\\'; @; SELECT 1 --'",
    "SELECT 1 AS/*'*/\u{a0}e'\\'; @; SELECT 1 --'",
];

async fn fails(client: &Client, sql: &str) {
    assert!(client.query(sql).await.is_err(), "{sql}");
    assert!(client.execute(sql).await.is_err(), "{sql}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hidden_statements_do_not_run_on_connections_that_others_use() {
    let server = TestServer::start().await;
    let client = server.client().await;
    client.execute("CREATE TABLE t AS SELECT 1 AS i").await.unwrap();
    let threads = texts(&client, "SELECT current_setting('threads')::VARCHAR").await.unwrap();
    for hiding in HIDING {
        for hidden in [
            "SET GLOBAL threads = 1",
            "ROLLBACK; DROP TABLE t; BEGIN",
            "ROLLBACK; CREATE TEMP VIEW t AS SELECT 2 AS i; BEGIN",
            "CREATE SECRET s (TYPE s3)",
        ] {
            fails(&client, &hiding.replace('@', hidden)).await;
        }
    }
    for _ in 0..10 {
        assert_eq!(integer(&server.client().await, "SELECT i::BIGINT FROM t").await, 1);
    }
    assert_eq!(texts(&client, "SELECT current_setting('threads')::VARCHAR").await.unwrap(), threads);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_statement_of_which_duckdb_makes_several_runs() {
    let server = TestServer::start().await;
    let client = server.client().await;
    for pivot in [
        "FROM (PIVOT (SELECT ';' AS a, 2 AS b) ON a USING sum(b)::BIGINT)",
        "WITH t AS (SELECT 'x;' AS a, 2 AS b) SELECT * FROM (PIVOT t ON a USING sum(b)::BIGINT);",
    ] {
        assert_eq!(integer(&client, pivot).await, 2, "{pivot}");
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn extensions_are_the_operators() {
    let server = TestServer::start().await;
    let client = server.client().await;
    for sql in [
        "INSTALL shellfs FROM community",
        "force install httpfs",
        "LOAD '/tmp/x.duckdb_extension'",
        "SELECT 1; LOAD httpfs",
        "UPDATE EXTENSIONS",
        "UPDATE EXTENSIONS (httpfs)",
    ] {
        let told = refused(client.execute(sql).await, Code::PermissionDenied, "NOT_ALLOWED");
        assert!(told.contains("the operator"), "{told}");
    }
    assert_eq!(
        texts(&client, "SELECT current_setting('allow_community_extensions')::VARCHAR").await.unwrap(),
        ["false"]
    );
    client.execute("CREATE TABLE extensions (i INT)").await.unwrap();
    client.execute("UPDATE extensions SET i = 1").await.unwrap();
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_is_too_deep_for_the_stack_or_too_long_to_be_looked_at() {
    let file = DatabaseFile::new();
    let server = Process::start(SERVER, file.path(), &[]).await;
    let client = server.client().await;
    let chain = |times: usize| format!("SELECT 1 FROM range(1){}", " CROSS JOIN range(1)".repeat(times));
    let nested = |times: usize| {
        let definitions: String = (0..times).map(|n| format!(", c{} AS (FROM c{n})", n + 1)).collect();
        format!("WITH c0 AS (SELECT 1::BIGINT){definitions} FROM c{times}")
    };
    let sum = format!("SELECT 1{}", "+1".repeat(20_000));
    client.query(&chain(900)).await.unwrap();
    assert_eq!(integer(&client, &nested(900)).await, 1);
    refused(
        client.execute("SET max_expression_depth = 100000000").await,
        Code::PermissionDenied,
        "NOT_ALLOWED",
    );
    for deep in [chain(10_000), nested(10_000), sum] {
        fails(&client, &deep).await;
    }
    let before = server.resident_bytes();
    fails(&client, &";".repeat(8 << 20)).await;
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 128 << 20, "{grown} bytes for a text that is refused by its length");
    assert_eq!(integer(&client, "SELECT 42").await, 42);
    assert!(server.terminate().await.success());
}
