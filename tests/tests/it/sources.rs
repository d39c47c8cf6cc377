//! Sources: files that every client sees as views, and that nobody can change.

use std::path::Path;

use arrow_array::RecordBatch;
use arrow_ipc::writer::FileWriter;
use merganser::Client;
use merganser_server::{
    Config, Server, ServerError,
    engine::{Condition, Script},
};
use merganser_tests::{TestServer, configure, ids, integer, put, refused, soon, texts, until, wide};
use tempfile::TempDir;
use tonic::Code;

/// Files of every format, made by DuckDB itself.
async fn files() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let exports = format!("export_directories = ['{}']", folder.path().display());
    let server = TestServer::with(|config| configure(config, &exports)).await;
    let client = server.client().await;
    let at = |name: &str| folder.path().join(name).display().to_string();
    for sql in [
        format!(
            "COPY (SELECT range AS id, 'r' || range % 3 AS region FROM range(300)) TO '{}' \
             (FORMAT parquet, PARTITION_BY (region))",
            at("trips")
        ),
        format!("COPY (SELECT 1 AS id, 'a;b' AS name) TO '{}' (FORMAT csv, DELIMITER '|')", at("names.csv")),
        format!("COPY (SELECT 7 AS id, [1, 2] AS list) TO '{}' (FORMAT json)", at("lists.json")),
    ] {
        client.execute(&sql).await.unwrap();
    }
    server.shutdown().await;
    std::fs::create_dir(folder.path().join("batches")).unwrap();
    arrow_file(folder.path(), "batches/1.arrow", &[ids(0..3000), ids(3000..5000)]);
    folder
}

/// A file of Arrow's IPC file format.
fn arrow_file(folder: &Path, name: &str, batches: &[RecordBatch]) {
    let file = std::fs::File::create(folder.join(name)).unwrap();
    let mut writer = FileWriter::try_new(file, &batches[0].schema()).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.finish().unwrap();
}

fn toml(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "
        [[source]]
        name = 'trips'
        description = 'all of them'
        format = 'parquet'
        path = '{folder}/trips/*/*.parquet'
        options = {{ hive_partitioning = true }}

        [[source]]
        name = 'names'
        format = 'csv'
        path = ['{folder}/names.csv']
        options = {{ delim = '|', header = true }}

        [[source]]
        name = 'lists'
        format = 'json'
        path = '{folder}/lists.json'

        [[source]]
        name = 'batches'
        format = 'arrow'
        path = '{folder}/batches/*'

        [[source]]
        name = 'tomorrow'
        format = 'parquet'
        path = '{folder}/tomorrow.parquet'
        required = false
        "
    )
}

async fn reads_everything(client: &Client) {
    assert_eq!(integer(client, "SELECT count(*) FROM trips WHERE region = 'r1'").await, 100);
    assert_eq!(integer(client, "SELECT count(*) FROM sources.trips").await, 300);
    assert_eq!(texts(client, "SELECT name FROM names").await.unwrap(), ["a;b"]);
    assert_eq!(integer(client, "SELECT sum(i)::BIGINT FROM (SELECT unnest(list) AS i FROM lists)").await, 3);
    assert_eq!(integer(client, "SELECT sum(id)::BIGINT FROM batches").await, 4999 * 2500);
    assert_eq!(integer(client, "SELECT count(*) FROM batches").await, 5000);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_sees_them_by_their_names_wherever_it_is() {
    let folder = files().await;
    let server = TestServer::with(|config| configure(config, &toml(folder.path()))).await;
    let client = server.client().await;
    reads_everything(&client).await;
    // The database goes first, and is where tables are made.
    client.execute("CREATE TABLE trips AS SELECT 1::BIGINT AS id").await.unwrap();
    assert_eq!(integer(&client, "SELECT count(*) FROM trips").await, 1);
    let script = "DROP TABLE trips; CREATE SCHEMA other; CREATE TABLE other.t AS SELECT 5::BIGINT AS i";
    client.execute(script).await.unwrap();
    client.execute("USE other").await.unwrap();
    assert_eq!(integer(&client, "SELECT i FROM t").await, 5);
    reads_everything(&client).await;
    // A session that keeps its own connection.
    client.execute("CREATE TEMP TABLE mine AS SELECT 2::BIGINT AS i").await.unwrap();
    reads_everything(&client).await;
    client.execute("USE main").await.unwrap();
    reads_everything(&client).await;
    let listed = "SELECT view_name || ': ' || coalesce(comment, '') FROM duckdb_views() \
                  WHERE database_name = 'sources' AND NOT internal ORDER BY ALL";
    assert_eq!(
        texts(&client, listed).await.unwrap(),
        ["batches: ", "lists: ", "names: ", "trips: all of them"]
    );
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_and_types_that_are_given_are_not_guessed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("stations.csv"), "007,1953-02-01,3\n").unwrap();
    std::fs::write(folder.path().join("tags.json"), "{\"id\": 7, \"more\": 1, \"b'a\": [\"x\"]}\n").unwrap();
    // The example of the page on lakes.
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/lake.md")).unwrap();
    let example = page.split("```").find(|block| block.contains("path = \"stations.csv\"")).unwrap();
    let at = folder.path().display();
    let stations = example.trim_start_matches("toml").replace("stations.csv", &format!("{at}/stations.csv"));
    let tags = format!(
        "[[source]]\nname = 'tags'\nformat = 'json'\npath = '{at}/tags.json'\n\
         options.columns = {{ id = 'UTINYINT', \"b'a\" = 'VARCHAR[]' }}"
    );
    let server = TestServer::with(|config| configure(config, &format!("{stations}\n{tags}"))).await;
    let client = server.client().await;
    let rows = "SELECT concat_ws(' ', station, opened + 1, height, typeof(height)) FROM stations";
    assert_eq!(texts(&client, rows).await.unwrap(), ["007 1953-02-02 3.0 DOUBLE"]);
    let columns = "SELECT concat_ws(' ', column_name, column_type) FROM (DESCRIBE tags)";
    assert_eq!(texts(&client, columns).await.unwrap(), ["id UTINYINT", "b'a VARCHAR[]"]);
    assert_eq!(texts(&client, "SELECT \"b'a\"[1] FROM tags WHERE id = 7").await.unwrap(), ["x"]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_can_change_them_and_they_outlive_a_failure() {
    let folder = files().await;
    let server = TestServer::with(|config| configure(config, &toml(folder.path()))).await;
    let client = server.client().await;
    for sql in [
        "DROP VIEW sources.trips",
        "CREATE OR REPLACE VIEW sources.main.trips AS SELECT 1",
        "CREATE TABLE sources.main.t (i INTEGER)",
    ] {
        let told = client.execute(sql).await.unwrap_err().to_string();
        assert!(told.to_lowercase().contains("read-only"), "{sql}: {told}");
    }
    for sql in [
        "DETACH sources",
        "DETACH DATABASE IF EXISTS \"Sources\"",
        "ATTACH ':memory:' AS queries",
        "CREATE SCHEMA sources",
        "CREATE SCHEMA IF NOT EXISTS queries",
        "CREATE OR REPLACE SCHEMA main.queries",
    ] {
        refused(client.execute(sql).await, Code::PermissionDenied, "NOT_ALLOWED");
    }
    client.execute("CREATE TABLE queries (sources INTEGER); DROP TABLE queries").await.unwrap();
    let mut condition = server.engine().condition();
    condition.borrow_and_update();
    server.engine().reopen("a test wants it");
    soon("it is down", condition.changed()).await.unwrap();
    soon("it is open", condition.wait_for(|now| *now == Condition::Open)).await.unwrap();
    reads_everything(&client).await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_files_alone_needs_no_database_and_takes_no_writes() {
    let folder = files().await;
    let server = TestServer::with(|config| {
        configure(config, &toml(folder.path()));
        config.engine.path = None;
        config.engine.read_only = true;
    })
    .await;
    let client = server.client().await;
    reads_everything(&client).await;
    refused(client.execute("CREATE TABLE t (i INTEGER)").await, Code::PermissionDenied, "READ_ONLY");
    refused(put(&client, "t", ids([1])).await, Code::PermissionDenied, "READ_ONLY");
    client.execute("CREATE TEMP TABLE mine AS SELECT 2::BIGINT AS i").await.unwrap();
    assert_eq!(integer(&client, "SELECT i FROM mine").await, 2);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn arrow_files_are_read_as_they_are_when_a_query_begins() {
    let folder = files().await;
    let server = TestServer::with(|config| configure(config, &toml(folder.path()))).await;
    let client = server.client().await;
    let count = async || integer(&client, "SELECT count(*) FROM batches").await;
    assert_eq!(count().await, 5000);
    arrow_file(folder.path(), "batches/2.arrow", &[ids(5000..5007)]);
    // A plan of before goes on for a second at the most.
    until("the new file is seen", async || count().await == 5007).await;
    arrow_file(folder.path(), "batches/3.arrow", &[wide([1])]);
    until("the bad file is seen", async || client.query("SELECT max(id) FROM batches").await.is_err()).await;
    let told = refused(client.execute("SELECT max(id) FROM batches").await, Code::InvalidArgument, "IO");
    assert!(told.contains("file 3.arrow of source batches: it has other columns"), "{told}");
    assert!(!told.contains(folder.path().to_str().unwrap()), "{told}");
    std::fs::write(folder.path().join("batches/3.arrow"), "no such thing").unwrap();
    let told = refused(client.execute("SELECT max(id) FROM batches").await, Code::InvalidArgument, "IO");
    assert!(told.contains("file 3.arrow of source batches: it is no Arrow file"), "{told}");
    std::fs::remove_file(folder.path().join("batches/3.arrow")).unwrap();
    until("the good files are seen", async || client.query("SELECT max(id) FROM batches").await.is_ok())
        .await;
    assert_eq!(count().await, 5007);
    // What is made of it keeps the order of the files and of their rows.
    client.execute("CREATE TABLE kept AS FROM batches").await.unwrap();
    assert_eq!(integer(&client, "SELECT count(*) FROM kept WHERE id <> rowid").await, 0);
    server.shutdown().await;
}

/// A server over a file, or in memory, with what a configuration file says.
async fn start(database: &str, toml: &str) -> Result<Server, ServerError> {
    Server::start(config(database, toml)).await
}

fn config(database: &str, toml: &str) -> Config {
    let mut config = Config::from_arguments(["--database", database, "--listen", "127.0.0.1:0"]).unwrap();
    configure(&mut config, toml);
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_source_stops_the_start_and_is_named() {
    let toml = "[[source]]\nname = 'gone'\nformat = 'parquet'\npath = '/nowhere/*.parquet'";
    let told = start(":memory:", toml).await.err().unwrap().to_string();
    assert!(told.contains("source gone") && told.contains("/nowhere/*.parquet"), "{told}");
}

/// How a start over a database in which somebody has done this ends.
async fn start_over(sql: &str, toml: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let mut config = config(path.to_str().unwrap(), "");
    config.engine.init_sql = Some(Script { name: "init.sql".into(), sql: sql.into() });
    Server::start(config).await.unwrap().run(async {}).await.unwrap();
    match start(path.to_str().unwrap(), toml).await {
        Err(error) => error.to_string(),
        Ok(_) => panic!("it starts"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clash_of_names_stops_the_start() {
    let folder = files().await;
    let at = folder.path().display();
    let source = format!("[[source]]\nname = 'names'\nformat = 'csv'\npath = '{at}/names.csv'\n");
    let query = "[[query]]\nname = 'one'\nsql = 'SELECT 1 AS one'\n";
    let called = |name: &str| format!("a catalog or schema called {name:?}");
    for (sql, toml, name) in [
        ("CREATE SCHEMA queries", query, "queries"),
        ("CREATE SCHEMA \"Queries\"", query, "queries"),
        ("CREATE SCHEMA sources", &source, "sources"),
    ] {
        let told = start_over(sql, toml).await;
        assert!(told.contains(&called(name)) && told.contains("rename one of the two"), "{sql}: {told}");
    }
    for name in ["sources", "queries", "Queries"] {
        let file = folder.path().join("catalog.toml");
        let catalog = format!("[[catalog]]\nname = '{name}'\ntype = 'duckdb'\npath = '{at}/other.db'\n");
        std::fs::write(&file, catalog).unwrap();
        let told = Config::from_arguments([
            "--database".as_ref(),
            ":memory:".as_ref(),
            Path::new("--config"),
            &file,
        ])
        .unwrap_err()
        .to_string();
        assert!(told.contains(&format!("{name:?}")), "{told}");
    }
    // As the name of a source it is a view's, and in nobody's way.
    let toml = format!("{}{query}", source.replace("'names'", "'queries'"));
    let server = TestServer::with(|config| configure(config, &toml)).await;
    let client = server.client().await;
    assert_eq!(texts(&client, "SELECT name FROM sources.queries").await.unwrap(), ["a;b"]);
    assert_eq!(integer(&client, "SELECT one::BIGINT FROM queries.one()").await, 1);
    server.shutdown().await;
}
