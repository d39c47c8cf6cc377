//! The same by `merganser`.

use std::process::Output;

use merganser_tests::{TestServer, refused, soon};
use tokio::process::Command;
use tonic::Code;

use super::{HOURS, read, seen, session_of};

async fn merganser(url: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_merganser-under-test"));
    command.env_clear().args(["--url", url]).args(arguments).kill_on_drop(true);
    let Output { status, stdout, stderr } = soon("the command ends", command.output()).await.unwrap();
    (status.code(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_lists_and_ends_what_runs() {
    let server = TestServer::start().await;
    let (url, victim, operator) =
        (server.address().to_string(), server.client().await, server.client().await);
    let running = tokio::spawn(read(victim.clone(), HOURS.into()));
    let id = seen(&operator, HOURS, "running").await.to_string();
    let (code, said) = merganser(&url, &["statements"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(HOURS) && said.contains("| id "), "{said}");
    let (code, said) = merganser(&url, &["cancel", &id]).await;
    assert_eq!((code, said.as_str()), (Some(0), &*format!("statement {id} is told to end\n")));
    refused(soon("its end", running).await.unwrap(), Code::Cancelled, "CANCELLED");
    let (code, said) = merganser(&url, &["cancel", &id]).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("STATEMENT_NOT_FOUND"), "{said}");

    victim.execute("CREATE TEMP TABLE mine (id BIGINT)").await.unwrap();
    let session = session_of(&victim).await.to_string();
    let (code, said) = merganser(&url, &["sessions"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("transaction_since") && said.contains("| true "), "{said}");
    let (code, said) = merganser(&url, &["close-session", &session]).await;
    assert_eq!((code, said.as_str()), (Some(0), &*format!("session {session} is closed\n")));
    refused(victim.execute("FROM mine").await, Code::Aborted, "SESSION_CLOSED");
    server.shutdown().await;
}
