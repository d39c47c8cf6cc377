//! The write-ahead log stays bounded: checkpoints fall between groups, and at the hard limit what stands in
//! their way has to go.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use arrow_array::RecordBatch;
use futures::{StreamExt, TryStreamExt, future::join_all, stream};
use merganser::{Client, Error, IngestMode, RowStream, TablePath};
use merganser_server::Config;
use merganser_tests::{
    HttpClient, SmallDisk, TestServer, Upload, integer, integers, put, refused, soon, unit, until, wide,
};
use tonic::Code;

const CHECKPOINT: u64 = 1 << 20;
const LIMIT: u64 = 2 << 20;

fn small(config: &mut Config) {
    config.engine.checkpoint_bytes = CHECKPOINT;
    config.engine.wal_limit_bytes = LIMIT;
    config.engine.bulk_bytes = 100 << 10;
    config.engine.wait = Duration::from_millis(200);
}

fn wal_of(database: &Path) -> PathBuf {
    database.with_extension("duckdb.wal")
}

fn size(wal: &Path) -> u64 {
    std::fs::metadata(wal).map_or(0, |file| file.len())
}

/// Rows without end over a snapshot of the table `held`.
async fn held(client: &Client) -> (RowStream, RecordBatch) {
    let endless = "SELECT held.id, range FROM held, range(1000000000000)";
    let mut rows = client.query(endless).await.unwrap();
    let first = soon("the first batch", rows.next()).await.unwrap().unwrap();
    (rows, first)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_stays_small_while_a_reader_is_held_open_through_10_000_units() {
    const LOADERS: i64 = 32;
    const UNITS: i64 = 10_000 / LOADERS + 1;
    const ROWS: usize = 40;
    let server = TestServer::with(|config| config.engine.checkpoint_bytes = CHECKPOINT).await;
    let client = server.client().await;
    client.execute("CREATE TABLE held AS SELECT 1 AS id").await.unwrap();
    // Made before the reader comes: a change of tables would make its snapshot an obstacle.
    client.execute("CREATE TABLE t (unit BIGINT, part BIGINT)").await.unwrap();
    let reader = held(&client).await;
    let wal = wal_of(server.path());
    let loaders = (0..LOADERS).map(|loader| {
        let (client, wal) = (client.clone(), &wal);
        async move {
            let mut largest = 0;
            for number in loader * UNITS..(loader + 1) * UNITS {
                put(&client, "t", unit(number, ROWS)).await.unwrap();
                largest = size(wal).max(largest);
            }
            largest
        }
    });
    let largest = join_all(loaders).await.into_iter().max().unwrap();
    assert!((CHECKPOINT / 2..2 * CHECKPOINT).contains(&largest), "the log grew to {largest} bytes");
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, LOADERS * UNITS * ROWS as i64);
    drop(reader);
    server.shutdown().await;
}

/// Puts units of about 50 KB until something has happened; each of them must be acknowledged.
async fn load_until(client: &Client, what: &str, happened: impl Fn() -> bool) {
    let loading = async {
        for number in 0.. {
            if happened() {
                return;
            }
            put(client, "loaded", wide(number * 50..(number + 1) * 50)).await.unwrap();
        }
    };
    soon(what, loading).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_limit_a_stalled_upload_and_an_idle_transaction_are_rolled_back() {
    let server = TestServer::with(small).await;
    let client = server.client().await;
    client.execute("CREATE TABLE slow AS SELECT 1::BIGINT AS id, 'before' AS text").await.unwrap();
    client.execute("CREATE TABLE loaded (id BIGINT, text VARCHAR)").await.unwrap();
    let stalled = Upload::start(&client, "made", wide([]).schema());
    stalled.send(wide(0..200));
    // From then on it needs the turn no more until it is complete.
    until("the upload has begun its transaction", async || server.engine().writes_open() == 1).await;
    let idle = server.client().await;
    idle.execute("BEGIN").await.unwrap();
    // Rows that are only added would be in no checkpoint's way.
    idle.execute("UPDATE slow SET text = 'idle'").await.unwrap();

    let wal = wal_of(server.path());
    load_until(&client, "the log reaches the checkpoint's size", || size(&wal) > CHECKPOINT).await;
    assert!(!stalled.is_answered(), "below the limit nobody is ended");
    load_until(&client, "the upload is ended", || stalled.is_answered()).await;
    let ended = stalled.refusal().await;
    assert!(ended.as_ref().is_err_and(Error::retryable), "{ended:?}");
    let reason = refused(ended, Code::ResourceExhausted, "WAL_FULL");
    assert!(reason.contains("write-ahead log"), "{reason}");
    until("the log is checkpointed", async || size(&wal) < CHECKPOINT).await;
    let reason = refused(idle.execute("COMMIT").await, Code::Aborted, "TRANSACTION_LOST");
    assert!(reason.contains("write-ahead log"), "{reason}");

    assert_eq!(integer(&client, "SELECT count(*) FROM slow WHERE text = 'before'").await, 1);
    assert_eq!(integer(&client, "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'made'").await, 0);
    assert_eq!(idle.execute("INSERT INTO slow VALUES (2, 'admitted')").await.unwrap(), 1);
    let schema = wide([]).schema();
    let batches = stream::iter((0..4).map(|part| Ok::<_, Error>(wide(part * 100..(part + 1) * 100))));
    let (table, mode) = (TablePath::new("slow"), IngestMode::CreateOrAppend);
    let bulk = client.ingest(&table, mode, schema, batches).await.unwrap();
    assert_eq!(bulk.rows, 400);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_limit_new_writes_wait_and_small_units_go_on() {
    let server = TestServer::with(small).await;
    let client = server.client().await;
    client.execute("CREATE TABLE held AS SELECT 1 AS id").await.unwrap();
    let reader = held(&client).await;
    // From here on a checkpoint would have to wait for the reader.
    client.execute("UPDATE held SET id = 2").await.unwrap();
    let wal = wal_of(server.path());
    load_until(&client, "the log passes its limit", || size(&wal) > LIMIT + (200 << 10)).await;

    refused(client.execute("UPDATE held SET id = 3").await, Code::ResourceExhausted, "WAL_FULL");
    let begun = server.client().await;
    begun.execute("BEGIN").await.unwrap();
    refused(begun.execute("UPDATE held SET id = 3").await, Code::ResourceExhausted, "WAL_FULL");
    let bulk = Upload::start(&client, "loaded", wide([]).schema());
    bulk.send(wide(0..200));
    refused(bulk.refusal().await, Code::ResourceExhausted, "WAL_FULL");
    put(&client, "loaded", wide([1])).await.unwrap();
    assert_eq!(integer(&client, "SELECT id FROM held").await, 2);

    drop(reader);
    until("writes are admitted again", async || client.execute("UPDATE held SET id = 3").await.is_ok()).await;
    assert!(size(&wal) < CHECKPOINT);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_limit_a_long_statement_is_ended_too() {
    let server = TestServer::with(small).await;
    let client = server.client().await;
    client.execute("CREATE TABLE loaded (id BIGINT, text VARCHAR)").await.unwrap();
    let writer = server.client().await;
    let long = "CREATE TABLE endless AS SELECT count(*) FROM range(10000000) a, range(10000000) b";
    let long = tokio::spawn(async move { writer.execute(long).await });
    load_until(&client, "the statement is ended", || long.is_finished()).await;
    let ended = long.await.unwrap();
    assert!(refused(ended, Code::Aborted, "TRANSACTION_LOST").contains("write-ahead log"));
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_is_stopped_when_its_snapshot_is_too_old() {
    let server = TestServer::with(|config| config.engine.read_age = Some(Duration::from_millis(300))).await;
    let client = server.client().await;
    client.execute("CREATE TABLE held AS SELECT 1 AS id").await.unwrap();
    let (rows, _) = held(&client).await;
    server.no_reads_left().await;
    let rest = soon("the end of the stream", rows.try_collect::<Vec<_>>()).await;
    let reason = refused(rest, Code::DeadlineExceeded, "READ_TOO_OLD");
    assert!(reason.contains("300ms"), "{reason}");
    assert_eq!(integer(&client, "SELECT id FROM held").await, 1);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_only_reads_is_rolled_back_when_its_snapshot_is_too_old() {
    let server = TestServer::with(|config| config.engine.read_age = Some(Duration::from_millis(300))).await;
    let (reader, writer) = (server.client().await, server.client().await);
    writer.execute("CREATE TABLE held AS SELECT 1 AS id").await.unwrap();
    writer.execute("BEGIN").await.unwrap();
    writer.execute("INSERT INTO held VALUES (2)").await.unwrap();

    reader.execute("BEGIN").await.unwrap();
    let mut last = Ok(Vec::new());
    until("the reader's transaction is lost", async || {
        last = integers(&reader, "SELECT count(*) FROM held").await;
        last.is_err()
    })
    .await;
    let reason = refused(last, Code::Aborted, "TRANSACTION_LOST");
    assert!(reason.contains("snapshot") && reason.contains("300ms"), "{reason}");
    reader.execute("ROLLBACK").await.unwrap();

    // One that has written is left to the other limits.
    assert_eq!(integer(&writer, "SELECT count(*) FROM held").await, 2);
    writer.execute("COMMIT").await.unwrap();
    assert_eq!(integer(&reader, "SELECT count(*) FROM held").await, 2);
    server.shutdown().await;
}

fn with_metrics(config: &mut Config) {
    config.network.http = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
}

/// Checkpoints that were made for a reason, by the metrics: of all servers of this process.
async fn made_for(server: &TestServer, why: &str) -> u64 {
    let mut http = HttpClient::connect(server.http_address().unwrap()).await;
    let told = http.send("GET", "/metrics", &[], "").await;
    let metric = format!("merganser_checkpoints_total{{outcome=\"done\",why=\"{why}\"}} ");
    let count = told.text().lines().find_map(|line| line.strip_prefix(&metric));
    count.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_has_nothing_to_do_checkpoints_a_log_that_is_below_its_size() {
    const IDLE: u64 = 4 << 20;
    let server = TestServer::with(with_metrics).await;
    let (client, wal) = (server.client().await, wal_of(server.path()));
    let before = made_for(&server, "idle").await;
    let loading = load_until(&client, "the log is worth it", || size(&wal) > IDLE + (100 << 10));
    loading.await;
    // Nothing is sent any more.
    until("the log is checkpointed", async || size(&wal) < IDLE).await;
    until("it is counted", async || made_for(&server, "idle").await > before).await;
    server.shutdown().await;
}

/// DuckDB's own checkpoints would fall within the commit that reaches 16 MiB, whoever waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn no_commit_makes_a_checkpoint_of_its_own() {
    let server = TestServer::with(|config| {
        config.engine.checkpoint_bytes = 256 << 20;
        config.engine.wal_limit_bytes = 512 << 20;
    })
    .await;
    let (client, wal) = (server.client().await, wal_of(server.path()));
    load_until(&client, "the log is larger than DuckDB lets it be", || size(&wal) > 18 << 20).await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_takes_a_good_part_of_what_is_free_is_checkpointed_under_load() {
    const FREE: u64 = 6 << 20;
    let Some(disk) = SmallDisk::mount_for("checkpoints::a_log_that_takes_...", 24 << 20) else { return };
    disk.fill((24 << 20) - FREE as usize);
    let server = TestServer::open(disk.database(), |config| {
        with_metrics(config);
        config.engine.disk_reserve_bytes = 0;
    })
    .await;
    let (client, wal) = (server.client().await, wal_of(server.path()));
    let before = made_for(&server, "disk").await;
    let (mut largest, mut last) = (0, 0);
    for number in 0.. {
        put(&client, "loaded", wide(number * 50..(number + 1) * 50)).await.unwrap();
        let now = size(&wal);
        if now < last {
            break;
        }
        (largest, last) = (now.max(largest), now);
    }
    // Too small for every other reason.
    assert!(largest < FREE / 2, "the log grew to {largest} bytes");
    until("it is counted", async || made_for(&server, "disk").await > before).await;
    drop(client);
    server.shutdown().await;
}
