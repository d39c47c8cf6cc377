//! What is asked: statements, parameters, tables; and what is refused, with which status and slug.

use merganser_tests::{TestServer, integer, soon};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{server, server_with};

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_writes_tells_how_many_rows() {
    let (server, mut client) = server().await;
    client.sql("json", "CREATE TABLE t (id BIGINT, name VARCHAR)").await;
    let inserted = client.bound("INSERT INTO t VALUES (?, ?), (2, 'b')", json!([1, "a"])).await;
    assert_eq!(inserted.text(), r#"{"changed":2}"#);
    let returned = client.sql("ndjson", "DELETE FROM t WHERE id = 2 RETURNING name").await;
    assert_eq!(returned.text(), "{\"name\":\"b\"}\n");
    assert_eq!(integer(&server.client().await, "SELECT count(*) FROM t").await, 1);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_bound_by_name_and_by_position() {
    let (server, mut client) = server().await;
    let named = json!({"z": 18446744073709551615_u64, "a": null, "b": "ä", "c": 0.5, "d": true, "e": -1});
    let answer = client.bound("SELECT $a AS a, $b AS b, $c AS c, $d AS d, $e AS e, $z AS z", named).await;
    assert!(
        answer.text().contains(r#"{"a":null,"b":"ä","c":0.5,"d":true,"e":-1,"z":18446744073709551615}"#),
        "{}",
        answer.text()
    );
    for sql in ["SELECT ? - ? AS a", "SELECT $1 - $2 AS a", "SELECT $x - $y AS a"] {
        let answer = client.bound(sql, json!([5, 3])).await;
        assert_eq!(answer.json()["rows"], json!([{"a": 2}]), "{sql}");
    }
    let unknown = client.bound("SELECT $a + $b", json!({"a": 1, "c": 2})).await;
    assert_eq!(unknown.problem(), (400, "SCHEMA_MISMATCH".into()));
    for parameters in [json!([[1]]), json!("x"), json!({"a": {}})] {
        let refused = client.bound("SELECT $a", parameters).await;
        assert_eq!(refused.problem(), (400, "BAD_PARAMETERS".into()));
    }
    for number in ["18446744073709551616", "9007199254740993.0", "12345678901234567890.5"] {
        let body = format!(r#"{{"sql": "SELECT ?", "parameters": [{number}]}}"#);
        let refused = client.send("POST", "/v1/sql", &[JSON], body).await;
        assert_eq!(refused.problem(), (400, "BAD_PARAMETERS".into()), "{number}");
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_has_no_more_than_so_many_parameters() {
    let (server, mut client) = server().await;
    let zeros = |count: usize| json!(vec![0; count]);
    let many = client.bound(&format!("SELECT {} AS a", ["?"; 900].join(" + ")), zeros(900)).await;
    assert_eq!(many.json()["rows"], json!([{"a": 0}]));
    let named: serde_json::Map<_, _> = (0..65_536).map(|name| (name.to_string(), json!(0))).collect();
    for parameters in [zeros(65_536), json!(named)] {
        let refused = client.bound("SELECT 1", parameters).await;
        assert_eq!(refused.problem(), (400, "TOO_MANY_PARAMETERS".into()));
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_misspelt_in_an_address_is_refused() {
    let (server, mut client) = server().await;
    for address in ["/v1/sql?fromat=csv", "/v1/sql?limit=1", "/v1/sql?format=csv&limit=1"] {
        let refused = client.send("POST", address, &[], "SELECT 42 AS a").await;
        assert_eq!(refused.problem(), (400, "BAD_PARAMETER".into()), "{address}");
    }
    for address in ["/v1/tables?format=csv", "/v1/queries?limit=1"] {
        let refused = client.send("GET", address, &[], "").await;
        assert_eq!(refused.problem(), (400, "BAD_PARAMETER".into()), "{address}");
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_twice_is_refused() {
    let (server, mut client) = server().await;
    for address in ["/v1/sql?format=csv&format=json", "/v1/sql?format=csv&form%61t=csv"] {
        let refused = client.send("POST", address, &[], "SELECT 42 AS a").await;
        assert_eq!(refused.problem(), (400, "BAD_PARAMETER".into()), "{address}");
    }
    let hosts = [("host", "localhost"), ("host", "127.0.0.1")];
    let refused = client.send("POST", "/v1/sql", &hosts, "SELECT 42 AS a").await;
    assert_eq!(refused.problem(), (400, "BAD_HOST".into()));
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_packed_is_refused() {
    let (server, mut client) = server().await;
    let packed = [("content-encoding", "gzip")];
    let refused = client.send("POST", "/v1/sql", &packed, "SELECT 42 AS a").await;
    assert_eq!(refused.problem(), (415, "UNSUPPORTED_ENCODING".into()));
    let plain = [("content-encoding", "identity")];
    assert_eq!(client.send("POST", "/v1/sql", &plain, "SELECT 42 AS a").await.status, 200);
    let request = "POST /v1/sql HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
    let answer = answer_to(&server, request).await;
    assert!(answer.starts_with("HTTP/1.1 501 ") && answer.contains("UNSUPPORTED_ENCODING"), "{answer}");
    server.shutdown().await;
}

/// Of a body that is announced to be too large, nothing need come.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_would_be_too_large_is_refused_at_once() {
    let (server, _) = server().await;
    let request =
        "POST /v1/sql HTTP/1.1\r\nHost: localhost\r\nContent-Length: 70368744177664\r\n\r\nSELECT 1";
    let answer = answer_to(&server, request).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("MESSAGE_TOO_LARGE"), "{answer}");
    server.shutdown().await;
}

/// What comes of a request, up to the end of the problem that it meets.
async fn answer_to(server: &TestServer, request: &str) -> String {
    let mut stream = TcpStream::connect(server.http_address().unwrap()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        let read = soon("an answer", stream.read_buf(&mut answer)).await.unwrap();
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(&answer));
    }
    String::from_utf8(answer).unwrap()
}

/// What curl sends with `-d` and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn the_form_of_a_browser_is_refused_with_what_to_do() {
    let (server, mut client) = server().await;
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let refused = client.send("POST", "/v1/sql", &form, "SELECT 42 AS a").await;
    assert!(refused.text().contains("-H 'content-type: application/sql'"), "{}", refused.text());
    assert_eq!(refused.problem(), (415, "UNSUPPORTED_MEDIA_TYPE".into()));
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_may_come_as_text() {
    let (server, mut client) = server().await;
    for headers in
        [&[][..], &[("content-type", "text/plain; charset=utf-8")], &[("content-type", "application/sql")]]
    {
        let answer = client.send("POST", "/v1/sql?format=csv", headers, "SELECT 42 AS a").await;
        assert_eq!(answer.text(), "a\n42\n");
    }
    let accepting = [("accept", "text/html;q=0.9, text/csv;q=0.5"), ("content-type", "application/sql")];
    assert_eq!(client.send("POST", "/v1/sql", &accepting, "SELECT 42 AS a").await.text(), "a\n42\n");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_a_problem_with_a_slug() {
    let (server, mut client) = server().await;
    client.sql("json", "CREATE TABLE t (id BIGINT PRIMARY KEY)").await;
    client.sql("json", "INSERT INTO t VALUES (1)").await;
    for (sql, status, slug) in [
        ("SELEC 1", 400, "SYNTAX"),
        ("SELECT * FROM nowhere", 404, "NOT_FOUND"),
        ("SELECT nothing", 400, "BINDER"),
        ("SELECT 'x'::INTEGER", 400, "CONVERSION"),
        ("SELECT 1; SELECT 2", 400, "MULTI_STATEMENT"),
        ("", 400, "EMPTY_STATEMENT"),
        ("CREATE TABLE t (id BIGINT)", 409, "ALREADY_EXISTS"),
        ("INSERT INTO t VALUES (1)", 409, "DUPLICATE_KEY"),
        ("SET threads = 1", 400, "NEEDS_SESSION"),
        ("USE temp", 400, "NEEDS_SESSION"),
        ("BEGIN", 400, "NEEDS_SESSION"),
        ("CREATE TEMPORARY TABLE u (id BIGINT)", 400, "NEEDS_SESSION"),
        ("FORCE CHECKPOINT", 403, "NOT_ALLOWED"),
    ] {
        let answer = client.sql("json", sql).await;
        assert_eq!(answer.problem(), (status, slug.into()), "{sql}");
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_makes_no_sense_is_a_problem_too() {
    let (server, mut client) = server().await;
    let select = "SELECT 1";
    for (method, path, headers, body, status, slug) in [
        ("POST", "/v1/sql", &[JSON][..], "{", 400, "BAD_BODY"),
        ("POST", "/v1/sql", &[JSON], r#"{"sql": "SELECT 1", "more": 1}"#, 400, "BAD_BODY"),
        ("POST", "/v1/sql", &[("content-type", "text/csv")], select, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("POST", "/v1/sql", &[("accept", "image/png")], select, 406, "NOT_ACCEPTABLE"),
        ("POST", "/v1/sql?format=xml", &[], select, 406, "NOT_ACCEPTABLE"),
        ("POST", "/v1/sql", &[("origin", "http://elsewhere")], select, 403, "CROSS_ORIGIN"),
        ("GET", "/v1/sql", &[], "", 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/metrics", &[], "", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/v1/nowhere", &[], "", 404, "NO_SUCH_PATH"),
        ("GET", "/", &[], "", 404, "NO_SUCH_PATH"),
    ] {
        let answer = client.send(method, path, headers, body).await;
        assert_eq!(answer.problem(), (status, slug.into()), "{method} {path} {headers:?}");
    }
    let same_origin = client.send("POST", "/v1/sql", &[("origin", "http://localhost")], select).await;
    assert_eq!(same_origin.status, 200);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_listed_with_their_columns() {
    let (server, mut client) = server().await;
    client.sql("json", "CREATE TABLE t (id BIGINT NOT NULL, price DECIMAL(5,2), tags VARCHAR[])").await;
    client.sql("json", "CREATE VIEW v AS SELECT id FROM t").await;
    let listing = client.send("GET", "/v1/tables", &[], "").await.json();
    let tables = listing["tables"].as_array().unwrap();
    let table = tables.iter().find(|table| table["name"] == "t").unwrap();
    assert_eq!(
        *table,
        json!({
            "catalog": "test", "schema": "main", "name": "t", "type": "TABLE",
            "columns": [
                {"name": "id", "type": "BIGINT", "nullable": false},
                {"name": "price", "type": "DECIMAL(5,2)", "nullable": true},
                {"name": "tags", "type": "VARCHAR[]", "nullable": true},
            ],
        })
    );
    assert!(tables.iter().any(|table| table["name"] == "v" && table["type"] == "VIEW"));
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_leave_no_sessions() {
    let (server, mut client) = server_with(|config| config.sessions.count = 1).await;
    for number in 0..1_000 {
        let answer = client.sql("ndjson", "SELECT 42 AS a").await;
        assert_eq!(answer.text(), "{\"a\":42}\n", "{number}");
    }
    // The only session is still to be had.
    assert_eq!(integer(&server.client().await, "SELECT 42").await, 42);
    server.shutdown().await;
}
