//! `merganser load --loader`: broken off, cut off, and continued, with every row stored once.

use std::{fmt::Write, net::SocketAddr, path::PathBuf, process::Output};

use merganser::{Client, ClientOptions, Credentials, Loader, LoaderOptions, TablePath};
use merganser_server::config::{PasswordHash, User};
use merganser_tests::{TestServer, ids, integer, integers, soon, until};
use tempfile::TempDir;
use tokio::{net::TcpListener, process::Command};

const ROWS: i64 = 400_000;
/// With 100 rows a unit.
const UNITS: i64 = ROWS / 100;
const SEQUENCE: &str = "SELECT sequence FROM merganser_ingest() WHERE loader = 'nightly'";

/// Files with a column `id`, gone when it is dropped.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, ids: impl IntoIterator<Item = i64>) -> PathBuf {
        let mut text = "id\n".to_owned();
        for id in ids {
            writeln!(text, "{id}").unwrap();
        }
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// The command, as the loader "nightly".
fn load(server: SocketAddr, files: &[PathBuf], options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_merganser-under-test"));
    command.env_clear().args(["--url", &server.to_string(), "load", "--table", "t"]);
    command.args(["--loader", "nightly", "--unit-rows", "100"]).args(options).args(files);
    command.kill_on_drop(true);
    command
}

async fn ended(mut command: Command) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = soon("the load ends", command.output()).await.unwrap();
    (status.code(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

/// How many units the ledger has.
async fn committed(client: &Client) -> i64 {
    integers(client, SEQUENCE).await.unwrap().first().copied().unwrap_or(0)
}

async fn every_row_is_there_once(client: &Client, rows: i64) {
    assert_eq!(integer(client, "SELECT count(*) FROM t").await, rows);
    assert_eq!(integer(client, "SELECT count(DISTINCT id) FROM t").await, rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_was_killed_goes_on_where_the_ledger_stands() {
    let server = TestServer::start().await;
    let (client, files) = (server.client().await, Files::new());
    let paths = [files.write("a.csv", 0..ROWS / 2), files.write("b.csv", ROWS / 2..ROWS)];

    let mut killed = load(server.address(), &paths, &[]).spawn().unwrap();
    until("some units are committed", async || committed(&client).await > 20).await;
    killed.kill().await.unwrap();
    assert!(committed(&client).await < UNITS, "it was killed in the middle");

    let (code, said) = ended(load(server.address(), &paths, &[])).await;
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("--resume goes on after them"), "{said}");
    let (code, said) = ended(load(server.address(), &paths, &["--resume"])).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("loaded 2 files") && said.contains("there already"), "{said}");
    every_row_is_there_once(&client, ROWS).await;
    assert_eq!(committed(&client).await, UNITS);
    // One more time nothing is left to do, but for what a new file brings.
    let more = [&paths[..], &[files.write("c.csv", ROWS..ROWS + 10)]].concat();
    let (code, said) = ended(load(server.address(), &more, &["--resume"])).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("loaded 3 files, 10 rows"), "{said}");
    every_row_is_there_once(&client, ROWS + 10).await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_outlives_a_restart_of_the_server() {
    let server = TestServer::start().await;
    let (address, files) = (server.address(), Files::new());
    let client = server.client().await;
    let paths = [files.write("a.csv", 0..ROWS)];
    let loading = tokio::spawn(ended(load(address, &paths, &[])));
    until("some units are committed", async || committed(&client).await > 20).await;
    let file = server.shutdown().await;
    let server = TestServer::open(file, |config| config.network.listen = address).await;
    let client = server.client().await;
    let before = committed(&client).await;
    assert!(before < UNITS, "it was restarted in the middle");

    let (code, said) = soon("the load ends", loading).await.unwrap();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(" retr"), "{said}");
    every_row_is_there_once(&client, ROWS).await;
    assert_eq!(committed(&client).await, UNITS);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_begins_while_the_server_is_away_waits_for_it() {
    let (files, password) = (Files::new(), "secret");
    // Somebody takes the first connection, gives no answer to the log-in, and then nobody is there.
    let away = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = away.local_addr().unwrap();
    let begin = |options: &[&str]| {
        let mut command = load(address, &[files.write("a.csv", 0..1_000)], &["--resume"]);
        command.args(["--user", "ana"]).env("MERGANSER_PASSWORD", password).args(options);
        tokio::spawn(ended(command))
    };
    let loading = begin(&["--retry-for", "5min"]);
    let first = soon("the command connects", away.accept()).await.unwrap();
    drop((away, first));
    let (code, said) = soon("a load without patience ends", begin(&["--retry-for", "0s"])).await.unwrap();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("CONNECT: cannot connect to 127.0.0.1:"), "{said}");

    let server = TestServer::with(|config| {
        config.network.listen = address;
        let password = PasswordHash::of(password).unwrap();
        config.security.users = vec![User { name: "ana".into(), password }];
    })
    .await;
    let (code, said) = soon("the load ends", loading).await.unwrap();
    assert_eq!(code, Some(0), "{said}");
    let credentials = Credentials::Password { user: "ana".into(), password: password.into() };
    let options = ClientOptions { credentials: Some(credentials), ..ClientOptions::default() };
    every_row_is_there_once(&server.connect(&options).await.unwrap(), 1_000).await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_goes_on_with_the_same_input_only() {
    let server = TestServer::start().await;
    let (client, files) = (server.client().await, Files::new());
    let (code, said) = ended(load(server.address(), &[files.write("a.csv", 0..1000)], &[])).await;
    assert_eq!(code, Some(0), "{said}");

    let other = files.write("b.csv", 500..2000);
    let (code, said) = ended(load(server.address(), &[other], &["--resume"])).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("b.csv: KEY_REUSED: unit 10 is not the one that the server has"), "{said}");
    assert!(said.contains("--key, --on-conflict, --add-columns, --unit-rows"), "{said}");
    let shorter = files.write("c.csv", 0..500);
    let (code, said) = ended(load(server.address(), &[shorter], &["--resume"])).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("hold 5 units, but the server has 10"), "{said}");
    let (code, said) = ended(load(server.address(), &[], &["--mode", "replace", "x.csv"])).await;
    assert_eq!(code, Some(64), "{said}");
    every_row_is_there_once(&client, 1000).await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loader_that_takes_over_shuts_the_old_one_out() {
    let server = TestServer::start().await;
    let (client, table) = (server.client().await, TablePath::new("t"));
    let open = async || Loader::open(&client, &table, LoaderOptions::new("nightly")).await.unwrap();
    let mut old = open().await;
    for unit in 0..100 {
        old.send(vec![ids([unit])]).await.unwrap();
    }
    let flushed = old.flush().await.unwrap();
    assert_eq!((flushed.sequence, flushed.rows, flushed.duplicates), (Some(100), 100, 0));

    let mut new = open().await;
    assert_eq!((old.epoch(), new.epoch(), new.next_sequence()), (1, 2, 101));
    new.send_last_again(vec![ids([99])]).await.unwrap();
    new.send(vec![ids([100])]).await.unwrap();
    assert_eq!(new.flush().await.unwrap().duplicates, 1);
    old.send(vec![ids([101])]).await.unwrap();
    let error = old.flush().await.unwrap_err();
    assert_eq!(error.slug(), Some("FENCED"), "{error}");
    // A unit without rows skips a number.
    new.send(vec![ids([])]).await.unwrap();
    new.send(vec![ids([101])]).await.unwrap();
    assert_eq!(new.finish().await.unwrap().sequence, Some(103));
    every_row_is_there_once(&client, 102).await;
    server.shutdown().await;
}
