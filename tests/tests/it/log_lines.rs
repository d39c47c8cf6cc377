//! What the log says of a server, in JSON: of its start, and of who comes.

use std::{fs, path::Path, process::Stdio};

use merganser::{Client, ClientOptions, Credentials};
use merganser_server::config::PasswordHash;
use merganser_tests::Process;
use serde_json::Value;
use tokio::process::Command;

/// Starts a server with these options and its log in a file.
pub(crate) async fn start(log: &Path, options: &[&str]) -> Process {
    let mut command = Command::new(crate::SERVER);
    command.args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--log-format", "json"]).args(options);
    command.stdin(Stdio::null()).stderr(fs::File::create(log).unwrap());
    Process::run(command).await
}

/// The fields of the first event of this kind.
fn event(log: &Path, message: &str) -> Value {
    let log = fs::read_to_string(log).unwrap();
    let mut events = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["fields"].clone());
    events.find(|fields| fields["message"] == message).unwrap_or_else(|| panic!("no {message} in {log}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_is_told_with_what_runs_over_what_where_and_how() {
    let folder = tempfile::tempdir().unwrap();
    let [database, log] = ["a.duckdb", "log"].map(|name| folder.path().join(name));
    let database = database.to_str().unwrap();
    let options =
        ["--database", database, "--memory-limit", "1GiB", "--threads", "3", "--checkpoint-size", "64MiB"];
    let server = start(&log, &options).await;
    let url = server.url().to_owned();
    assert!(server.terminate().await.success());
    let told = event(&log, "serving");
    assert_eq!((&told["database"], &told["url"]), (&database.into(), &url.into()));
    assert_eq!(told["duckdb"], "v1.5.5");
    assert_eq!((&told["threads"], &told["memory_limit"]), (&"3".into(), &"1.0 GiB".into()));
    assert_eq!((&told["checkpoint_size"], &told["query_timeout"]), (&"64.0 MiB".into(), &"10m".into()));
    assert!(told["http"].as_str().unwrap().starts_with("127.0.0.1:"), "{told}");
    assert!(told["version"].is_string() && told["tls"] == false && told["users"] == 0, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_and_users_are_plain_texts() {
    let folder = tempfile::tempdir().unwrap();
    let [file, log] = ["merganser.toml", "log"].map(|name| folder.path().join(name));
    let hash = PasswordHash::of("secret").unwrap();
    let user = format!("[[user]]\nname = 'ana'\npassword_hash = '{hash}'\n");
    fs::write(&file, format!("database = ':memory:'\nlog_level = 'merganser_server=debug'\n{user}")).unwrap();
    let server = start(&log, &["--config", file.to_str().unwrap()]).await;
    let wrong = Credentials::Password { user: "a\"n\na".into(), password: "wrong".into() };
    let options = ClientOptions { credentials: Some(wrong), ..ClientOptions::default() };
    Client::connect_with(server.url(), &options).await.unwrap_err();
    assert!(server.terminate().await.success());
    assert!(event(&log, "accepted")["address"].as_str().unwrap().starts_with("127.0.0.1:"));
    let failed = event(&log, "a log-in failed");
    assert_eq!(failed["user"], "a\"n\na");
    assert!(failed["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{failed}");
}
