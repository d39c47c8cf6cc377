//! What a client may take of the server.

use std::time::Duration;

use merganser_tests::{HttpClient, soon};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::server_with;

#[tokio::test(flavor = "multi_thread")]
async fn a_body_has_a_largest_size() {
    let (server, mut client) = server_with(|config| config.network.max_message_bytes = 1_000).await;
    let refused = client.sql("json", &"-".repeat(1_001)).await;
    assert_eq!(refused.problem(), (413, "MESSAGE_TOO_LARGE".into()));
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_end_its_head_or_its_body_is_let_go() {
    let short = Duration::from_millis(200);
    let (server, _) = server_with(|config| {
        config.network.begin_within = short;
        config.engine.stall_timeout = short;
    })
    .await;
    let head = "POST /v1/sql HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n";
    for (begun, status) in [(head.to_owned(), None), (format!("{head}\r\nSELECT"), Some("HTTP/1.1 408 "))] {
        let mut stream = TcpStream::connect(server.http_address().unwrap()).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // It may be closed without a word.
        let _ = soon("the end of the connection", stream.read_to_end(&mut answer)).await;
        if let Some(status) = status {
            assert!(answer.starts_with(status.as_bytes()), "{}", String::from_utf8_lossy(&answer));
        }
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_refused_where_nobody_could_see_it_break_off() {
    let (server, _) = server_with(|_| ()).await;
    let mut stream = TcpStream::connect(server.http_address().unwrap()).await.unwrap();
    stream.write_all(b"POST /v1/sql HTTP/1.0\r\nContent-Length: 8\r\n\r\nSELECT 1").await.unwrap();
    let mut answer = String::new();
    soon("the end of the connection", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 505 ") && answer.contains("HTTP_VERSION"), "{answer}");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_is_closed_at_once() {
    let (server, mut client) = server_with(|config| config.network.max_connections = 1).await;
    assert_eq!(client.sql("ndjson", "SELECT 1 AS a").await.text(), "{\"a\":1}\n");
    let mut second = TcpStream::connect(server.http_address().unwrap()).await.unwrap();
    let ended = soon("the end of the connection", second.read(&mut [0])).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    drop(client);
    // Its place is free again, soon.
    merganser_tests::until("a connection is taken", async || {
        let mut stream = TcpStream::connect(server.http_address().unwrap()).await.unwrap();
        let asked =
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let mut answer = String::new();
        asked.await.is_ok() && stream.read_to_string(&mut answer).await.is_ok() && answer.contains("alive")
    })
    .await;
    let mut client = HttpClient::connect(server.http_address().unwrap()).await;
    drop(client.begin("GET", "/healthz", &[("connection", "close")], "").await);
    server.shutdown().await;
}
