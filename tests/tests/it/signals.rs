//! What the process does at signals.

use std::{fs, process::Stdio};

use merganser_tests::{Process, ids, integer, put, until};
use tokio::process::Command;

/// A signal with which servers are told to read their configuration anew, and which ends a process that knows nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_of_no_terminal_neither_stops_the_server_nor_passes_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let [database, log] = ["a.duckdb", "log"].map(|name| folder.path().join(name));
    let mut command = Command::new(crate::SERVER);
    command.args(["--listen", "127.0.0.1:0", "--database"]).arg(&database);
    command.stdin(Stdio::null()).stderr(fs::File::create(&log).unwrap());
    let server = Process::run(command).await;
    let sent = Command::new("kill").args(["-HUP", &server.id().to_string()]).status().await.unwrap();
    assert!(sent.success());
    until("the log tells of it", async || {
        fs::read_to_string(&log).unwrap().contains("SIGHUP changes nothing")
    })
    .await;
    let client = server.client().await;
    put(&client, "t", ids([1, 2])).await.unwrap();
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 2);
    drop(client);
    assert!(server.terminate().await.success());
    assert!(!database.with_extension("duckdb.wal").exists(), "the stop is an orderly one");
}
