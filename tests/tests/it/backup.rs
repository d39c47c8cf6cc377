//! Backups of a database in use.

use std::{fs, path::Path};

use merganser::{Client, Error};
use merganser_tests::{TestServer, integer, integers, put, put_keyed, refused, texts, unit, until};
use tempfile::TempDir;
use tokio::{spawn, sync::watch, task::JoinHandle};
use tonic::Code;

const ROWS: usize = 7;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A server on a backup.
async fn restored(backup: &Path) -> TestServer {
    let path = backup.to_owned();
    TestServer::with(move |config| config.engine.path = Some(path)).await
}

/// The names of what is in a folder.
fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Puts unit after unit, numbered from `first`, until told to stop; returns how many were acknowledged.
async fn load(client: Client, first: i64, told: watch::Sender<i64>, stop: watch::Receiver<bool>) -> i64 {
    let mut count = 0;
    while !*stop.borrow() {
        put(&client, "t", unit(first + count, ROWS)).await.unwrap();
        count += 1;
        told.send_replace(count);
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_holds_whole_units_and_of_each_loader_the_first_ones() {
    const LOADERS: i64 = 4;
    const APART: i64 = 1_000_000;
    let server = TestServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("copy.db");
    let (stop, stopped) = watch::channel(false);
    let loaders: Vec<(watch::Receiver<i64>, JoinHandle<i64>)> = {
        let mut loaders = Vec::new();
        for loader in 0..LOADERS {
            let (told, counts) = watch::channel(0);
            let running = load(server.client().await, loader * APART, told, stopped.clone());
            loaders.push((counts, spawn(running)));
        }
        loaders
    };
    for (counts, _) in &loaders {
        counts.clone().wait_for(|count| *count >= 10).await.unwrap();
    }
    let before: Vec<i64> = loaders.iter().map(|(counts, _)| *counts.borrow()).collect();
    let rows = server.client().await.backup(text(&file)).await.unwrap();
    // The loaders go on.
    for ((counts, _), before) in loaders.iter().zip(&before) {
        counts.clone().wait_for(|count| *count > before + 10).await.unwrap();
    }
    stop.send_replace(true);
    let mut acknowledged = 0;
    for (_, running) in loaders {
        acknowledged += running.await.unwrap();
    }
    let client = server.client().await;
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, acknowledged * ROWS as i64);
    assert_eq!(names(&folder), ["copy.db"]);

    let copy = restored(&file).await;
    let client = copy.client().await;
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, rows as i64);
    let halves = format!("SELECT unit FROM t GROUP BY unit HAVING count(DISTINCT part) <> {ROWS}");
    assert!(integers(&client, &halves).await.unwrap().is_empty());
    for (loader, before) in (0..).zip(before) {
        let units =
            format!("SELECT DISTINCT unit % {APART} u FROM t WHERE unit // {APART} = {loader} ORDER BY u");
        let units = integers(&client, &units).await.unwrap();
        assert!(units.len() as i64 >= before, "loader {loader}: {} of {before} units", units.len());
        assert!(units.iter().copied().eq(0..units.len() as i64), "loader {loader} has gaps: {units:?}");
    }
    put(&client, "t", unit(-1, ROWS)).await.unwrap();
    drop(client);
    copy.shutdown().await;
    server.shutdown().await;
}

/// A bit of everything that a database may hold; foreign keys point against the order of names.
const EVERYTHING: &str = "
    CREATE SCHEMA other;
    CREATE SEQUENCE numbers START 5;
    CREATE TYPE mood AS ENUM ('fine', 'so so');
    CREATE TABLE parent (id INT PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE child (id BIGINT DEFAULT nextval('numbers'), parent INT REFERENCES Parent (id), mood mood,
        twice INT GENERATED ALWAYS AS (parent * 2), CHECK (id > 0));
    CREATE TABLE a_tree (id INT PRIMARY KEY, above INT REFERENCES a_tree (id), name TEXT);
    CREATE TABLE other.\"odd.na\"\"me\" (x INT, nested STRUCT(a INT[], b MAP(TEXT, INT)));
    CREATE INDEX by_x ON other.\"odd.na\"\"me\" (x);
    CREATE MACRO plus_one(a) AS a + 1;
    CREATE MACRO parents(a) AS TABLE SELECT * FROM parent WHERE id = a;
    CREATE VIEW children AS SELECT plus_one(id) AS next FROM child;
    CREATE VIEW all_children AS SELECT * FROM children;
    COMMENT ON TABLE parent IS 'above';
    INSERT INTO parent VALUES (1, 'x'), (2, 'y');
    INSERT INTO child (parent, mood) VALUES (1, 'fine'), (2, 'so so');
    INSERT INTO a_tree VALUES (3, NULL, 'root');
    INSERT INTO a_tree VALUES (2, 3, 'middle');
    INSERT INTO a_tree VALUES (1, 2, 'leaf');
    INSERT INTO other.\"odd.na\"\"me\" VALUES (1, {'a': [1], 'b': MAP {'k': 1}}), (NULL, NULL)";

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_holds_everything_and_goes_on_where_it_was_made() {
    let server = TestServer::start().await;
    let client = server.client().await;
    client.execute(EVERYTHING).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("it's a copy.db");
    assert_eq!(client.backup(text(&file)).await.unwrap(), 9);
    let copy = restored(&file).await;
    let copied = copy.client().await;
    for sql in [
        "SELECT concat_ws('|', schema_name, table_name, sql, comment) s FROM duckdb_tables() WHERE NOT internal ORDER BY s",
        "SELECT concat_ws('|', schema_name, view_name, sql) s FROM duckdb_views() WHERE NOT internal ORDER BY s",
        "SELECT concat_ws('|', schema_name, index_name, sql) s FROM duckdb_indexes() ORDER BY s",
        "SELECT concat_ws('|', table_name, constraint_type, constraint_text) s FROM duckdb_constraints() ORDER BY s",
        "SELECT concat_ws('|', function_name, macro_definition) s FROM duckdb_functions() WHERE NOT internal ORDER BY s",
        "SELECT sql FROM duckdb_sequences() ORDER BY sql",
        "SELECT child::VARCHAR FROM child ORDER BY id",
        "SELECT a_tree::VARCHAR FROM a_tree ORDER BY id",
        "SELECT t::VARCHAR FROM other.\"odd.na\"\"me\" t ORDER BY x",
        "SELECT next::VARCHAR FROM all_children ORDER BY next",
        "SELECT name FROM parents(2)",
    ] {
        let original = texts(&client, sql).await.unwrap();
        assert!(!original.is_empty(), "{sql}");
        assert_eq!(texts(&copied, sql).await.unwrap(), original, "{sql}");
    }
    // The sequence goes on, and keys are kept.
    copied.execute("INSERT INTO child (parent, mood) VALUES (1, 'fine')").await.unwrap();
    assert_eq!(integer(&copied, "SELECT max(id) FROM child").await, 7);
    refused(
        copied.execute("INSERT INTO child (parent) VALUES (9)").await,
        Code::InvalidArgument,
        "CONSTRAINT",
    );
    refused(copied.execute("INSERT INTO parent VALUES (1, 'z')").await, Code::AlreadyExists, "DUPLICATE_KEY");
    drop(copied);
    copy.shutdown().await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_may_not_be_is_refused_and_leaves_nothing() {
    let server = TestServer::start().await;
    let client = server.client().await;
    put(&client, "t", unit(1, ROWS)).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&folder.path().join(name)).to_owned();
    fs::write(at("taken.db"), "x").unwrap();
    refused(client.backup(&at("taken.db")).await, Code::AlreadyExists, "ALREADY_EXISTS");
    assert_eq!(fs::read(at("taken.db")).unwrap(), b"x");
    let own = text(server.path()).to_owned();
    refused(client.backup(&own).await, Code::PermissionDenied, "NOT_ALLOWED");
    for file in ["copy.db", "./copy.db", "../copy.db", ""] {
        let text = refused(client.backup(file).await, Code::InvalidArgument, "BAD_PATH");
        assert!(text.contains("must be absolute"), "{text}");
    }
    for file in [format!("{own}.wal"), at("copy.db.wal"), at("copy.db/")] {
        refused(client.backup(&file).await, Code::InvalidArgument, "BAD_PATH");
    }
    refused(client.backup(&at("nowhere/copy.db")).await, Code::InvalidArgument, "IO");
    for sql in ["BACKUP DATABASE", "BACKUP DATABASE TO '/x'; SELECT 1"] {
        refused(client.execute(sql).await, Code::InvalidArgument, "SYNTAX");
    }
    assert_eq!(names(&folder), ["taken.db"]);
    drop(client);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_cancelled_leaves_no_file() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let many = "CREATE TABLE many AS SELECT range id, md5(range::VARCHAR) hash FROM range(3000000)";
    client.execute(many).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = text(&folder.path().join("copy.db")).to_owned();
    let running = spawn({
        let client = client.clone();
        async move { client.backup(&file).await }
    });
    until("the backup has begun", async || !names(&folder).is_empty()).await;
    running.abort();
    until("nothing is left", async || names(&folder).is_empty()).await;
    server.no_reads_left().await;
    // Nothing is left in the server either.
    let attached = "SELECT count(*) FROM duckdb_databases() WHERE NOT internal";
    assert_eq!(integer(&client, attached).await, 1);
    put(&client, "t", unit(1, ROWS)).await.unwrap();
    drop(client);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_can_be_asked_for_in_any_way_and_inside_a_transaction() {
    let server = TestServer::start().await;
    let client = server.client().await;
    put(&client, "t", unit(1, ROWS)).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let sql = |name: &str| format!("BACKUP DATABASE TO '{}'", text(&folder.path().join(name)));
    let asked = client.query(&sql("query.db")).await.unwrap();
    assert_eq!(asked.affected_rows(), Some(ROWS as i64));
    // It holds what was committed, and the transaction goes on.
    client.execute("BEGIN").await.unwrap();
    client.execute("DELETE FROM t").await.unwrap();
    assert_eq!(client.execute(&sql("transaction.db")).await.unwrap(), ROWS as i64);
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 0);
    client.execute("ROLLBACK").await.unwrap();
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, ROWS as i64);
    let read_only =
        TestServer::open(server_file(server, client).await, |config| config.engine.read_only = true);
    let read_only = read_only.await;
    let client = read_only.client().await;
    let refusal: Result<u64, Error> = client.backup(text(&folder.path().join("read-only.db"))).await;
    refused(refusal, Code::PermissionDenied, "READ_ONLY");
    drop(client);
    read_only.shutdown().await;
}

async fn server_file(server: TestServer, client: Client) -> merganser_tests::DatabaseFile {
    drop(client);
    server.shutdown().await
}

#[tokio::test(flavor = "multi_thread")]
async fn loaders_go_on_with_a_backup_where_its_ledger_stands() {
    let server = TestServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("copy.db");
    let flight = server.flight().await;
    put_keyed(&flight, "t", "a/1/1", vec![unit(1, ROWS)]).await.unwrap();
    server.client().await.backup(text(&file)).await.unwrap();
    put_keyed(&flight, "t", "a/1/2", vec![unit(2, ROWS)]).await.unwrap();
    server.shutdown().await;

    let server = restored(&file).await;
    let flight = server.flight().await;
    // What came after the backup is not in it, and is sent again.
    for (key, number, duplicate) in [("a/1/1", 1, true), ("a/1/2", 2, false), ("a/1/3", 3, false)] {
        let answer = put_keyed(&flight, "t", key, vec![unit(number, ROWS)]).await.unwrap();
        assert_eq!(answer.duplicate, duplicate, "{key}");
    }
    assert_eq!(integer(&server.client().await, "SELECT count(*) FROM t").await, 3 * ROWS as i64);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_makes_one() {
    let server = TestServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("copy.db");
    put(&server.client().await, "t", unit(1, ROWS)).await.unwrap();
    let command = async |file: &Path| {
        let url = format!("grpc://{}", server.address());
        tokio::process::Command::new(env!("CARGO_BIN_EXE_merganser-under-test"))
            .args(["--url", &url, "backup", text(file)])
            .output()
            .await
            .unwrap()
    };
    let made = command(&file).await;
    assert!(made.status.success(), "{made:?}");
    assert!(String::from_utf8_lossy(&made.stdout).contains("7 rows"), "{made:?}");
    for (file, slug) in [(file.as_path(), "ALREADY_EXISTS"), (Path::new("copy.db"), "absolute")] {
        let refused = command(file).await;
        assert!(!refused.status.success(), "{refused:?}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains(slug), "{refused:?}");
    }
    server.shutdown().await;
    let copy = restored(&file).await;
    assert_eq!(integer(&copy.client().await, "SELECT count(*) FROM t").await, ROWS as i64);
    copy.shutdown().await;
}
