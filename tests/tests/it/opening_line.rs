//! The line of the log that tells of a server which has started.

use std::{fs, process::Stdio};

use merganser_tests::Process;
use serde_json::Value;
use tokio::process::Command;

/// What the log says of a start with these options, in JSON.
async fn line(log: &std::path::Path, options: &[&str]) -> (String, Value) {
    let mut command = Command::new(crate::SERVER);
    command.args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--log-format", "json"]).args(options);
    command.stdin(Stdio::null()).stderr(fs::File::create(log).unwrap());
    let server = Process::run(command).await;
    let url = server.url().to_owned();
    assert!(server.terminate().await.success());
    let log = fs::read_to_string(log).unwrap();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    (url, lines.into_iter().find(|line| line["fields"]["message"] == "serving").unwrap()["fields"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_has_what_runs_over_what_where_and_how() {
    let folder = tempfile::tempdir().unwrap();
    let [database, log] = ["a.duckdb", "log"].map(|name| folder.path().join(name));
    let database = database.to_str().unwrap();
    let options =
        ["--database", database, "--memory-limit", "1GiB", "--threads", "3", "--checkpoint-size", "64MiB"];
    let (url, line) = line(&log, &options).await;
    assert_eq!((&line["database"], &line["url"]), (&database.into(), &url.into()));
    assert_eq!(line["duckdb"], "v1.5.5");
    assert_eq!((&line["threads"], &line["memory_limit"]), (&"3".into(), &"1.0 GiB".into()));
    assert_eq!((&line["checkpoint_size"], &line["query_timeout"]), (&"64.0 MiB".into(), &"10m".into()));
    assert!(line["http"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    assert!(line["version"].is_string() && line["tls"] == false && line["users"] == 0, "{line}");
}
