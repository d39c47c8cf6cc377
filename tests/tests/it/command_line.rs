//! What the command says before it serves: hashes of passwords, and refusals with exit code 64.

use std::{fs, path::Path};

use assert_cmd::Command;
use merganser_server::config::PasswordHash;
use merganser_tests::Authority;
use predicates::{prelude::PredicateBooleanExt, str::contains};

fn server() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_merganser-server-under-test"));
    command.env_clear();
    command
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn hash_password_prints_a_hash_that_the_configuration_takes() {
    let output = server().arg("hash-password").write_stdin("secret\n").assert().success();
    let printed = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    assert!(printed.starts_with("$argon2id$v=19$"), "{printed}");
    PasswordHash::parse(printed.trim_end()).unwrap();
    let again = server().arg("hash-password").write_stdin("secret\n").assert().success();
    assert_ne!(printed.as_bytes(), again.get_output().stdout, "every hash has a salt of its own");
}

#[test]
fn hash_password_takes_no_argument_and_no_empty_password() {
    server().args(["hash-password", "secret"]).assert().code(64);
    server().arg("hash-password").write_stdin("\n").assert().code(1).stderr(contains("1 to 1024 bytes"));
}

#[test]
fn a_wrong_user_is_named_and_its_hash_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("merganser.toml");
    let hash = PasswordHash::of("secret").unwrap();
    let ana = format!("[[user]]\nname = \"ana\"\npassword_hash = \"{hash}\"\n");
    for (users, named) in [
        (ana.repeat(2), "user.name: \"ana\" is there twice"),
        (ana.replace("\"ana\"", "\"\""), "user.name: is empty"),
        (ana.replace("\"ana\"", "\"a:b\""), "user.name: \"a:b\" has a colon"),
        (ana.replace("$argon2id", "$argon2i"), "user.password_hash: of the user \"ana\""),
        ("[[user]]\nname = \"ana\"\n".into(), "password_hash"),
        (format!("{ana}role = \"x\"\n"), "role"),
    ] {
        fs::write(&file, format!("database = \":memory:\"\n{users}")).unwrap();
        let hidden = contains("argon2id$v").not();
        server().args(["--config", text(&file)]).assert().code(64).stderr(contains(named).and(hidden));
    }
}

#[test]
fn certificates_that_do_not_fit_are_refused_before_anything_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (one, other) = (authority.server(), authority.server());
    let write = |name: &str, content: &[u8]| {
        let file = folder.path().join(name);
        fs::write(&file, content).unwrap();
        file
    };
    let certificate = write("certificate.pem", &one.certificate);
    let key = write("key.pem", &one.key);
    let foreign_key = write("foreign.pem", &other.key);
    let nonsense = write("nonsense.pem", b"nonsense");
    let (certificate, key, foreign_key) = (text(&certificate), text(&key), text(&foreign_key));
    let nonsense = text(&nonsense);
    for (arguments, named) in [
        (vec!["--tls-cert", certificate], "tls_key: is needed"),
        (vec!["--tls-key", key], "tls_cert: is needed"),
        (vec!["--tls-client-ca", certificate], "tls_client_ca: needs"),
        (vec!["--tls-cert", "/nowhere.pem", "--tls-key", key], "tls_cert: /nowhere.pem"),
        (vec!["--tls-cert", nonsense, "--tls-key", key], "tls_cert: has no certificate"),
        (vec!["--tls-cert", certificate, "--tls-key", nonsense], "tls_key: has no private key"),
        (vec!["--tls-cert", certificate, "--tls-key", foreign_key], "tls_key: is not the key"),
        (
            vec!["--tls-cert", certificate, "--tls-key", key, "--tls-client-ca", nonsense],
            "tls_client_ca: has no certificate",
        ),
        (vec!["--token-idle", "0s"], "token_idle: must be at least 1s"),
        (vec!["--listen", "0.0.0.0:0"], "listen: 0.0.0.0:0 can be reached"),
    ] {
        let database = folder.path().join("never.duckdb");
        server()
            .args(["--database", text(&database)])
            .args(&arguments)
            .assert()
            .code(64)
            .stderr(contains(named));
        assert!(!database.exists(), "{arguments:?}");
    }
}

#[test]
fn the_page_on_configuration_has_every_option_of_the_help() {
    let output = server().arg("--help").assert().success();
    let help = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md")).unwrap();
    let options: Vec<_> = help
        .lines()
        .filter_map(|line| line.trim_start().split_once("--").filter(|(before, _)| before.len() <= 4))
        .filter_map(|(_, option)| option.split([' ', '=', '[', ',']).next())
        .filter(|option| !["help", "version", "config"].contains(option))
        .collect();
    assert!(options.len() > 30, "{options:?}");
    for option in options {
        let (variable, key) = (option.replace('-', "_").to_uppercase(), option.replace('-', "_"));
        let row = format!("| `--{option}` | `MERGANSER_{variable}` | `{key}` |");
        assert!(page.contains(&row), "the page has no row {row}");
    }
}
