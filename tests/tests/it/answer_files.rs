//! `merganser query --output FILE`: the file of before stays until the answer is there as a whole.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use merganser_tests::{TestServer, soon, until};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// Fails when many rows have come.
const FAILING: &str =
    "SELECT CASE WHEN range > 300000 THEN error('boom') ELSE range END AS x FROM range(400000)";
const ENDINGS: [&str; 5] = ["csv", "json", "ndjson", "arrow", "parquet"];

fn query(server: &TestServer, sql: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_merganser-under-test"));
    command.env_clear().args(["--url", &server.address().to_string(), "query", sql]).args(more);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn ended(mut command: Command) -> (Option<i32>, String) {
    let output = soon("the command ends", command.output()).await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

/// A folder with a file in it, which says "old".
fn before(ending: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(format!("a.{ending}"));
    fs::write(&file, "old").unwrap();
    (folder, file)
}

fn assert_untouched(folder: &TempDir, file: &Path) {
    assert_eq!(fs::read_to_string(file).unwrap(), "old", "{}", file.display());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside {}", file.display());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_leaves_the_file_of_before() {
    let server = TestServer::start().await;
    for ending in ENDINGS {
        let (folder, file) = before(ending);
        let (code, said) = ended(query(&server, FAILING, &["-o", file.to_str().unwrap()])).await;
        assert_eq!((code, said.contains("boom")), (Some(1), true), "{said}");
        assert_untouched(&folder, &file);
        // Neither is a file begun that was not there.
        fs::remove_file(&file).unwrap();
        let (code, _) = ended(query(&server, FAILING, &["-o", file.to_str().unwrap()])).await;
        assert_eq!((code, fs::read_dir(folder.path()).unwrap().count()), (Some(1), 0), "{ending}");
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_told_to_stop_leaves_the_file_of_before() {
    let server = TestServer::start().await;
    for (signal, expected) in [("-INT", 130), ("-TERM", 143)] {
        let (folder, file) = before("csv");
        let endless = "SELECT range, repeat('x', 1000) AS x FROM range(1000000000)";
        let mut child: Child = query(&server, endless, &["-o", file.to_str().unwrap()]).spawn().unwrap();
        until("rows are written", async || fs::read_dir(folder.path()).unwrap().count() == 2).await;
        let id = child.id().unwrap().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().await.unwrap().success());
        let status = soon("the command ends", child.wait()).await.unwrap();
        assert_eq!(status.code(), Some(expected), "{signal}");
        assert_untouched(&folder, &file);
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_command_leaves_goes_with_the_next_one() {
    let server = TestServer::start().await;
    let (folder, file) = before("csv");
    let path = file.to_str().unwrap();
    let endless = "SELECT range, repeat('x', 1000) AS x FROM range(1000000000)";
    let mut child = query(&server, endless, &["-o", path]).spawn().unwrap();
    until("rows are written", async || fs::read_dir(folder.path()).unwrap().count() == 2).await;
    // While it lives nobody else writes there.
    let (code, said) = ended(query(&server, "SELECT 1 AS a", &["-o", path])).await;
    assert_eq!((code, said.contains("another merganser is writing it")), (Some(1), true), "{said}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "old");
    child.kill().await.unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    let (code, said) = ended(query(&server, "SELECT 1 AS a", &["-o", path])).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "a\n1\n");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipes_and_devices_get_rows_as_they_come() {
    let server = TestServer::start().await;
    let (code, said) = ended(query(&server, "SELECT 1 AS a", &["-f", "csv", "-o", "/dev/stdout"])).await;
    assert_eq!((code, said.as_str()), (Some(0), "a\n1\n"));
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().await.unwrap().success());
    let read = tokio::task::spawn_blocking({
        let pipe = pipe.clone();
        move || fs::read_to_string(pipe).unwrap()
    });
    let piped = ["-f", "csv", "-o", pipe.to_str().unwrap()];
    let (code, said) = ended(query(&server, "SELECT 2 AS b", &piped)).await;
    assert_eq!((code, said.as_str()), (Some(0), ""));
    assert_eq!(soon("the pipe ends", read).await.unwrap(), "b\n2\n");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    server.shutdown().await;
}
