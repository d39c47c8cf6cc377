//! A change of a table's columns happens between units, never within one.

use std::time::Duration;

use futures::future::join_all;
use merganser::{Client, IngestMode};
use merganser_tests::{TestServer, Upload, ids, integer, integers, put, refused, soon, unit, wide};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn columns_added_under_load_lose_no_row_and_split_no_unit() {
    const LOADERS: i64 = 4;
    const UNITS: i64 = 50;
    const ROWS: usize = 20;
    const COLUMNS: usize = 8;
    let server = TestServer::start().await;
    let client = server.client().await;
    client.execute("CREATE TABLE t (unit BIGINT, part BIGINT)").await.unwrap();

    let loaders = (0..LOADERS).map(|loader| {
        let connecting = server.client();
        async move {
            let client = connecting.await;
            for number in 0..UNITS {
                let ack = put(&client, "t", unit(loader * UNITS + number, ROWS)).await.unwrap();
                assert_eq!(ack.rows, ROWS as u64);
            }
        }
    });
    let changes = async {
        for column in 0..COLUMNS {
            let add = format!("ALTER TABLE t ADD COLUMN c{column} INTEGER DEFAULT {column}");
            client.execute(&add).await.unwrap();
        }
    };
    futures::join!(join_all(loaders), changes);

    let units = "SELECT count(*) FROM t GROUP BY unit HAVING count(DISTINCT part) = count(*)";
    let sizes = integers(&client, units).await.unwrap();
    assert_eq!(sizes, vec![ROWS as i64; (LOADERS * UNITS) as usize]);
    // Rows from before a change and from after it have the default alike.
    for column in 0..COLUMNS {
        let odd = format!("SELECT count(*) FROM t WHERE c{column} IS DISTINCT FROM {column}");
        assert_eq!(integer(&client, &odd).await, 0, "column {column}");
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_is_added_only_when_the_bulk_upload_under_way_has_ended() {
    let server = TestServer::with(|config| config.engine.bulk_bytes = 64 << 10).await;
    let (loader, client) = (server.client().await, server.client().await);
    put(&client, "t", wide([])).await.unwrap();
    let upload = Upload::start(&loader, "t", wide([]).schema());
    upload.send(wide(0..200));
    server.bulk_uploads(1).await;

    let changing = {
        let client = server.client().await;
        tokio::spawn(async move { client.execute("ALTER TABLE t ADD COLUMN more INTEGER").await })
    };
    // Readers are not concerned.
    for _ in 0..20 {
        assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 0);
    }
    upload.send(wide(200..400));
    assert_eq!(upload.finish().await.unwrap().rows, 400);
    changing.await.unwrap().unwrap();
    assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE more IS NULL").await, 400);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_dropped_and_made_anew_takes_puts_with_its_new_columns() {
    let server = TestServer::start().await;
    let client = server.client().await;
    for round in 0..10 {
        put(&client, "t", unit(round, 3)).await.unwrap();
        client.execute("DROP TABLE t").await.unwrap();
        put(&client, "t", wide([1, 2])).await.unwrap();
        client.execute("DROP TABLE t").await.unwrap();
    }
    put(&client, "t", unit(1, 3)).await.unwrap();
    assert_eq!(integer(&client, "SELECT sum(part)::BIGINT FROM t").await, 3);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_waits_for_a_bulk_upload_holds_up_no_other_table() {
    let server = TestServer::with(|config| config.engine.bulk_bytes = 64 << 10).await;
    let (loader, client) = (server.client().await, server.client().await);
    put(&client, "a", wide([])).await.unwrap();
    put(&client, "b", ids([])).await.unwrap();
    let upload = Upload::start(&loader, "a", wide([]).schema());
    upload.send(wide(0..200));
    server.bulk_uploads(1).await;

    let changing = {
        let client = server.client().await;
        tokio::spawn(async move { client.execute("ALTER TABLE a ADD COLUMN more INTEGER").await })
    };
    for id in 1..=50 {
        put(&client, "b", ids([id])).await.unwrap();
        assert_eq!(integer(&client, "SELECT count(*) FROM b").await, id);
    }
    // Had a put waited behind the change, the change's own time would be over by now.
    assert!(!changing.is_finished());
    assert_eq!(upload.finish().await.unwrap().rows, 200);
    changing.await.unwrap().unwrap();
    assert_eq!(integer(&client, "SELECT count(*) FROM a WHERE more IS NULL").await, 200);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn puts_to_a_table_that_a_transaction_changes_go_in_after_its_end_and_others_at_once() {
    let server = TestServer::start().await;
    let (client, changer) = (server.client().await, server.client().await);
    for table in ["a", "b"] {
        put(&client, table, ids([])).await.unwrap();
    }
    for (round, end) in [(1, "ROLLBACK"), (2, "COMMIT")] {
        changer.execute("BEGIN").await.unwrap();
        changer.execute("ALTER TABLE a ADD COLUMN more INTEGER DEFAULT 7").await.unwrap();
        let parked = {
            let client = server.client().await;
            tokio::spawn(async move { put(&client, "a", ids([round])).await })
        };
        for id in 0..20 {
            put(&client, "b", ids([id])).await.unwrap();
        }
        assert!(!parked.is_finished());
        changer.execute(end).await.unwrap();
        assert_eq!(soon("the put", parked).await.unwrap().unwrap().rows, 1);
        assert_eq!(integers(&client, "SELECT id FROM a ORDER BY id").await.unwrap().len(), round as usize);
    }
    assert_eq!(integer(&client, "SELECT count(*) FROM a WHERE more = 7").await, 2);
    server.shutdown().await;
}

/// A put finds a table shut so soon; other waits are as short, which nothing here reaches.
async fn impatient() -> (TestServer, Client, Client) {
    let server = TestServer::with(|config| config.engine.wait = Duration::from_millis(200)).await;
    let (client, changer) = (server.client().await, server.client().await);
    for table in ["a", "b", "c"] {
        put(&client, table, ids([1])).await.unwrap();
    }
    (server, client, changer)
}

/// Puts to these tables are refused because of an open transaction; the message names the table.
async fn changing(client: &Client, tables: &[&str]) {
    for table in tables {
        let text = refused(put(client, table, ids([2])).await, Code::Aborted, "TABLE_CHANGING");
        assert!(text.contains(&format!("\"{table}\"")), "{text}");
    }
}

/// Puts to these tables are committed.
async fn open(client: &Client, tables: &[&str]) {
    for table in tables {
        assert!(put(client, table, ids([2])).await.unwrap().committed, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_keeps_each_table_that_it_changes_until_its_end() {
    let (server, client, changer) = impatient().await;
    for change in [
        "ALTER TABLE a ADD COLUMN more INTEGER",
        "EXPLAIN ANALYZE ALTER TABLE a ADD COLUMN more INTEGER",
        "INSERT INTO b VALUES (9); ALTER TABLE a ADD COLUMN more INTEGER",
    ] {
        changer.execute("BEGIN").await.unwrap();
        changer.execute("INSERT INTO c VALUES (9)").await.unwrap();
        open(&client, &["a", "b", "c"]).await;
        changer.execute(change).await.unwrap();
        changing(&client, &["a"]).await;
        open(&client, &["b", "c"]).await;
        changer.execute("ALTER TABLE b ADD COLUMN more INTEGER").await.unwrap();
        changing(&client, &["a", "b"]).await;
        open(&client, &["c"]).await;
        changer.execute("ROLLBACK").await.unwrap();
        open(&client, &["a", "b", "c"]).await;
    }
    for change in ["DROP TABLE main.\"A\"", "CREATE OR REPLACE TABLE a AS SELECT 1::BIGINT AS id"] {
        changer.execute("BEGIN").await.unwrap();
        changer.execute(change).await.unwrap();
        changing(&client, &["a"]).await;
        open(&client, &["b", "c"]).await;
        changer.execute("ROLLBACK").await.unwrap();
        open(&client, &["a"]).await;
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_into_a_transaction_keeps_the_table_that_it_replaces() {
    let (server, client, changer) = impatient().await;
    changer.execute("BEGIN").await.unwrap();
    let upload = Upload::with_mode(&changer, "a", ids([]).schema(), IngestMode::Replace);
    upload.send(ids([7]));
    assert!(!upload.finish().await.unwrap().committed);
    changing(&client, &["a"]).await;
    open(&client, &["b"]).await;
    changer.execute("COMMIT").await.unwrap();
    assert_eq!(integers(&client, "SELECT id FROM a").await.unwrap(), [7]);
    open(&client, &["a"]).await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_dropped_keeps_all_tables_and_what_conflicts_with_nothing_none() {
    let (server, client, changer) = impatient().await;
    client.execute("CREATE SCHEMA s; CREATE TABLE s.t (id BIGINT); CREATE INDEX i ON a (id)").await.unwrap();
    changer.execute("BEGIN").await.unwrap();
    for change in ["DROP INDEX i", "CREATE OR REPLACE VIEW v AS FROM a", "DROP VIEW v", "TRUNCATE b"] {
        changer.execute(change).await.unwrap();
        open(&client, &["a", "b", "c"]).await;
    }
    changer.execute("ALTER TABLE a ADD COLUMN more INTEGER").await.unwrap();
    changer.execute("DROP SCHEMA s CASCADE").await.unwrap();
    changing(&client, &["a", "b", "c"]).await;
    changer.execute("COMMIT").await.unwrap();
    open(&client, &["a", "b", "c"]).await;
    // What went in after the transaction had begun is there, altered with the rest.
    assert_eq!(integer(&client, "SELECT count(*) FROM a WHERE more IS NULL").await, 6);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_everything_is_refused_while_a_bulk_upload_goes_on_and_then_lets_puts_pass() {
    let server = TestServer::with(|config| {
        config.engine.wait = Duration::from_millis(200);
        config.engine.bulk_bytes = 64 << 10;
    })
    .await;
    let (loader, client) = (server.client().await, server.client().await);
    put(&client, "a", wide([])).await.unwrap();
    client.execute("CREATE SCHEMA s").await.unwrap();
    let upload = Upload::start(&loader, "a", wide([]).schema());
    upload.send(wide(0..200));
    server.bulk_uploads(1).await;
    for change in ["DROP SCHEMA s", "DROP TABLE a", "CREATE OR REPLACE TABLE a (id BIGINT)"] {
        refused(client.execute(change).await, Code::ResourceExhausted, "WRITE_BUSY");
        put(&client, "a", wide([-1])).await.unwrap();
    }
    assert_eq!(upload.finish().await.unwrap().rows, 200);
    client.execute("DROP SCHEMA s; DROP TABLE a").await.unwrap();
    server.shutdown().await;
}
