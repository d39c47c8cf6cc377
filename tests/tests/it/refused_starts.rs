//! What the server does not start with: it says why, and nothing is touched.

use std::{fs, path::Path};

use assert_cmd::{Command, assert::Assert};
use predicates::{prelude::PredicateBooleanExt, str::contains};

fn server(arguments: &[&str]) -> Assert {
    let mut command = Command::new(crate::SERVER);
    command.env_clear().timeout(merganser_tests::PATIENCE).args(["--listen", "127.0.0.1:0"]);
    command.args(arguments).assert()
}

/// How a start with this configuration ends.
fn configured(folder: &Path, toml: &str) -> Assert {
    let file = folder.join("merganser.toml");
    fs::write(&file, toml).unwrap();
    server(&["--config", file.to_str().unwrap()])
}

/// Of each DuckDB would make a database in memory, with views over it, so that acknowledged rows are lost at a stop.
#[test]
fn a_file_that_is_not_duckdbs_is_no_database() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content, what) in [
        ("a.csv", &b"a,b\n1,2\n3,4\n"[..], "not a DuckDB file"),
        ("a.json", b"{\"a\": 1, \"b\": 2}", "not a DuckDB file"),
        ("a.parquet", b"PAR1 and more than sixteen bytes", "a Parquet file"),
        ("a.db", b"SQLite format 3\0 and more", "a file of SQLite"),
        ("empty.csv", b"", "an empty file"),
    ] {
        let file = folder.path().join(name);
        fs::write(&file, content).unwrap();
        let path = file.to_str().unwrap();
        server(&["--database", path]).code(1).stderr(contains(what).and(contains(name)));
        let catalog = format!("[[catalog]]\nname = 'side'\ntype = 'duckdb'\npath = '{path}'\n");
        let refused = configured(folder.path(), &format!("database = ':memory:'\n{catalog}"));
        refused.code(1).stderr(contains(what).and(contains("catalog side")));
        assert_eq!(fs::read(&file).unwrap(), content);
    }
}

#[test]
fn what_is_no_path_of_a_file_is_no_database() {
    let folder = tempfile::tempdir().unwrap();
    for (path, why) in [
        ("", "is empty"),
        ("md:x", "begins with md:"),
        ("sqlite:x.db", "begins with sqlite:"),
        ("s3://bucket/x.db", "begins with s3:"),
        (":memory:x", "in memory"),
        ("~/x.db", "begins with ~"),
    ] {
        server(&["--database", path]).code(64).stderr(contains("option database").and(contains(why)));
        let catalog = format!("[[catalog]]\nname = 'side'\ntype = 'duckdb'\npath = '{path}'\n");
        let refused = configured(folder.path(), &format!("database = ':memory:'\n{catalog}"));
        refused.code(64).stderr(contains("catalog.path"));
        configured(folder.path(), &format!("database = '{path}'")).code(64).stderr(contains(why));
    }
    let mut command = Command::new(crate::SERVER);
    command.env_clear().env("MERGANSER_DATABASE", "").timeout(merganser_tests::PATIENCE);
    command.assert().code(64).stderr(contains("option database: is empty"));
}

#[test]
fn a_level_of_the_log_that_is_misspelt_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for level in ["wran", "inf", "info,merganser_server"] {
        let named = || contains("option log_level").and(contains("error, warn, info, debug, trace"));
        server(&["--database", ":memory:", "--log-level", level]).code(64).stderr(named());
        let toml = format!("database = ':memory:'\nlog_level = '{level}'");
        configured(folder.path(), &toml).code(64).stderr(named());
    }
}
