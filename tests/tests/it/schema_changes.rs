//! A change of a table's columns happens between units, never within one.

use futures::future::join_all;
use merganser_tests::{TestServer, Upload, integer, integers, put, unit, wide};

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
