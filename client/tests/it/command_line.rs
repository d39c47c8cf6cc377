//! What `merganser load` says, and the code with which it ends.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::scripted::{Break, Server};
use tempfile::TempDir;
use tonic::Code;

fn load(server: &Server, table: &str, files: &[PathBuf]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_merganser"));
    command.env_clear().args(["--url", &server.url, "load", "--table", table]).args(files);
    command
}

/// A file that can be loaded, and one that cannot.
fn files() -> (TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (good, bad) = (folder.path().join("good.csv"), folder.path().join("bad.csv"));
    fs::write(&good, "a,b\n1,2\n").unwrap();
    fs::write(&bad, "a,b\n1\n").unwrap();
    (folder, good, bad)
}

/// A pipe whose reader has gone, and on Linux a full disk.
fn broken_outputs() -> Vec<Stdio> {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let full = File::options().write(true).open("/dev/full");
    std::iter::once(writer.into()).chain(full.map(Stdio::from)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_tells_what_is_stored_although_nobody_reads_the_summary() {
    let server = Server::start();
    let (_folder, good, bad) = files();
    for (files, code) in [(vec![good.clone()], 0), (vec![good, bad], 1)] {
        for output in broken_outputs() {
            let status = load(&server, "t", &files).stdout(output).stderr(Stdio::null()).status().unwrap();
            assert_eq!(status.code(), Some(code), "{files:?}");
        }
        for output in broken_outputs() {
            let status = load(&server, "t", &files).stdout(Stdio::null()).stderr(output).status().unwrap();
            assert_eq!(status.code(), Some(code), "errors of {files:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_with_a_key_says_why_it_tries_again() {
    let server = Server::start();
    let (_folder, good, _) = files();
    for _ in 0..3 {
        let message = "ENGINE_DOWN: in a moment";
        let stop = Break { acknowledged: 0, stored: 0, code: Code::Unavailable, message };
        server.ledger.breaks.lock().unwrap().push_back(stop);
    }
    let output = load(&server, "ledger", &[good]).args(["--loader", "new"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.as_str()), (Some(0), "ENGINE_DOWN: in a moment; trying again\n"));
}
