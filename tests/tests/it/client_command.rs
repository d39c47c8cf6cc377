//! `merganser`: queries into files, and scripts.

use std::{
    path::Path,
    process::{Output, Stdio},
};

use merganser_tests::{TestServer, integer, soon};
use tokio::{io::AsyncWriteExt, process::Command};

fn command(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_merganser-under-test"));
    command.env_clear().args(["--url", url]).args(arguments).kill_on_drop(true);
    command
}

async fn ended(mut command: Command) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = soon("the command ends", command.output()).await.unwrap();
    (status.code(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_into_a_file_is_whole_and_in_the_format_of_its_ending() {
    let server = TestServer::start().await;
    let (url, folder) = (server.address().to_string(), tempfile::tempdir().unwrap());
    for (name, lines, begin) in [
        ("a.csv", 20_001, "range\n0\n1\n"),
        ("a.json", 1, "[{\"range\":0},{\"range\":1}"),
        ("a.ndjson", 20_000, "{\"range\":0}\n"),
    ] {
        let file = folder.path().join(name);
        let (code, said) = ended(command(&url, &["query", "-o", text(&file), "FROM range(20000)"])).await;
        assert_eq!(code, Some(0), "{said}");
        let written = std::fs::read_to_string(&file).unwrap();
        assert_eq!((written.lines().count(), written.starts_with(begin)), (lines, true), "{name}");
    }
    for name in ["a.arrow", "a.parquet"] {
        let file = folder.path().join(name);
        let (code, said) = ended(command(&url, &["query", "-o", text(&file), "FROM range(20000)"])).await;
        assert_eq!(code, Some(0), "{said}");
        let (code, said) = ended(command(&url, &["load", "--mode", "replace", "-t", "t", text(&file)])).await;
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(integer(&server.client().await, "SELECT count(DISTINCT range) FROM t").await, 20_000);
    }
    let table = folder.path().join("a.txt");
    let (code, said) = ended(command(&url, &["query", "-o", text(&table), "FROM range(20000)"])).await;
    assert_eq!((code, said.contains(".csv, .json")), (Some(64), true), "{said}");
    assert!(!table.exists());
    let asked = ["query", "-f", "table", "-o", text(&table), "FROM range(20000)"];
    let (code, said) = ended(command(&url, &asked)).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(std::fs::read_to_string(&table).unwrap().lines().count(), 20_004);
    // Where another program reads, as here, nothing is cut either.
    let (code, said) = ended(command(&url, &["query", "FROM range(20000)"])).await;
    assert_eq!((code, said.lines().count()), (Some(0), 20_004));
    let (code, said) = ended(command(&url, &["query", "--max-rows", "1", "FROM range(2)"])).await;
    assert_eq!(code, Some(0));
    assert!(said.contains("1 more row (of 2)"), "{said}");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_runs_as_a_whole_or_not_at_all() {
    let server = TestServer::start().await;
    let (url, folder) = (server.address().to_string(), tempfile::tempdir().unwrap());
    let (client, file) = (server.client().await, folder.path().join("script.sql"));
    let script = "CREATE TABLE t (id BIGINT); INSERT INTO t VALUES (1), (2);";
    let (code, said) = ended(command(&url, &["query", script])).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("MULTI_STATEMENT") && said.contains("merganser execute runs scripts"), "{said}");

    let (code, said) = ended(command(&url, &["execute", &format!("{script} SELECT nothing")])).await;
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(integer(&client, "SELECT count(*) FROM duckdb_tables()").await, 0);
    let (code, said) = ended(command(&url, &["execute", script])).await;
    assert_eq!(code, Some(0), "{said}");
    std::fs::write(&file, "INSERT INTO t VALUES (3); -- one; more\nINSERT INTO t VALUES (4)").unwrap();
    let (code, said) = ended(command(&url, &["execute", "--file", text(&file)])).await;
    assert_eq!(code, Some(0), "{said}");
    for arguments in [&["execute", "-"][..], &["execute", "--file", "-"]] {
        let mut command = command(&url, arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"INSERT INTO t VALUES (5)").await.unwrap();
        assert!(soon("the command ends", child.wait()).await.unwrap().success());
    }
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 6);
    std::fs::write(&file, "SELECT 42 AS answer").unwrap();
    let (code, said) = ended(command(&url, &["query", "--format", "csv", "--file", text(&file)])).await;
    assert_eq!((code, said.as_str()), (Some(0), "answer\n42\n"));
    for wrong in [&["execute"][..], &["execute", "SELECT 1", "--file", text(&file)]] {
        let (code, said) = ended(command(&url, wrong)).await;
        assert_eq!(code, Some(64), "{said}");
    }
    server.shutdown().await;
}
