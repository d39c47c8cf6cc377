//! Memory that runs out: the unit that is too large is refused, and the server goes on.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use futures::future::join_all;
use merganser_server::{Config, engine::Script};
use merganser_tests::{TestServer, Upload, integer, integers, put, refused};
use tonic::Code;

/// Rows of 1,024 bytes, no two alike.
fn rows(number: i64, rows: usize) -> RecordBatch {
    let texts: StringArray = (0..rows).map(|row| Some(format!("{number:>512}{row:>512}"))).collect();
    let columns: [(&str, ArrayRef); 2] =
        [("unit", Arc::new(Int64Array::from_value(number, rows))), ("text", Arc::new(texts))];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

/// So little memory, and no disk beside it, that a large unit does not fit.
fn little_memory(config: &mut Config) {
    config.engine.memory_limit = Some(64 << 20);
    config.engine.bulk_bytes = 200 << 20;
    config.engine.queue_bytes = 400 << 20;
    let sql = "SET GLOBAL max_temp_directory_size = '0B'".into();
    config.engine.init_sql = Some(Script { name: "test".into(), sql });
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_unit_that_is_too_large_for_memory_is_refused() {
    const SMALL: usize = 100;
    const LOADERS: i64 = 8;
    let server = TestServer::with(little_memory).await;
    let client = server.client().await;
    put(&client, "t", rows(0, SMALL)).await.unwrap();
    let large = Upload::start(&client, "t", rows(0, 0).schema());
    (0..16).for_each(|_| large.send(rows(-1, 8 << 10)));
    // Others come while it is on its way, and may be in its group.
    let others = (1..=LOADERS).map(|loader| {
        let client = client.clone();
        async move {
            for number in 0..10 {
                put(&client, "t", rows(loader * 10 + number, SMALL)).await.unwrap();
            }
        }
    });
    let (refusal, _) = tokio::join!(large.finish(), join_all(others));
    refused(refusal, Code::ResourceExhausted, "OUT_OF_MEMORY");
    put(&client, "t", rows(1_000, SMALL)).await.unwrap();
    assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE unit >= 0").await, (LOADERS * 10 + 2) * 100);
    assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE unit = -1").await, 0);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_needs_more_than_there_is_fails_alone() {
    let server = TestServer::with(little_memory).await;
    let (client, session) = (server.client().await, server.client().await);
    session.execute("CREATE TEMP TABLE held AS SELECT 7::BIGINT AS i").await.unwrap();
    let sort = "SELECT range::BIGINT FROM range(30000000) ORDER BY hash(range) LIMIT 1 OFFSET 20000000";
    for asks in [&client, &session] {
        let sorted = integers(asks, sort).await;
        let text = refused(sorted, Code::ResourceExhausted, "OUT_OF_MEMORY");
        assert!(!text.contains(server.path().parent().unwrap().to_str().unwrap()), "{text}");
        assert_eq!(integer(asks, "SELECT 42").await, 42);
    }
    put(&client, "t", rows(0, 1)).await.unwrap();
    assert_eq!(integer(&session, "FROM held").await, 7);
    server.shutdown().await;
}
