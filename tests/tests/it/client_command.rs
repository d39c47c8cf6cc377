//! `merganser`: queries into files, scripts, and what it says where no connection comes up.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use merganser_server::config::{Config, Tls};
use merganser_tests::{Authority, Signed, TestServer, integer, soon, texts};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use tempfile::TempDir;
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
async fn a_transaction_that_a_command_leaves_open_is_an_error() {
    let server = TestServer::start().await;
    let url = server.address().to_string();
    for asked in [
        ["query", "BEGIN"],
        ["execute", "BEGIN TRANSACTION; CREATE TABLE t (x INT)"],
        ["execute", "COMMIT; start transaction; CREATE TABLE t (x INT)"],
        ["execute", "ROLLBACK"],
    ] {
        let (code, said) = ended(command(&url, &asked)).await;
        match asked[1].contains("ROLLBACK") || asked[1].starts_with("COMMIT") {
            true => assert_eq!(
                (code, said.contains("each command is a session of its own")),
                (Some(1), true),
                "{said}"
            ),
            false => assert_eq!(
                (code, said.contains("rolled back now: nothing of it is stored")),
                (Some(64), true),
                "{said}"
            ),
        }
    }
    for sql in ["BEGIN; CREATE TABLE t AS SELECT 1::BIGINT AS x; COMMIT", "SELECT 'begin'"] {
        let (code, said) = ended(command(&url, &["execute", sql])).await;
        assert_eq!(code, Some(0), "{sql}: {said}");
    }
    assert_eq!(integer(&server.client().await, "SELECT x FROM t").await, 1);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn help_has_examples() {
    for asked in [&["--help"][..], &["query", "--help"], &["execute", "-h"], &["load", "--help"]] {
        let (code, said) = ended(command("grpc://127.0.0.1:1", asked)).await;
        assert_eq!((code, said.contains("Examples:\n  merganser ")), (Some(0), true), "{said}");
    }
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
async fn every_value_is_written_as_it_is_or_the_command_fails() {
    const SQL: &str = "SELECT TIMESTAMP '290000-01-01' AS at, DATE '300000-02-03' AS day, {'t': TIMESTAMPTZ \
                       '2024-01-01 00:00:00+00'} AS s, MAP {1: 'a'} AS m, '' AS e, NULL::VARCHAR AS n";
    let server = TestServer::start().await;
    let (url, folder) = (server.address().to_string(), tempfile::tempdir().unwrap());
    let object = "{\"at\":\"+290000-01-01T00:00:00\",\"day\":\"+300000-02-03\",\"s\":{\"t\":\"2024-01-01T00:00:00Z\"},\
                  \"m\":{\"1\":\"a\"},\"e\":\"\",\"n\":null}";
    let line = "+290000-01-01T00:00:00,+300000-02-03,\"{\"\"t\"\":\"\"2024-01-01T00:00:00Z\"\"}\",\"{\"\"1\"\":\"\"a\"\"}\",\"\",\n";
    for (format, expected) in [
        ("ndjson", format!("{object}\n")),
        ("json", format!("[{object}]\n")),
        ("csv", format!("at,day,s,m,e,n\n{line}")),
    ] {
        let file = folder.path().join("rows");
        let (code, said) = ended(command(&url, &["query", "-f", format, "-o", text(&file), SQL])).await;
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), expected, "{format}");
    }
    let (code, said) = ended(command(&url, &["query", SQL])).await;
    assert_eq!(code, Some(0), "{said}");
    for shown in ["| +290000-01-01T00:00:00 | +300000-02-03 |", "{t: 2024-01-01T00:00:00Z}"] {
        assert!(said.contains(shown), "{said}");
    }
    let file = folder.path().join("a.parquet");
    let union = "SELECT CAST(1 AS UNION(i INTEGER, s VARCHAR)) AS u";
    let (code, said) = ended(command(&url, &["query", "-o", text(&file), union])).await;
    assert_eq!((code, file.exists()), (Some(64), false), "{said}");
    assert!(said.contains("column \"u\" has no place in Parquet"), "{said}");
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

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_files_are_matched_by_their_keys_and_may_bring_columns() {
    let server = TestServer::start().await;
    let (url, folder, client) =
        (server.address().to_string(), tempfile::tempdir().unwrap(), server.client().await);
    client.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, v VARCHAR)").await.unwrap();
    let load = async |rows: &str, options: &[&str]| {
        let file = folder.path().join("rows.csv");
        std::fs::write(&file, rows).unwrap();
        let arguments = [&["load", "-t", "t", "--retry-for", "0s"], options, &[text(&file)]].concat();
        ended(command(&url, &arguments)).await
    };
    let stored = async |columns: &str| {
        let sql = format!("SELECT concat_ws(' ', {columns}) FROM t ORDER BY id");
        texts(&client, &sql).await.unwrap()
    };
    let loaded = async |rows: &str, options: &[&str]| {
        let (code, said) = load(rows, options).await;
        assert_eq!(code, Some(0), "{options:?}: {said}");
    };
    let refused = async |rows: &str, options: &[&str], slug: &str| {
        let (code, said) = load(rows, options).await;
        assert_eq!((code, said.contains(slug)), (Some(1), true), "{options:?}: {said}");
    };
    loaded("id,v\n1,a\n2,a\n", &[]).await;
    refused("id,v\n2,b\n3,b\n", &[], "DUPLICATE_KEY").await;
    assert_eq!(stored("id, v").await, ["1 a", "2 a"]);
    loaded("id,v\n2,b\n3,b\n", &["--key", "id"]).await;
    assert_eq!(stored("id, v").await, ["1 a", "2 b", "3 b"]);
    loaded("id,v\n3,c\n4,c\n", &["--key", "id", "--on-conflict", "ignore"]).await;
    assert_eq!(stored("id, v").await, ["1 a", "2 b", "3 b", "4 c"]);
    // Without columns to match by, those of the primary key.
    loaded("id,v\n4,d\n5,d\n", &["--on-conflict", "update"]).await;
    assert_eq!(stored("id, v").await, ["1 a", "2 b", "3 b", "4 d", "5 d"]);
    refused("id,v,w\n5,e,1\n", &["--key", "id"], "SCHEMA_MISMATCH").await;
    loaded("id,v,w\n5,e,1\n", &["--key", "id", "--add-columns"]).await;
    assert_eq!(stored("id, v, w").await, ["1 a", "2 b", "3 b", "4 d", "5 e 1"]);
    refused("id,v\n,e\n", &["--key", "id"], "SCHEMA_MISMATCH").await;
    refused("id,v\n9,e\n", &["--key", "nothing"], "SCHEMA_MISMATCH").await;
    let (code, said) = load("id,v\n9,e\n", &["--on-conflict", "perhaps"]).await;
    assert_eq!(code, Some(64), "{said}");
    assert_eq!(stored("id").await.len(), 5);
    server.shutdown().await;
}

/// A certificate that has signed itself.
fn own(host: &str, is_ca: IsCa) -> Signed {
    let mut params = CertificateParams::new([host.to_owned()]).unwrap();
    params.is_ca = is_ca;
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().pem().into_bytes();
    Signed { certificate, key: key.serialize_pem().into_bytes() }
}

struct Encrypted {
    server: TestServer,
    folder: TempDir,
}

impl Encrypted {
    async fn with(Signed { certificate, key }: Signed, more: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), &certificate).unwrap();
        let server = TestServer::with(|config| {
            more(config);
            config.security.tls = Some(Tls { certificate, key, client_ca: None });
        });
        Self { server: server.await, folder }
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// What a query at this address of the server says, and with what code it ends.
    async fn says(&self, scheme: &str, port: u16, authorities: Option<&Path>) -> (Option<i32>, String) {
        let mut command = command(&format!("{scheme}://localhost:{port}"), &["query", "SELECT 1"]);
        if let Some(authorities) = authorities {
            command.arg("--tls-ca").arg(authorities);
        }
        ended(command).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_to_the_wrong_port_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.csv");
    std::fs::write(&file, "id\n1\n").unwrap();
    let authority = Authority::new();
    let with_http = |config: &mut Config| config.network.http = Some("127.0.0.1:0".parse().unwrap());
    let encrypted = Encrypted::with(authority.server(), with_http).await;
    let plain = TestServer::with(with_http).await;
    let ca = encrypted.file("authority.pem", &authority.certificate());
    let port = |server: &TestServer| server.address().port();
    let http = |server: &TestServer| server.http_address().unwrap().port();
    for (scheme, port, expected) in [
        ("grpc", port(&encrypted.server), "the server speaks TLS on this port: use grpc+tls://"),
        ("grpc", http(&encrypted.server), "the server speaks TLS on this port"),
        ("grpc", http(&plain), "no gRPC is spoken on this port; it may be that of HTTP"),
        ("grpc+tls", port(&plain), "the server does not speak TLS on this port: use grpc://"),
        ("grpc+tls", http(&plain), "the server does not speak TLS on this port"),
        ("grpc+tls", http(&encrypted.server), "no gRPC is spoken on this port; it may be that of HTTP"),
    ] {
        let (code, said) = encrypted.says(scheme, port, Some(&ca)).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("CONNECT: cannot connect to localhost:") && said.contains(expected), "{said}");
        let url = format!("{scheme}://localhost:{port}");
        let load =
            ["load", "--retry-for", "0s", "--loader", "a", "--tls-ca", text(&ca), "-t", "t", text(&file)];
        let (code, said) = ended(command(&url, &load)).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(expected), "{said}");
    }
    assert_eq!(encrypted.says("grpc+tls", port(&encrypted.server), Some(&ca)).await.0, Some(0));
    plain.shutdown().await;
    encrypted.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_taken_is_told_with_what_to_do() {
    let as_openssl_makes_it = IsCa::Ca(BasicConstraints::Unconstrained);
    for (signed, expected) in [
        (own("localhost", as_openssl_makes_it), "-addext basicConstraints=critical,CA:FALSE"),
        (own("db.example", IsCa::ExplicitNoCa), "use a name for which it is valid in the address"),
    ] {
        let encrypted = Encrypted::with(signed, |_| ()).await;
        let (port, ca) = (encrypted.server.address().port(), encrypted.folder.path().join("ca.pem"));
        let (code, said) = encrypted.says("grpc+tls", port, Some(&ca)).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("CONNECT: ") && said.contains(expected), "{said}");
        encrypted.server.shutdown().await;
    }
    // What is advised works.
    let encrypted = Encrypted::with(own("localhost", IsCa::ExplicitNoCa), |_| ()).await;
    let (port, ca) = (encrypted.server.address().port(), encrypted.folder.path().join("ca.pem"));
    let (code, said) = encrypted.says("grpc+tls", port, Some(&ca)).await;
    assert_eq!(code, Some(0), "{said}");
    let other = encrypted.file("other.pem", &own("localhost", IsCa::ExplicitNoCa).certificate);
    let nonsense = encrypted.file("nonsense.pem", b"nonsense");
    for (ca, code, expected) in [
        (Some(&*nonsense), 64, "the file of authorities (--tls-ca) has no certificate in PEM"),
        (None, 1, "none of the trusted authorities has signed"),
        (Some(&other), 1, "(--tls-ca)"),
    ] {
        let (ended, said) = encrypted.says("grpc+tls", port, ca).await;
        assert_eq!((ended, said.contains(expected)), (Some(code), true), "{said}");
    }
    encrypted.server.shutdown().await;
}
