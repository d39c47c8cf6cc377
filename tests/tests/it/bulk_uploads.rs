//! Uploads that are too large to be collected: they append while they arrive.

use arrow_array::RecordBatch;
use futures::future::join_all;
use merganser::{Client, Error, IngestAck, IngestMode};
use merganser_tests::{TestServer, Upload, ids, integer, integers, put, refused, texts, wide};
use tokio::task::JoinHandle;
use tonic::Code;

/// Rows of about a kilobyte in one batch, which is about what a client sends in one message.
const BATCH: i64 = 2_000;

/// Sends `batches` batches with the ids from `first` on.
fn bulk(client: &Client, first: i64, batches: i64) -> JoinHandle<Result<IngestAck, Error>> {
    let upload = Upload::start(client, "t", wide([]).schema());
    for batch in 0..batches {
        let from = first + batch * BATCH;
        upload.send(wide(from..from + BATCH));
    }
    tokio::spawn(upload.finish())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_every_window_arrives_beside_small_puts_to_the_same_table() {
    // Twice about 80 MB, each more than two windows.
    const BATCHES: i64 = 40;
    let server = TestServer::start().await;
    let client = server.client().await;
    let bulks = [bulk(&client, 0, BATCHES), bulk(&server.client().await, BATCHES * BATCH, BATCHES)];
    let mut small = 0;
    while small < 10 || !bulks.iter().all(JoinHandle::is_finished) {
        small += 1;
        put(&client, "t", wide([-small])).await.unwrap();
    }
    for bulk in bulks {
        let ack = bulk.await.unwrap().unwrap();
        assert!(ack.rows == (BATCHES * BATCH) as u64 && ack.committed && ack.commit_id > 0);
    }
    let expected = 2 * BATCHES * BATCH;
    assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE id < 0").await, small);
    assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE id >= 0").await, expected);
    assert_eq!(integer(&client, "SELECT count(DISTINCT id) FROM t").await, expected + small);
    assert_eq!(integer(&client, "SELECT max(id) FROM t").await, expected - 1);
    assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE length(text) <> 1008").await, 0);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rows_of_a_bulk_upload_show_all_at_once() {
    const BATCHES: i64 = 40;
    let server = TestServer::with(|config| config.engine.bulk_bytes = 64 << 10).await;
    let client = server.client().await;
    put(&client, "t", wide([-1])).await.unwrap();
    let bulk = bulk(&server.client().await, 0, BATCHES);
    let all = 1 + BATCHES * BATCH;
    while !bulk.is_finished() {
        let reads = (0..4).map(|_| integer(&client, "SELECT count(*) FROM t"));
        for seen in join_all(reads).await {
            assert!(seen == 1 || seen == all, "{seen} rows of an upload under way");
        }
    }
    assert_eq!(bulk.await.unwrap().unwrap().rows, (BATCHES * BATCH) as u64);
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, all);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_larger_than_the_memory_for_uploads_passes_through_it() {
    let server = TestServer::with(|config| {
        config.engine.queue_bytes = 4 << 20;
        config.engine.bulk_bytes = 1 << 20;
    })
    .await;
    let client = server.client().await;
    let ack = bulk(&client, 0, 10).await.unwrap().unwrap();
    assert_eq!(ack.rows, 10 * BATCH as u64);
    assert_eq!(integer(&client, "SELECT count(DISTINCT id) FROM t").await, 10 * BATCH);
    server.shutdown().await;
}

/// A server to which nearly everything is a bulk upload.
async fn small_bulks() -> TestServer {
    TestServer::with(|config| config.engine.bulk_bytes = 1 << 10).await
}

/// Sends batches as one upload in a mode.
fn send(
    client: &Client,
    mode: IngestMode,
    batches: impl IntoIterator<Item = RecordBatch>,
) -> JoinHandle<Result<IngestAck, Error>> {
    let mut batches = batches.into_iter().peekable();
    let schema = batches.peek().map_or_else(|| ids([]).schema(), RecordBatch::schema);
    let upload = Upload::with_mode(client, "t", schema, mode);
    batches.for_each(|batch| upload.send(batch));
    tokio::spawn(upload.finish())
}

/// The ids from `first` on, in batches of these sizes over and over.
fn numbered(first: i64, total: i64, sizes: &[i64]) -> Vec<RecordBatch> {
    let (mut batches, mut next) = (Vec::new(), first);
    for size in sizes.iter().cycle() {
        let end = (next + size).min(first + total);
        batches.push(ids(next..end));
        next = end;
        if next == first + total {
            break;
        }
    }
    batches
}

/// Everything that anybody can list, and the bytes on disk, know nothing of the server's own names.
async fn nothing_of_ours(server: TestServer) {
    let client = server.client().await;
    for listing in [
        "SELECT table_name FROM information_schema.tables",
        "SELECT database_name FROM duckdb_databases()",
        "SELECT view_name FROM duckdb_views()",
        "SELECT name FROM (SHOW ALL TABLES)",
        "SELECT schema_name FROM information_schema.schemata",
    ] {
        let names = texts(&client, listing).await.unwrap();
        assert!(!names.iter().any(|name| name.contains("merganser")), "{listing}: {names:?}");
    }
    drop(client);
    let file = server.shutdown().await;
    for path in [file.path().to_owned(), file.path().with_extension("duckdb.wal")] {
        let bytes = std::fs::read(path).unwrap_or_default();
        assert!(!bytes.windows(12).any(|window| window == b"__merganser_"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_table_holds_a_bulk_upload_in_its_order_whatever_the_batches() {
    const ROWS: i64 = 1_000_000;
    for sizes in [&[1_000_i64][..], &[ROWS][..], &[122_880][..], &[1, 70_000, 300_001, 17][..]] {
        let server = small_bulks().await;
        let client = server.client().await;
        let ack = send(&client, IngestMode::Create, numbered(0, ROWS, sizes)).await.unwrap().unwrap();
        assert_eq!(ack.rows, ROWS as u64);
        assert!(integers(&client, "SELECT id FROM t").await.unwrap().into_iter().eq(0..ROWS));
        drop(client);
        nothing_of_ours(server).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_a_bulk_upload_makes_or_replaces_shows_all_at_once() {
    const ROWS: i64 = 600_000;
    let server = small_bulks().await;
    let client = server.client().await;
    let readers: Vec<_> = [server.client().await, server.client().await].into();
    let mut rows_before = None;
    for (round, mode) in
        [IngestMode::Create, IngestMode::Replace, IngestMode::Replace].into_iter().enumerate()
    {
        let rows = ROWS + round as i64;
        let upload = send(&client, mode, numbered(0, rows, &[65_536]));
        while !upload.is_finished() {
            let reads = readers.iter().map(|reader| integers(reader, "SELECT count(*) FROM t WHERE id >= 0"));
            for seen in join_all(reads).await {
                let seen = seen.ok().map(|counts| counts[0]);
                assert!(seen == rows_before || seen == Some(rows), "{seen:?} rows of an upload under way");
            }
        }
        assert_eq!(upload.await.unwrap().unwrap().rows, rows as u64);
        assert_eq!(integer(&client, "SELECT count(*) FROM t").await, rows);
        rows_before = Some(rows);
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_uploads_that_race_to_create_a_table_all_append_and_each_is_whole() {
    const ROWS: i64 = 200_000;
    let server = small_bulks().await;
    let mut racing = Vec::new();
    for loader in 0..3 {
        let rows = numbered(loader * ROWS, ROWS, &[50_000]);
        racing.push(send(&server.client().await, IngestMode::CreateOrAppend, rows));
    }
    for ack in join_all(racing).await {
        assert_eq!(ack.unwrap().unwrap().rows, ROWS as u64);
    }
    let client = server.client().await;
    assert_eq!(integer(&client, "SELECT count(DISTINCT id) FROM t").await, 3 * ROWS);
    // Each upload is in one piece and in order.
    let breaks =
        "SELECT count(*) FROM (SELECT id - lag(id) OVER (ORDER BY rowid) AS step FROM t) WHERE step <> 1";
    assert!(integer(&client, breaks).await <= 2);
    drop(client);
    nothing_of_ours(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_bulk_uploads_that_create_a_table_one_wins() {
    let server = small_bulks().await;
    let client = server.client().await;
    let uploads: Vec<_> =
        (0..2).map(|_| Upload::with_mode(&client, "t", ids([]).schema(), IngestMode::Create)).collect();
    uploads.iter().for_each(|upload| upload.send(ids(0..10_000)));
    server.bulk_uploads(2).await;
    let answers = join_all(uploads.into_iter().map(Upload::finish)).await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 1));
    for answer in lost {
        refused(answer, Code::AlreadyExists, "TABLE_EXISTS");
    }
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 10_000);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_staged_for_a_new_table_go_into_one_that_was_made_meanwhile() {
    let server = small_bulks().await;
    let client = server.client().await;
    for (create, outcome) in [
        // As it is; with casts, a default and other capitals; with a constraint; without the column.
        ("CREATE TABLE t (id BIGINT)", Ok("199990000 0")),
        ("CREATE TABLE t (x INTEGER DEFAULT 7, ID INTEGER)", Ok("199990000 140000")),
        ("CREATE TABLE t (id BIGINT CHECK (id < 19999))", Err((Code::InvalidArgument, "CONSTRAINT"))),
        ("CREATE TABLE t (other BIGINT)", Err((Code::InvalidArgument, "SCHEMA_MISMATCH"))),
    ] {
        let upload = Upload::start(&client, "t", ids([]).schema());
        upload.send(ids(0..10_000));
        server.bulk_uploads(1).await;
        client.execute(create).await.unwrap();
        upload.send(ids(10_000..20_000));
        let answer = upload.finish().await;
        match outcome {
            Ok(sums) => {
                assert_eq!(answer.unwrap().rows, 20_000);
                let extra = if create.contains("DEFAULT") { "sum(x)" } else { "0" };
                let asked = format!("SELECT concat(sum(id), ' ', {extra}) FROM t");
                assert_eq!(texts(&client, &asked).await.unwrap(), [sums]);
                assert!(integers(&client, "SELECT id FROM t").await.unwrap().into_iter().eq(0..20_000));
            }
            Err((code, slug)) => {
                refused(answer, code, slug);
                assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 0);
            }
        }
        client.execute("DROP TABLE t").await.unwrap();
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_that_trickles_holds_up_no_other_write() {
    let server = small_bulks().await;
    let (loader, client) = (server.client().await, server.client().await);
    put(&client, "t", ids(0..10)).await.unwrap();
    put(&client, "other", ids(0..10)).await.unwrap();
    let upload = Upload::with_mode(&loader, "t", ids([]).schema(), IngestMode::Replace);
    for round in 0..5 {
        upload.send(ids(round * 1_000..(round + 1) * 1_000));
        server.bulk_uploads(1).await;
        client.execute("UPDATE other SET id = id + 1").await.unwrap();
        client.execute(&format!("ALTER TABLE other ADD COLUMN c{round} INTEGER")).await.unwrap();
        // The table itself goes on as it is, and may even be changed.
        client.execute("UPDATE t SET id = id + 1").await.unwrap();
        put(&client, "t", ids([0])).await.unwrap();
    }
    client.execute("ALTER TABLE t ADD COLUMN more INTEGER").await.unwrap();
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 15);
    assert_eq!(upload.finish().await.unwrap().rows, 5_000);
    assert!(integers(&client, "SELECT * FROM t").await.unwrap().into_iter().eq(0..5_000));
    assert_eq!(texts(&client, "SELECT column_name FROM (DESCRIBE t)").await.unwrap(), ["id"]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replacements_beside_small_puts_leave_whole_units_only() {
    let server = small_bulks().await;
    let client = server.client().await;
    for _ in 0..5 {
        let upload = send(&client, IngestMode::Replace, numbered(0, 200_000, &[20_000]));
        let beside = server.client().await;
        let mut refusals = 0;
        while !upload.is_finished() {
            // A put that meets the moment of the change may be refused; it is never in by half.
            refusals += i64::from(put(&beside, "t", ids([-1, -2])).await.is_err());
        }
        assert_eq!(upload.await.unwrap().unwrap().rows, 200_000, "after {refusals} refusals");
        assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE id >= 0").await, 200_000);
        let halves = "SELECT count(*) FILTER (id = -1) - count(*) FILTER (id = -2) FROM t";
        assert_eq!(integer(&client, halves).await, 0);
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_upload_that_cannot_make_its_table_is_refused_before_its_end() {
    let server = small_bulks().await;
    let client = server.client().await;
    client.execute("CREATE VIEW t AS SELECT 1 AS id").await.unwrap();
    let upload = Upload::with_mode(&client, "t", ids([]).schema(), IngestMode::Replace);
    upload.send(ids(0..1_000));
    let text = refused(upload.refusal().await, Code::NotFound, "NOT_FOUND");
    assert!(text.contains("of type View"), "{text}");
    server.shutdown().await;
}
