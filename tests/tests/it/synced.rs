//! Durable means on the disk: SIGKILL alone cannot tell a server that syncs from one that only writes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use merganser_tests::{DatabaseFile, Process, put, unit};
use tokio::process::Command;

use crate::SERVER;

const ROWS: usize = 3;

/// The command that runs the server under strace. The tracer is the grandchild, so that signals reach the server.
fn traced(log: &Path, database: &Path) -> Command {
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-q", "-e", "trace=fsync,fdatasync", "-o"]).arg(log);
    command.arg(SERVER).args(Process::arguments(database));
    command
}

/// Calls that the log of strace has so far. It has a call before the server goes on after it.
fn syncs(log: &Path) -> usize {
    let text = fs::read_to_string(log).unwrap();
    // A call that others interrupted has a second line, without the parenthesis.
    text.matches("fsync(").count() + text.matches("fdatasync(").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_a_hundred_serial_puts_is_synced_to_the_disk_before_its_acknowledgement() {
    let works = Command::new("strace").args(["-q", "-o", "/dev/null", "true"]).status().await;
    assert!(
        works.is_ok_and(|status| status.success()),
        "this test needs strace, and the right to trace: run scripts/system-tools, or install the package strace"
    );
    let file = DatabaseFile::new();
    let log: PathBuf = file.path().with_file_name("strace.log");
    let server = Process::run(traced(&log, file.path())).await;
    let client = server.client().await;
    // Makes the table, which may sync more than once.
    put(&client, "t", unit(0, ROWS)).await.unwrap();
    let mut before = syncs(&log);
    for number in 1..=100 {
        put(&client, "t", unit(number, ROWS)).await.unwrap();
        let after = syncs(&log);
        assert!(
            after > before,
            "unit {number} was acknowledged after {before} syncs, without one of its own"
        );
        before = after;
    }
    assert_eq!(server.terminate().await.code(), Some(0));
}
