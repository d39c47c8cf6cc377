//! A database may be read-only, or in memory.

use merganser_server::engine::{Error, Outcome, Place, Script, Statement};
use merganser_tests::{TestServer, Upload, ids, integer, integers, put, refused, wide};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_database_answers_queries_and_refuses_every_write() {
    let server = TestServer::start().await;
    let client = server.client().await;
    put(&client, "t", ids([1, 2])).await.unwrap();
    client.execute("CREATE SEQUENCE s").await.unwrap();
    drop(client);
    let file = server.shutdown().await;

    let server = TestServer::open(file, |config| {
        config.engine.read_only = true;
        config.engine.bulk_bytes = 64 << 10;
    })
    .await;
    let client = server.client().await;
    assert!(server.engine().read_only());
    assert_eq!(integers(&client, "FROM t ORDER BY id").await.unwrap(), [1, 2]);
    for table in ["t", "fresh"] {
        refused(put(&client, table, ids([3])).await, Code::PermissionDenied, "READ_ONLY");
    }
    let bulk = Upload::start(&client, "fresh", wide([]).schema());
    bulk.send(wide(0..200));
    refused(bulk.finish().await, Code::PermissionDenied, "READ_ONLY");
    for sql in [
        "INSERT INTO t VALUES (3)",
        "UPDATE t SET id = 3",
        "DELETE FROM t",
        "DROP TABLE t",
        "CREATE TABLE u (id BIGINT)",
        "INSERT INTO t VALUES (3) RETURNING id",
        "SELECT nextval('s')",
        "EXPLAIN ANALYZE DELETE FROM t",
        "FROM t; DELETE FROM t",
    ] {
        refused(client.execute(sql).await, Code::PermissionDenied, "READ_ONLY");
    }
    for sql in ["INSERT INTO t VALUES (3) RETURNING id", "SELECT nextval('s')"] {
        refused(integers(&client, sql).await, Code::PermissionDenied, "READ_ONLY");
        let outcome = server.engine().run(&Place::Shared(None), Statement::new(sql)).await;
        assert!(matches!(outcome, Err(Error::ReadOnly)));
    }
    assert_eq!(integers(&client, "FROM t ORDER BY id").await.unwrap(), [1, 2]);
    drop(client);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_in_memory_takes_puts_and_answers_queries() {
    let server = TestServer::with(|config| config.engine.path = None).await;
    let client = server.client().await;
    let ack = put(&client, "t", ids([1, 2])).await.unwrap();
    assert!(ack.rows == 2 && ack.committed && ack.commit_id > 0);
    assert_eq!(client.execute("UPDATE t SET id = id + 1").await.unwrap(), 2);
    match server.engine().run(&Place::Shared(None), Statement::new("FROM t")).await.unwrap() {
        Outcome::Rows(rows) => assert_eq!(rows.schema().fields().len(), 1),
        Outcome::Changed(_) => panic!("a select gives rows"),
    }
    assert_eq!(integer(&client, "SELECT sum(id)::BIGINT FROM t").await, 5);
    assert!(!server.path().exists());
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn start_up_sql_runs_before_anybody_is_served_at_every_start() {
    let sql = "CREATE TABLE IF NOT EXISTS starts (n BIGINT); INSERT INTO starts VALUES (1)";
    let script = Script { name: "count.sql".into(), sql: sql.into() };
    let mut file = TestServer::start().await.shutdown().await;
    for starts in 1..=3 {
        let server = TestServer::open(file, |config| config.engine.init_sql = Some(script.clone())).await;
        assert_eq!(integer(&server.client().await, "SELECT count(*) FROM starts").await, starts);
        file = server.shutdown().await;
    }
}
