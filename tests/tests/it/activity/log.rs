//! The log calls a statement as the list does.

use std::{fs, process::Stdio};

use merganser::{Client, ClientOptions, Credentials};
use merganser_server::config::PasswordHash;
use merganser_tests::Process;
use serde_json::Value;
use tokio::process::Command;

use super::told;

#[tokio::test(flavor = "multi_thread")]
async fn a_line_has_the_id_the_session_and_the_user_of_its_statement() {
    let folder = tempfile::tempdir().unwrap();
    let [file, log] = ["merganser.toml", "log"].map(|name| folder.path().join(name));
    let hash = PasswordHash::of("secret").unwrap();
    let user = format!("[[user]]\nname = 'ana'\npassword_hash = '{hash}'\n");
    let settings = "database = ':memory:'\nlog_level = 'merganser_server=debug'\nlog_format = 'json'\n";
    fs::write(&file, format!("{settings}{user}")).unwrap();
    let mut command = Command::new(crate::SERVER);
    command.args(["--listen", "127.0.0.1:0", "--config", file.to_str().unwrap()]);
    command.stdin(Stdio::null()).stderr(fs::File::create(&log).unwrap());
    let server = Process::run(command).await;
    let credentials = Credentials::Password { user: "ana".into(), password: "secret".into() };
    let options = ClientOptions { credentials: Some(credentials), ..ClientOptions::default() };
    let client = Client::connect_with(server.url(), &options).await.unwrap();

    let own = "SELECT concat_ws('|', id, session, user_name) FROM merganser_statements() WHERE kind = 'read'";
    let row = told(&client, own).await;
    assert!(server.terminate().await.success());
    let log = fs::read_to_string(&log).unwrap();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["fields"].clone());
    let line = lines.into_iter().find(|fields| fields["message"] == "statement" && fields["kind"] == "read");
    let line = line.unwrap_or_else(|| panic!("no statement in {log}"));
    let told = format!("{}|{}|{}", line["query_id"], line["session"], line["user"].as_str().unwrap());
    assert_eq!(told, row);
    assert!(row.ends_with("|ana"), "{row}");
}
