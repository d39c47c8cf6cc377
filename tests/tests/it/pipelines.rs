//! Pipelines: what is new in one table goes into another, once, by a schedule or on demand.

use std::{fs, path::Path, process::Command, time::Duration};

use merganser::Client;
use merganser_server::engine::JobClock;
use merganser_tests::{DatabaseFile, TestServer, configure, integer, refused, soon, texts, until};
use tempfile::TempDir;
use tonic::Code;

/// A database beside the server's own, and pipelines into it.
struct Beside {
    folder: TempDir,
    pipeline: String,
    clock: JobClock,
}

impl Beside {
    fn new(pipeline: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, pipeline: pipeline.into(), clock: JobClock::standing() }
    }

    async fn start(&self) -> TestServer {
        self.open(DatabaseFile::new(), "CREATE TABLE events (id BIGINT, ts TIMESTAMP, v VARCHAR)").await
    }

    async fn open(&self, file: DatabaseFile, init: &str) -> TestServer {
        let folder = self.folder.path().display();
        let toml = format!(
            "[[catalog]]\nname = 'archive'\ntype = 'duckdb'\npath = '{folder}/archive.db'\n\n\
             [[pipeline]]\nname = 'events'\n{}",
            self.pipeline
        );
        TestServer::open(file, |config| {
            configure(config, &toml);
            config.engine.job_clock = self.clock.clone();
            config.engine.init_sql = Some(merganser_server::engine::Script {
                name: "init".into(),
                sql: init.replace("TABLE", "TABLE IF NOT EXISTS"),
            });
        })
        .await
    }
}

async fn insert(client: &Client, rows: &str) {
    client.execute(&format!("INSERT INTO events VALUES {rows}")).await.unwrap();
}

async fn moved(client: &Client) -> Vec<String> {
    texts(client, "SELECT concat(id, v) FROM archive.main.events ORDER BY id, v").await.unwrap()
}

const BY_ID: &str = "from = 'events'\nincremental = 'id'\ninto = 'archive.main.events'";

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_moved_once_and_again_after_a_restart() {
    let beside = Beside::new(BY_ID);
    let server = beside.start().await;
    let client = server.client().await;
    insert(&client, "(1, now()::TIMESTAMP, 'a'), (2, now()::TIMESTAMP, 'b')").await;
    assert_eq!(client.run_pipeline("events").await.unwrap(), 2);
    assert_eq!(client.run_pipeline("EVENTS").await.unwrap(), 0);
    insert(&client, "(3, now()::TIMESTAMP, 'c')").await;
    let file = server.shutdown().await;

    let server = beside.open(file, "SELECT 1").await;
    let client = server.client().await;
    assert_eq!(client.run_pipeline("events").await.unwrap(), 1);
    assert_eq!(moved(&client).await, ["1a", "2b", "3c"]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_with_a_known_key_takes_the_old_ones_place_and_late_rows_are_found() {
    let beside = Beside::new(
        "from = 'SELECT * FROM events'\nincremental = 'ts'\noverlap = '1 hour'\nkey = ['id']\n\
         into = 'archive.main.events'",
    );
    let server = beside.start().await;
    let client = server.client().await;
    insert(&client, "(1, '2026-01-01 10:00', 'a'), (2, '2026-01-01 11:00', 'b')").await;
    assert_eq!(client.run_pipeline("events").await.unwrap(), 2);
    // Nothing has changed, although the last hour is read again.
    assert_eq!(client.run_pipeline("events").await.unwrap(), 0);
    insert(
        &client,
        "(3, '2026-01-01 10:30', 'late'), (1, '2026-01-01 12:00', 'new'), (1, '2026-01-01 11:30', 'x')",
    )
    .await;
    assert_eq!(client.run_pipeline("events").await.unwrap(), 2);
    assert_eq!(moved(&client).await, ["1new", "2b", "3late"]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_database_has_moved_says_nothing_of_the_rows_of_another() {
    for key in ["", "\nkey = ['id', 'v']"] {
        let beside = Beside::new(&format!("{BY_ID}{key}"));
        let server = beside.start().await;
        let client = server.client().await;
        insert(&client, "(1, now()::TIMESTAMP, 'a'), (9, now()::TIMESTAMP, 'a')").await;
        assert_eq!(client.run_pipeline("events").await.unwrap(), 2);
        let first = server.shutdown().await;

        let server = beside.start().await;
        let client = server.client().await;
        insert(&client, "(1, now()::TIMESTAMP, 'b'), (2, now()::TIMESTAMP, 'b')").await;
        assert_eq!(client.run_pipeline("events").await.unwrap(), 2);
        assert_eq!(client.run_pipeline("events").await.unwrap(), 0);
        server.shutdown().await;

        let server = beside.open(first, "SELECT 1").await;
        let client = server.client().await;
        insert(&client, "(8, now()::TIMESTAMP, 'late'), (10, now()::TIMESTAMP, 'a')").await;
        assert_eq!(client.run_pipeline("events").await.unwrap(), 1);
        assert_eq!(moved(&client).await, ["1a", "1b", "2b", "9a", "10a"]);
        server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_does_not_wait_for_a_server_that_moves_other_rows() {
    let beside = Beside::new(&format!("{BY_ID}\nevery = '1h'"));
    let server = beside.start().await;
    let client = server.client().await;
    insert(&client, "(1, now()::TIMESTAMP, 'a')").await;
    assert_eq!(client.run_pipeline("events").await.unwrap(), 1);
    server.shutdown().await;

    let server = beside.start().await;
    let client = server.client().await;
    insert(&client, "(1, now()::TIMESTAMP, 'b')").await;
    let set = "SELECT count(*) FROM merganser_jobs() WHERE next_at IS NOT NULL AND last_begun_at IS NULL";
    until("its time is set", async || integer(&client, set).await == 1).await;
    beside.clock.advance(Duration::from_secs(600));
    let done = "SELECT count(*) FROM merganser_jobs() WHERE last_outcome = 'done' AND last_changed = 1";
    until("the first run", async || integer(&client, done).await == 1).await;
    assert_eq!(moved(&client).await, ["1a", "1b"]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_follows_the_clock_and_shows_its_runs() {
    let beside = Beside::new(&format!("{BY_ID}\nevery = '1h'"));
    let server = beside.start().await;
    let client = server.client().await;
    insert(&client, "(1, now()::TIMESTAMP, 'a')").await;
    let runs = "SELECT count(*) FROM merganser_jobs() WHERE job = 'events' AND kind = 'pipeline' \
                AND catalog = 'archive' AND every_seconds = 3600";
    let set = format!("{runs} AND last_begun_at IS NULL AND next_at IS NOT NULL");
    until("its time is set", async || integer(&client, &set).await == 1).await;
    // The first run is not as late as the others.
    beside.clock.advance(Duration::from_secs(599));
    assert_eq!(integer(&client, &format!("{runs} AND last_begun_at IS NULL")).await, 1);
    beside.clock.advance(Duration::from_secs(1));
    let done = format!("{runs} AND last_outcome = 'done' AND last_changed = 1");
    until("the first run", async || integer(&client, &done).await == 1).await;
    insert(&client, "(2, now()::TIMESTAMP, 'b'), (3, now()::TIMESTAMP, 'c')").await;
    let next = format!("{runs} AND next_at > last_begun_at");
    until("the next run is planned", async || integer(&client, &next).await == 1).await;
    beside.clock.advance(Duration::from_secs(3600));
    let again = format!("{runs} AND last_changed = 2 AND last_detail = 'moved 2 rows'");
    until("the second run", async || integer(&client, &again).await == 1).await;
    assert_eq!(moved(&client).await.len(), 3);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_goes_on_after_a_restart() {
    let beside = Beside::new(&format!("{BY_ID}\nevery = '24h'"));
    let server = beside.start().await;
    let client = server.client().await;
    insert(&client, "(1, now()::TIMESTAMP, 'a')").await;
    assert_eq!(client.run_pipeline("events").await.unwrap(), 1);
    insert(&client, "(2, now()::TIMESTAMP, 'b')").await;
    let mut file = server.shutdown().await;
    // Started again after 20 hours, it runs four hours later; after 30 more, at once.
    for (hours, later, rows) in [(20, 4, 2), (30, 0, 3)] {
        beside.clock.advance(Duration::from_secs(hours * 3600));
        let server = beside.open(file, "SELECT 1").await;
        let client = server.client().await;
        if later > 0 {
            let due =
                "SELECT count(*) FROM merganser_jobs() WHERE date_diff('hour', last_begun_at, next_at) = 24";
            until("its time is set", async || integer(&client, due).await == 1).await;
            beside.clock.advance(Duration::from_secs(later * 3600));
        }
        let count = "SELECT count(*) FROM archive.main.events";
        until("it has run", async || integer(&client, count).await == rows).await;
        insert(&client, &format!("({}, now()::TIMESTAMP, 'c')", rows + 1)).await;
        file = server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_columns_of_the_source_are_added() {
    let beside = Beside::new(BY_ID);
    let server = beside.start().await;
    let client = server.client().await;
    insert(&client, "(1, now()::TIMESTAMP, 'a')").await;
    client.run_pipeline("events").await.unwrap();
    client.execute("ALTER TABLE events ADD COLUMN more INTEGER DEFAULT 7").await.unwrap();
    insert(&client, "(2, now()::TIMESTAMP, 'b', 8)").await;
    assert_eq!(client.run_pipeline("events").await.unwrap(), 1);
    assert_eq!(integer(&client, "SELECT sum(more)::BIGINT FROM archive.main.events").await, 8);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_job_is_refused() {
    let beside = Beside::new(BY_ID);
    let server = beside.start().await;
    let client = server.client().await;
    refused(client.run_pipeline("others").await, Code::NotFound, "JOB_NOT_FOUND");
    refused(client.maintain("archive").await, Code::NotFound, "JOB_NOT_FOUND");
    refused(client.execute("RUN PIPELINE").await, Code::InvalidArgument, "SYNTAX");
    server.shutdown().await;
}

const BY_TIME: &str = "from = 'events'\nincremental = 'ts'\nkey = ['id']\ninto = 'archive.main.events'";

async fn detail(client: &Client) -> String {
    texts(client, "SELECT concat(last_outcome, ': ', last_detail) FROM merganser_jobs()")
        .await
        .unwrap()
        .remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_nothing_comes_after_are_left_out_and_counted() {
    let beside = Beside::new(BY_TIME);
    let server = beside.start().await;
    let client = server.client().await;
    insert(&client, "(1, '2026-01-01', 'a'), (2, 'infinity', 'x'), (3, '-infinity', 'y'), (4, NULL, 'b')")
        .await;
    assert_eq!(client.run_pipeline("events").await.unwrap(), 2);
    assert_eq!(detail(&client).await, "done: moved 2 rows, left out 2 with infinity or NaN in \"ts\"");
    insert(&client, "(5, '2026-01-02', 'c')").await;
    assert_eq!(client.run_pipeline("events").await.unwrap(), 1);
    assert_eq!(detail(&client).await, "done: moved 1 row, left out 1 with infinity or NaN in \"ts\"");
    assert_eq!(moved(&client).await, ["1a", "4b", "5c"]);
    client.execute("DELETE FROM events WHERE ts = 'infinity'").await.unwrap();
    assert_eq!(client.run_pipeline("events").await.unwrap(), 0);
    assert_eq!(detail(&client).await, "done: moved 0 rows");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_without_a_key_fails_the_run_and_is_named() {
    let beside = Beside::new(BY_TIME);
    let server = beside.start().await;
    let client = server.client().await;
    insert(&client, "(1, '2026-01-01', 'a'), (NULL, '2026-01-02', 'b')").await;
    let message = refused(client.run_pipeline("events").await, Code::InvalidArgument, "SCHEMA_MISMATCH");
    assert!(message.contains("column \"id\"") && message.contains("NULL"), "{message}");
    let detail = detail(&client).await;
    assert!(detail.starts_with("failed: ") && detail.contains("column \"id\""), "{detail}");
    client.execute("DELETE FROM events WHERE id IS NULL").await.unwrap();
    assert_eq!(client.run_pipeline("events").await.unwrap(), 1);
    server.shutdown().await;
}

/// A source that has nothing to read until somebody writes: a pipe. The run is in the middle of reading it from the moment
/// at which it can be opened for writing.
fn pipe_in(folder: &Path) -> String {
    let pipe = folder.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    pipe.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_source_holds_no_write_up() {
    let mut beside = Beside::new("");
    let pipe = pipe_in(beside.folder.path());
    beside.pipeline = format!(
        "from = \"FROM read_csv('{pipe}', columns = {{id: 'BIGINT', v: 'VARCHAR'}}, auto_detect = false, header = false)\"\n\
         incremental = 'id'\nkey = ['id']\ninto = 'copied'"
    );
    let server = beside.start().await;
    let (client, other) = (server.client().await, server.client().await);
    let running = tokio::spawn(async move { client.run_pipeline("events").await });
    let opening = tokio::task::spawn_blocking(move || fs::OpenOptions::new().write(true).open(pipe));
    let mut source = soon("the run to read its source", opening).await.unwrap().unwrap();

    insert(&other, "(1, now()::TIMESTAMP, 'a')").await;
    other.execute("CREATE TABLE copied (v VARCHAR, id BIGINT, more INTEGER DEFAULT 7)").await.unwrap();
    std::io::Write::write_all(&mut source, b"1,a\n2,b\n2,c\n").unwrap();
    drop(source);
    assert_eq!(running.await.unwrap().unwrap(), 2);
    let copied = texts(&other, "SELECT concat(id, v, more) FROM copied ORDER BY id").await.unwrap();
    assert_eq!(copied, ["1a7", "2c7"]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_news_waits_for_no_write() {
    let beside = Beside::new("from = 'events'\nincremental = 'id'\nkey = ['id']\ninto = 'copied'");
    let server = beside.start().await;
    let (client, writer) = (server.client().await, server.client().await);
    insert(&client, "(1, now()::TIMESTAMP, 'a')").await;
    assert_eq!(client.run_pipeline("events").await.unwrap(), 1);
    writer.execute("BEGIN; DELETE FROM copied").await.unwrap();
    assert_eq!(client.run_pipeline("events").await.unwrap(), 0);
    writer.execute("ROLLBACK").await.unwrap();
    server.shutdown().await;
}

/// The server started again with another pipeline of the same name.
async fn moved_on(beside: &mut Beside, file: DatabaseFile, pipeline: &str) -> (TestServer, Client) {
    beside.pipeline = pipeline.into();
    let server = beside.open(file, "SELECT 1").await;
    let client = server.client().await;
    (server, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_gone_gets_all_rows_again() {
    let beside = Beside::new(BY_ID);
    let server = beside.start().await;
    let client = server.client().await;
    insert(&client, "(1, now()::TIMESTAMP, 'a'), (2, now()::TIMESTAMP, 'b')").await;
    assert_eq!(client.run_pipeline("events").await.unwrap(), 2);
    client.execute("DROP TABLE archive.main.events").await.unwrap();
    insert(&client, "(3, now()::TIMESTAMP, 'c')").await;
    assert_eq!(client.run_pipeline("events").await.unwrap(), 3);
    let reason = "because the table that they go to was not there";
    assert_eq!(detail(&client).await, format!("done: moved 3 rows from the first one on, {reason}"));
    assert_eq!(moved(&client).await, ["1a", "2b", "3c"]);
    // Also where the last row is the same as before.
    client.execute("DROP TABLE archive.main.events").await.unwrap();
    assert_eq!(client.run_pipeline("events").await.unwrap(), 3);
    assert_eq!(client.run_pipeline("events").await.unwrap(), 0);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_table_gets_all_rows_and_without_a_key_only_an_empty_one() {
    let mut beside = Beside::new(BY_ID);
    let server = beside.start().await;
    let client = server.client().await;
    insert(&client, "(1, now()::TIMESTAMP, 'a'), (2, now()::TIMESTAMP, 'b')").await;
    client.run_pipeline("events").await.unwrap();
    let (server, client) =
        moved_on(&mut beside, server.shutdown().await, &BY_ID.replace("main.events", "main.more")).await;
    assert_eq!(client.run_pipeline("events").await.unwrap(), 2);
    assert!(detail(&client).await.ends_with("because the table that they go to was not there"));
    assert_eq!(client.run_pipeline("events").await.unwrap(), 0);

    let (server, client) = moved_on(&mut beside, server.shutdown().await, BY_ID).await;
    let message = refused(client.run_pipeline("events").await, Code::InvalidArgument, "SCHEMA_MISMATCH");
    assert!(message.contains("it has no key"), "{message}");
    assert_eq!(moved(&client).await, ["1a", "2b"]);

    let keyed = format!("{BY_ID}\nkey = ['id']");
    let (server, client) = moved_on(&mut beside, server.shutdown().await, &keyed).await;
    assert_eq!(client.run_pipeline("events").await.unwrap(), 0);
    insert(&client, "(3, now()::TIMESTAMP, 'c')").await;
    assert_eq!(client.run_pipeline("events").await.unwrap(), 1);
    assert_eq!(detail(&client).await, "done: moved 1 row", "that it is this table is written down");
    assert_eq!(moved(&client).await, ["1a", "2b", "3c"]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_column_that_tells_what_is_new_begins_with_the_first_row() {
    let mut beside = Beside::new(BY_TIME);
    let server = beside.start().await;
    let client = server.client().await;
    insert(&client, "(2000, '2026-01-01', 'a')").await;
    assert_eq!(client.run_pipeline("events").await.unwrap(), 1);
    insert(&client, "(1, '2025-01-01', 'late')").await;
    assert_eq!(client.run_pipeline("events").await.unwrap(), 0);
    let by_id = BY_TIME.replace("'ts'", "'id'");
    let (server, client) = moved_on(&mut beside, server.shutdown().await, &by_id).await;
    assert_eq!(client.run_pipeline("events").await.unwrap(), 1);
    let reason = "because another column tells now which are new";
    assert_eq!(detail(&client).await, format!("done: moved 1 row from the first one on, {reason}"));
    assert_eq!(moved(&client).await, ["1late", "2000a"]);
    server.shutdown().await;
}

fn stopped(ended: Result<u64, merganser::Error>) {
    let message = refused(ended, Code::DeadlineExceeded, "JOB_TIMEOUT");
    assert!(message.contains("3600s"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_hears_no_interrupt_is_given_up_and_nobody_waits_for_it() {
    let mut beside = Beside::new("");
    let pipe = pipe_in(beside.folder.path());
    let columns = "columns = {id: 'BIGINT', v: 'VARCHAR'}, auto_detect = false, header = false";
    beside.pipeline = format!(
        "from = \"FROM read_csv('{pipe}', {columns})\"\nincremental = 'id'\ninto = 'archive.main.events'\n\
         limit = '1h'"
    );
    let server = beside.start().await;
    let (client, other) = (server.client().await, server.client().await);
    let running = tokio::spawn(async move { client.run_pipeline("events").await });
    let opening = tokio::task::spawn_blocking(move || fs::OpenOptions::new().write(true).open(pipe));
    let source = soon("the run to read its source", opening).await.unwrap().unwrap();
    // An hour, and the minute in which it may end.
    beside.clock.advance(Duration::from_secs(3660));
    stopped(soon("the run is given up", running).await.unwrap());
    stopped(soon("the next one does not wait", other.run_pipeline("events")).await);
    assert!(detail(&other).await.starts_with("failed: a run of the job went on for longer than 3600s"));
    drop(source);
    server.shutdown().await;
}
