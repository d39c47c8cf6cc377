//! A write-ahead log that is damaged when the server starts.

use std::{fs, path::Path, process::Output};

use merganser_tests::{DatabaseFile, Process, integer, put, soon, unit};
use tokio::process::Command;

use crate::SERVER;

/// What the server leaves when it is killed: a log of several commits.
async fn killed(file: &DatabaseFile) -> Vec<u8> {
    let server = Process::start(SERVER, file.path(), &[]).await;
    let client = server.client().await;
    for number in 0..10 {
        put(&client, "t", unit(number, 1_000)).await.unwrap();
    }
    server.kill().await;
    fs::read(log_of(file.path())).unwrap()
}

fn log_of(database: &Path) -> std::path::PathBuf {
    database.with_extension("duckdb.wal")
}

async fn start(database: &Path) -> Output {
    let mut command = Command::new(SERVER);
    command.args(Process::arguments(database)).kill_on_drop(true);
    soon("the server ends", command.output()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_replayed_stops_the_start_with_65_and_nothing_is_touched() {
    let file = DatabaseFile::new();
    let whole = killed(&file).await;
    let base = fs::read(file.path()).unwrap();
    let (middle, end) = (whole.len() / 2, whole.len());
    let mut zeroed_tail = whole.clone();
    zeroed_tail[end - 5_000..].fill(0);
    let mut flipped_bit = whole.clone();
    flipped_bit[middle] ^= 4;
    let mut flipped_head = whole.clone();
    flipped_head[0] ^= 4;
    for (what, damaged) in [("tail", zeroed_tail), ("bit", flipped_bit), ("head", flipped_head)] {
        fs::write(log_of(file.path()), &damaged).unwrap();
        let output = start(file.path()).await;
        assert_eq!(output.status.code(), Some(65), "{what}: {output:?}");
        assert!(output.stdout.is_empty(), "{what}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("write-ahead log") && text.contains("restore a backup"), "{what}: {text}");
        assert_eq!(fs::read(file.path()).unwrap(), base, "{what}");
        assert_eq!(fs::read(log_of(file.path())).unwrap(), damaged, "{what}");
    }

    // DuckDB would delete a log whose database is not there.
    let away = file.path().with_extension("away");
    fs::rename(file.path(), &away).unwrap();
    fs::write(log_of(file.path()), &whole).unwrap();
    let output = start(file.path()).await;
    assert_eq!(output.status.code(), Some(65), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("put the two together again"), "{output:?}");
    assert!(!file.path().exists());
    assert_eq!(fs::read(log_of(file.path())).unwrap(), whole);
    fs::rename(&away, file.path()).unwrap();

    // What the text says can be done, and a log that is whole or only cut short is no damage.
    fs::write(log_of(file.path()), &whole[..end - 10]).unwrap();
    let server = Process::start(SERVER, file.path(), &[]).await;
    assert_eq!(integer(&server.client().await, "SELECT count(*) FROM t").await, 9_000);
    server.kill().await;
    fs::remove_file(log_of(file.path())).ok();
    let server = Process::start(SERVER, file.path(), &[]).await;
    assert_eq!(server.terminate().await.code(), Some(0));
}
