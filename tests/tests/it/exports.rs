//! `COPY ... TO`: where the operator lets clients write files, and nowhere else.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use merganser::Client;
use merganser_server::{
    Config,
    engine::{Outcome, Place, Statement},
};
use merganser_tests::{TestServer, configure, integer, refused, soon, texts};
use tempfile::TempDir;
use tonic::Code;

/// A folder to export to, `out`, and beside it one that is nobody's business.
struct Folders {
    root: PathBuf,
    _kept: TempDir,
}

impl Folders {
    fn new() -> Self {
        let kept = tempfile::tempdir().unwrap();
        let root = kept.path().canonicalize().unwrap();
        for folder in ["out", "private"] {
            fs::create_dir(root.join(folder)).unwrap();
        }
        fs::write(root.join("private/keep.csv"), "kept").unwrap();
        Self { root, _kept: kept }
    }

    fn at(&self, name: &str) -> String {
        self.root.join(name).display().to_string()
    }

    /// With `@` for the folder around all.
    fn fill(&self, sql: &str) -> String {
        sql.replace('@', self.root.to_str().unwrap())
    }

    /// Every file, from the root on.
    fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        walk(&self.root, &mut found);
        let relative = |file: &PathBuf| file.strip_prefix(&self.root).unwrap().display().to_string();
        let mut names: Vec<_> = found.iter().map(relative).collect();
        names.sort();
        names
    }

    fn lets_export(&self, config: &mut Config) {
        configure(config, &format!("export_directories = ['{}']", self.at("out")));
    }
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, found) } else { found.push(path) }
    }
}

async fn with_table(server: &TestServer) -> Client {
    let client = server.client().await;
    client.execute("CREATE TABLE t AS SELECT range AS i, '..' AS p, '..' AS q FROM range(3)").await.unwrap();
    client
}

/// Refused however it is sent: for its effect, and as something that may have rows.
async fn refused_everywhere(client: &Client, sql: &str) {
    refused(client.execute(sql).await, Code::PermissionDenied, "EXPORT_REFUSED");
    refused(texts(client, sql).await, Code::PermissionDenied, "EXPORT_REFUSED");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_exported_where_nobody_said_so() {
    let folders = Folders::new();
    let server = TestServer::start().await;
    let client = with_table(&server).await;
    for sql in ["COPY t TO '@/out/x.csv'", "COPY t TO 's3://bucket/x.csv'", "EXPORT DATABASE '@/out/all'"] {
        refused_everywhere(&client, &folders.fill(sql)).await;
    }
    let told = client.execute(&folders.fill("COPY t TO '@/out/x.csv'")).await.unwrap_err().to_string();
    assert!(told.contains("export_directories"), "{told}");
    assert_eq!(folders.files(), ["private/keep.csv"]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parquet_keeps_each_value_or_there_is_no_file() {
    let folders = Folders::new();
    let server = TestServer::with(|config| folders.lets_export(config)).await;
    let client = server.client().await;
    let setup = "CREATE TABLE t AS SELECT 9007199254740993::HUGEINT AS h, 1 AS i, TIMETZ '12:00:00+02' AS z";
    client.execute(setup).await.unwrap();
    for (number, (sql, kept)) in [
        ("COPY t TO '@/out/x.parquet'", "9007199254740993 1 12:00:00+02|DECIMAL(38,0) INTEGER VARCHAR"),
        ("COPY t (i, h) TO '@/out/x.parquet'", "1 9007199254740993|INTEGER DECIMAL(38,0)"),
        (
            "COPY (SELECT sum(i) AS s, [h] AS l, {'z': z, 'i': INTERVAL '00:00:01.000001'} AS n FROM t GROUP BY h, z) TO \
             '@/out/x.parquet'",
            "1 [9007199254740993] {'z': '12:00:00+02', 'i': '00:00:01.000001'}|DECIMAL(38,0) DECIMAL(38,0)[] \
             STRUCT(z VARCHAR, i VARCHAR)",
        ),
        (
            "CREATE TABLE late AS FROM t; COPY (SELECT h AS a, h AS a FROM late -- )\n) TO '@/out/x.parquet'",
            "9007199254740993 9007199254740993|DECIMAL(38,0) DECIMAL(38,0)",
        ),
        (
            "COPY (SELECT h, 2 AS i FROM t) TO '@/out/parts' (FORMAT parquet, PARTITION_BY (i))",
            "9007199254740993 2|DECIMAL(38,0) BIGINT",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        // A name for each: the columns of a file that is there already may be known for a moment.
        let fill = |sql: &str| folders.fill(&sql.replace("x.parquet", &format!("x{number}.parquet")));
        client.execute(&fill(sql)).await.unwrap();
        let at = if sql.contains("PARTITION") { "@/out/parts/**/*.parquet" } else { "@/out/x.parquet" };
        let read = format!(
            "SELECT concat_ws(' ', *COLUMNS(*)) || '|' || (SELECT string_agg(column_type, ' ') FROM (DESCRIBE SELECT * FROM \
             read_parquet('{at}'))) FROM read_parquet('{at}')"
        );
        assert_eq!(texts(&client, &fill(&read)).await.unwrap(), [kept], "{sql}");
    }
    let too_large =
        "COPY (SELECT 170141183460469231731687303715884105727::HUGEINT AS h) TO '@/out/y.parquet'";
    refused(client.execute(&folders.fill(too_large)).await, Code::InvalidArgument, "CONVERSION");
    let unknown = "COPY (SELECT $1 AS h) TO '@/out/z.parquet'";
    refused(client.execute(&folders.fill(unknown)).await, Code::PermissionDenied, "EXPORT_REFUSED");
    assert!(!folders.files().contains(&"out/z.parquet".into()));
    client.execute(&folders.fill("COPY t TO '@/out/t.csv'")).await.unwrap();
    let written = fs::read_to_string(folders.at("out/t.csv")).unwrap();
    assert_eq!(written, "h,i,z\n9007199254740993,1,12:00:00+02\n");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_written_under_the_directories() {
    let folders = Folders::new();
    let server = TestServer::with(|config| folders.lets_export(config)).await;
    let client = with_table(&server).await;
    for (sql, rows) in [
        ("COPY t TO '@/out/t.csv'", 3),
        ("COPY (SELECT i, ';' AS \")\" FROM t WHERE i > 0 -- )\n) TO '@/out/some.parquet'", 2),
        ("COPY main.t (i) TO '@/out/i.json' (FORMAT json, ARRAY)", 3),
        ("COPY (SELECT i % 2 AS odd, i FROM t) TO '@/out/parts' (FORMAT parquet, PARTITION_BY (odd))", 3),
        ("COPY t TO '@/out/threads' (FORMAT csv, PER_THREAD_OUTPUT, FILENAME_PATTERN 'p_{i}')", 3),
        ("COPY t TO '@/out/whole.csv' (USE_TMP_FILE false)", 3),
        ("COPY t TO '@/out/t.csv' WITH (HEADER false);", 3),
    ] {
        assert_eq!(client.execute(&folders.fill(sql)).await.unwrap(), rows, "{sql}");
    }
    assert_eq!(
        folders.files(),
        [
            "out/i.json",
            "out/parts/odd=0/data_0.parquet",
            "out/parts/odd=1/data_0.parquet",
            "out/some.parquet",
            "out/t.csv",
            "out/threads/p_0.csv",
            "out/whole.csv",
            "private/keep.csv"
        ]
    );
    assert_eq!(fs::read_to_string(folders.root.join("out/t.csv")).unwrap(), "0,..,..\n1,..,..\n2,..,..\n");
    let read = folders.fill("SELECT sum(i)::BIGINT FROM '@/out/some.parquet'");
    assert_eq!(integer(&client, &read).await, 3);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_sessions_and_transactions_export() {
    let folders = Folders::new();
    let server = TestServer::with(|config| folders.lets_export(config)).await;
    let client = with_table(&server).await;
    let run = async |sql: &str| client.execute(&folders.fill(sql)).await.unwrap();
    run("CREATE TABLE u AS FROM t; COPY u TO '@/out/script.csv'; DROP TABLE u").await;
    run("CREATE TEMP TABLE mine AS SELECT 7 AS i").await;
    run("COPY mine TO '@/out/session.csv'").await;
    run("BEGIN").await;
    run("INSERT INTO t VALUES (9, '', '')").await;
    run("COPY (SELECT i FROM t WHERE i = 9) TO '@/out/open.csv'").await;
    run("ROLLBACK").await;
    run("BEGIN TRANSACTION READ ONLY; COPY t TO '@/out/reading.csv'; COMMIT").await;
    assert_eq!(
        folders.files(),
        ["out/open.csv", "out/reading.csv", "out/script.csv", "out/session.csv", "private/keep.csv"]
    );
    assert_eq!(fs::read_to_string(folders.root.join("out/open.csv")).unwrap(), "i\n9\n");
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 3);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_may_be_in_the_query_and_not_in_the_target() {
    let folders = Folders::new();
    let server = TestServer::with(|config| folders.lets_export(config)).await;
    let client = with_table(&server).await;
    let run = async |sql: &str| {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let parameters = RecordBatch::try_from_iter([("x", column)]).unwrap();
        let statement = Statement { parameters: Some(parameters), ..Statement::new(folders.fill(sql)) };
        server.engine().run(&Place::Shared(None), statement).await
    };
    let ran = run("COPY (SELECT i FROM t WHERE i = $x) TO '@/out/one.csv'").await.unwrap();
    assert!(matches!(ran, Outcome::Changed(1)));
    assert_eq!(fs::read_to_string(folders.root.join("out/one.csv")).unwrap(), "i\n1\n");
    for sql in ["COPY t TO $x", "COPY t TO ?", "COPY t TO ('@/out/' || $x)"] {
        let told = run(sql).await.err().unwrap().to_string();
        assert!(told.contains("not understood"), "{sql}: {told}");
    }
    drop(client);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_anywhere_else() {
    let folders = Folders::new();
    let server = TestServer::with(|config| folders.lets_export(config)).await;
    let client = with_table(&server).await;
    std::os::unix::fs::symlink(folders.root.join("private"), folders.root.join("out/link")).unwrap();
    fs::hard_link(server.path(), folders.root.join("out/twin.csv")).unwrap();
    client.execute(&folders.fill("ATTACH '@/out/attached.db' AS attached")).await.unwrap();
    client.execute("CREATE TABLE attached.t AS SELECT 1 AS i").await.unwrap();
    client.execute("SET VARIABLE x = '/tmp/x'").await.unwrap();
    let before = folders.files();
    let database = server.path().display();
    for sql in [
        "COPY t TO '@/private/x.csv'",
        "COPY t TO '@/private/keep.csv'",
        "COPY t TO '@/x.csv'",
        "COPY t TO '@/out'",
        "COPY t TO '@/outside.csv'",
        "COPY t TO '@/out/../private/x.csv'",
        "COPY t TO '@/out/link/x.csv'",
        "COPY t TO '@/out/link'",
        "COPY t TO '@/out/twin.csv' (FORMAT csv, USE_TMP_FILE false)",
        "COPY t TO '@/out/attached.db' (FORMAT csv, USE_TMP_FILE false)",
        "COPY t TO '@/out/attached.db.wal' (FORMAT csv, USE_TMP_FILE false)",
        &format!("COPY t TO '{database}' (FORMAT csv, USE_TMP_FILE false)"),
        &format!("COPY t TO '{database}.wal' (FORMAT csv, USE_TMP_FILE false)"),
        "COPY t TO 'x.csv'",
        "COPY t TO 'file://@/out/x.csv'",
        "COPY t TO 'file:@/private/x.csv'",
        "COPY t TO 's3://bucket/x.csv'",
        "COPY t TO '/dev/stdout'",
        "COPY t TO STDOUT",
        "COPY t TO x",
        "COPY t TO \"@/private/x.csv\"",
        "COPY t TO $$@/private/x.csv$$",
        "COPY t TO (getvariable('x'))",
        "COPY t TO '@/out/x'\n'/../../private/x.csv'",
        "COPY t TO '@/out/x' (FORMAT csv, PER_THREAD_OUTPUT, FILENAME_PATTERN '../../private/p_{i}')",
        "COPY t TO '@/out/x' (FORMAT csv, PER_THREAD_OUTPUT, FILE_EXTENSION '/../../private/x')",
        "COPY t TO '@/out/x' (FORMAT csv, NULL E'a'\n'\\'', PER_THREAD_OUTPUT true, FILENAME_PATTERN \
         $$../../private/evil_{i}$$, FORCE_QUOTE ( --', FORCE_QUOTE (i,\nj))",
        "COPY t TO '@/out/x' (FORMAT csv, NULL 'a'\n'b')",
        "COPY t TO '@/out/x' (FORMAT csv, NULL E'\\'')",
        "COPY t TO '@/out/x' (FORMAT csv, NULL $\u{20ac}$'$\u{20ac}$)",
        "COPY t TO '@/out/x' (FORMAT parquet, PARTITION_BY (p, q), HIVE_FILE_PATTERN false)",
        "COPY t TO '@/private/x' (FORMAT parquet, PARTITION_BY (i))",
        "COPY FROM DATABASE test TO other",
        "EXPORT DATABASE '@/out/all'",
        "EXPLAIN ANALYZE COPY t TO '@/private/x.csv'",
        "EXPLAIN (ANALYZE) COPY t TO '@/private/x.csv'",
        "PREPARE e AS COPY t TO '@/private/x.csv'",
        "SELECT 1; COPY t TO '@/private/x.csv'",
        "COPY t TO '@/out/x.csv'; COPY t TO '@/private/x.csv'",
        "SELECT 1 --\r; COPY t TO '@/private/x.csv'",
        "/* /* */ */ COPY /* x */ t TO '@/private/x.csv'",
        "\u{feff}COPY\u{a0}t TO '@/private/x.csv'",
        "BEGIN; COPY t TO '@/private/x.csv'; COMMIT",
    ] {
        refused_everywhere(&client, &folders.fill(sql)).await;
    }
    assert_eq!(folders.files(), before);
    assert_eq!(fs::read_to_string(folders.root.join("private/keep.csv")).unwrap(), "kept");
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 3);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_beside_a_database_is_no_target_before_it_is_there() {
    let folders = Folders::new();
    let server = TestServer::with(|config| {
        let catalog = |name: &str| format!("[[catalog]]\nname = '{name}'\ntype = 'duckdb'\nrequired = false");
        let (here, late) = (catalog("here"), catalog("late"));
        let toml = format!(
            "export_directories = ['@/out']\n{here}\npath = '@/out/here.db'\n{late}\npath = '@/out/later/late.db'"
        );
        configure(config, &folders.fill(&toml));
    })
    .await;
    let client = with_table(&server).await;
    client.execute("CREATE TABLE here.t AS FROM t").await.unwrap();
    client.execute("CHECKPOINT here").await.unwrap();
    // The log is not there just now.
    let before = folders.files();
    assert_eq!(before, ["out/here.db", "private/keep.csv"]);
    for sql in [
        "COPY t TO '@/out/here.db.wal' (FORMAT csv)",
        "COPY t TO '@/out/here.db.wal.checkpoint'",
        "COPY t TO '@/out/here.db.wal.recovery' (FORMAT parquet, USE_TMP_FILE false)",
        "COPY t TO '@/out/unknown.db.wal'",
        "COPY t TO '@/out/here.db.tmp'",
        "COPY t TO '@/out/later/late.db'",
        "COPY t TO '@/out/later/late.db.wal'",
        "COPY t TO '@/out/later' (FORMAT csv, PARTITION_BY (p))",
        "COPY t TO '@/out/parts' (FORMAT csv, PER_THREAD_OUTPUT, FILE_EXTENSION 'wal')",
    ] {
        refused_everywhere(&client, &folders.fill(sql)).await;
    }
    assert_eq!(folders.files(), before);
    client.execute(&folders.fill("COPY t TO '@/out/here.db.csv'")).await.unwrap();
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_to_one_target_write_one_after_the_other() {
    let folders = Folders::new();
    let server = TestServer::with(|config| folders.lets_export(config)).await;
    let clients = [server.client().await, server.client().await];
    for target in ["@/out/x.csv", "@/out/x.csv", "@/out/x.parquet", "@/out/x.json"] {
        let copy = |letter: &str, rows: u32| {
            folders
                .fill(&format!("COPY (SELECT '{letter}' AS w, range AS i FROM range({rows})) TO '{target}'"))
        };
        let (a, b) = (copy("a", 300_000), format!("SELECT 1; {}", copy("b", 200_000)));
        let (a, b) = tokio::join!(clients[0].execute(&a), clients[1].execute(&b));
        a.unwrap();
        b.unwrap();
        let read = folders
            .fill(&format!("SELECT concat(w, count(DISTINCT i), ' ', count(*)) FROM '{target}' GROUP BY w"));
        let found = texts(&clients[0], &read).await.unwrap();
        assert!(found == ["a300000 300000"] || found == ["b200000 200000"], "{target}: {found:?}");
    }
    assert!(folders.files().iter().all(|file| !file.contains("tmp_")), "{:?}", folders.files());
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_waits_for_its_target_waits_within_a_bound() {
    let folders = Folders::new();
    let server = TestServer::with(|config| {
        folders.lets_export(config);
        config.engine.wait = Duration::from_millis(50);
    })
    .await;
    let (client, other) = (server.client().await, server.client().await);
    // It goes on until somebody writes into the pipe.
    let pipe = folders.at("private/pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let slow = format!(
        "COPY (FROM read_csv('{pipe}', columns = {{i: 'BIGINT'}}, auto_detect = false, header = false)) TO '@/out/x/y.csv'"
    );
    fs::create_dir(folders.root.join("out/x")).unwrap();
    let slow = folders.fill(&slow);
    let running = tokio::spawn(async move { client.execute(&slow).await });
    let opening = tokio::task::spawn_blocking(move || fs::OpenOptions::new().write(true).open(pipe));
    let source = soon("the export to read its source", opening).await.unwrap().unwrap();
    for sql in [
        "COPY (SELECT 1) TO '@/out/x/y.csv'",
        "SELECT 1; COPY (SELECT 1) TO '@/out/x/tmp_y.csv'",
        "BEGIN TRANSACTION READ ONLY; COPY (SELECT 1 AS p, 2 AS i) TO '@/out/x' (FORMAT csv, PARTITION_BY (p)); COMMIT",
    ] {
        refused(other.execute(&folders.fill(sql)).await, Code::ResourceExhausted, "EXPORT_BUSY");
    }
    other.execute(&folders.fill("COPY (SELECT 1) TO '@/out/x/z.csv'")).await.unwrap();
    drop(source);
    assert_eq!(soon("the export", running).await.unwrap().unwrap(), 0);
    other.execute(&folders.fill("COPY (SELECT 1) TO '@/out/x/y.csv'")).await.unwrap();
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_statement_writes_a_file_of_the_clients_choice() {
    let folders = Folders::new();
    let server = TestServer::with(|config| folders.lets_export(config)).await;
    let client = with_table(&server).await;
    // Files of a client's own, with statements in them that no gate has seen.
    fs::create_dir(folders.root.join("out/dump")).unwrap();
    fs::write(folders.root.join("out/dump/schema.sql"), folders.fill("COPY t TO '@/private/x.csv';"))
        .unwrap();
    fs::write(folders.root.join("out/dump/load.sql"), "").unwrap();
    for sql in [
        "IMPORT DATABASE '@/out/dump'",
        "PRAGMA import_database('@/out/dump')",
        "SELECT 1; IMPORT DATABASE '@/out/dump'",
        "SET profiling_output = '@/private/x.json'",
        "SET SESSION profile_output = '@/private/x.json'",
        "SET log_query_path = '@/private/x.sql'",
        "CALL enable_logging(storage := 'file', storage_config := {'path': '@/private/log'})",
    ] {
        let sql = folders.fill(sql);
        refused(client.execute(&sql).await, Code::PermissionDenied, "NOT_ALLOWED");
        refused(texts(&client, &sql).await, Code::PermissionDenied, "NOT_ALLOWED");
    }
    let query = folders.fill("FROM query('COPY t TO ''@/private/x.csv''')");
    refused(texts(&client, &query).await, Code::PermissionDenied, "NOT_ALLOWED");
    assert_eq!(folders.files(), ["out/dump/load.sql", "out/dump/schema.sql", "private/keep.csv"]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loading_and_explaining_go_on_as_before() {
    let folders = Folders::new();
    let server = TestServer::start().await;
    let client = with_table(&server).await;
    fs::write(folders.root.join("private/rows.csv"), "i,p,q\n7,a,b\n").unwrap();
    client.execute(&folders.fill("COPY t FROM '@/private/rows.csv'")).await.unwrap();
    client.execute(&folders.fill("COPY main.t (i, p, q) FROM '@/private/rows.csv' (HEADER)")).await.unwrap();
    assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE i = 7").await, 2);
    let explained = folders.fill("EXPLAIN ANALYZE COPY t FROM '@/private/rows.csv'");
    assert!(!texts(&client, &explained).await.unwrap().is_empty());
    assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE i = 7").await, 3);
    client.execute("PREPARE s AS SELECT count(*) AS copy FROM t WHERE i = $1").await.unwrap();
    assert_eq!(integer(&client, "EXECUTE s(7)").await, 3);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_server_exports() {
    let folders = Folders::new();
    fs::write(folders.root.join("private/rows.csv"), "i\n7\n").unwrap();
    let source = folders.fill("[[source]]\nname = 'rows'\nformat = 'csv'\npath = '@/private/rows.csv'");
    let server = TestServer::with(|config| {
        configure(config, &folders.fill(&format!("export_directories = ['@/out']\n{source}")));
        config.engine.path = None;
        config.engine.read_only = true;
    })
    .await;
    let client = server.client().await;
    client.execute(&folders.fill("COPY rows TO '@/out/rows.parquet'")).await.unwrap();
    client.execute("CREATE TEMP TABLE mine AS FROM rows").await.unwrap();
    client.execute(&folders.fill("COPY mine TO '@/out/mine.csv'")).await.unwrap();
    refused(client.execute("CREATE TABLE t (i INTEGER)").await, Code::PermissionDenied, "READ_ONLY");
    refused_everywhere(&client, &folders.fill("COPY rows TO '@/private/x.csv'")).await;
    assert_eq!(folders.files(), ["out/mine.csv", "out/rows.parquet", "private/keep.csv", "private/rows.csv"]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_waits_for_no_write() {
    let folders = Folders::new();
    let server = TestServer::with(|config| {
        folders.lets_export(config);
        config.engine.wait = Duration::from_millis(50);
    })
    .await;
    let client = with_table(&server).await;
    let writer = server.client().await;
    writer.execute("BEGIN").await.unwrap();
    writer.execute("INSERT INTO t VALUES (9, '', '')").await.unwrap();
    // It has the turn now.
    refused(client.execute("DELETE FROM t").await, Code::ResourceExhausted, "WRITE_BUSY");
    let sql = folders.fill("COPY t TO '@/out/t.csv'");
    assert_eq!(soon("the export", client.execute(&sql)).await.unwrap(), 3);
    writer.execute("COMMIT").await.unwrap();
    server.shutdown().await;
}

#[test]
fn a_directory_that_will_not_do_stops_the_start() {
    let folders = Folders::new();
    let start = |database: &str, directory: &str| {
        let directory = folders.fill(directory);
        let told = Config::from_arguments(["--database", database, "--export-directories", &directory]);
        told.err().map(|error| error.to_string())
    };
    let database = folders.at("out/db.duckdb");
    assert_eq!(start(&database, "@/private"), None);
    assert_eq!(start(":memory:", "@/out,s3://bucket/out/"), None);
    for (directory, reason) in [
        ("@/nowhere", "is no folder"),
        ("@/private/keep.csv", "is no folder"),
        ("@/private,", "is no folder"),
        ("@/out", "has the database in it"),
        ("@", "has the database in it"),
        ("https://host/x", "is no address"),
        ("s3://bucket/*", "is no address"),
    ] {
        let told = start(&database, directory).unwrap();
        assert!(told.contains("export_directories") && told.contains(reason), "{directory}: {told}");
    }
}
