//! Durable means on the disk: SIGKILL alone cannot tell a server that syncs from one that only writes.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use merganser_tests::{DatabaseFile, LongStream, Process, put, put_keyed, unit};
use tokio::process::Command;

use crate::SERVER;

const ROWS: usize = 3;
/// More than goes into a group: a bulk upload.
const LARGE: usize = 1_000_000;

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

/// A server whose calls that sync are written down.
struct Traced {
    server: Process,
    log: PathBuf,
    _file: DatabaseFile,
}

impl Traced {
    async fn start() -> Self {
        let works = Command::new("strace").args(["-q", "-o", "/dev/null", "true"]).status().await;
        assert!(
            works.is_ok_and(|status| status.success()),
            "this test needs strace, and the right to trace: run scripts/system-tools, or install the package strace"
        );
        let file = DatabaseFile::new();
        let log = file.path().with_file_name("strace.log");
        let server = Process::run(traced(&log, file.path())).await;
        Self { server, log, _file: file }
    }

    fn syncs(&self) -> usize {
        syncs(&self.log)
    }

    async fn stop(self) {
        assert_eq!(self.server.terminate().await.code(), Some(0));
    }
}

/// Each acknowledgement comes after a sync that was not there when its unit was sent.
async fn each_is_synced(traced: &Traced, units: i64, mut put: impl AsyncFnMut(i64)) {
    // Makes the table, and with a key the ledger, which may sync more than once.
    put(1).await;
    let mut before = traced.syncs();
    for number in 2..=units {
        put(number).await;
        let after = traced.syncs();
        assert!(
            after > before,
            "unit {number} was acknowledged after {before} syncs, without one of its own"
        );
        before = after;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_a_hundred_serial_puts_is_synced_to_the_disk_before_its_acknowledgement() {
    let traced = Traced::start().await;
    let client = traced.server.client().await;
    let send = async |number| {
        put(&client, "t", unit(number, ROWS)).await.unwrap();
    };
    each_is_synced(&traced, 101, send).await;
    traced.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_are_those_with_keys_small_and_large() {
    let traced = Traced::start().await;
    let flight = traced.server.flight().await;
    let send = async |number| {
        let rows = if number % 10 == 0 { LARGE } else { ROWS };
        put_keyed(&flight, "t", &format!("a/1/{number}"), vec![unit(number, rows)]).await.unwrap();
    };
    each_is_synced(&traced, 30, send).await;
    traced.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_is_each_commit_of_a_stream_that_does_not_wait() {
    const UNITS: i64 = 1_000;
    let traced = Traced::start().await;
    let flight = traced.server.flight().await;
    put_keyed(&flight, "t", "a/1/1", vec![unit(1, ROWS)]).await.unwrap();
    let before = traced.syncs();
    let stream = LongStream::start(&flight, "t", "a/1/2", unit(2, ROWS)).await.unwrap();
    (3..=UNITS).for_each(|sequence| stream.send(&format!("a/1/{sequence}"), unit(sequence, ROWS)));
    let acks = stream.finish().await.unwrap();
    assert_eq!(acks.last().unwrap().sequence, UNITS as u64);
    let commits: HashSet<_> = acks.iter().map(|ack| ack.commit_id).collect();
    assert!(commits.len() > 1, "all went into one commit");
    let synced = traced.syncs() - before;
    assert!(synced >= commits.len(), "{} commits were acknowledged after {synced} syncs", commits.len());
    traced.stop().await;
}
