//! SQL over HTTP.

mod formats;
mod limits;
mod log_in;
mod named;
mod posting;
mod requests;
mod streams;

use std::net::SocketAddr;

use merganser_server::Config;
use merganser_tests::{HttpClient, TestServer};

/// A server with the HTTP API, and a connection to it.
async fn server() -> (TestServer, HttpClient) {
    server_with(|_| ()).await
}

/// The same with some options changed.
async fn server_with(change: impl FnOnce(&mut Config)) -> (TestServer, HttpClient) {
    let server = TestServer::with(|config| {
        config.network.http = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        change(config);
    })
    .await;
    let client = HttpClient::connect(server.http_address().unwrap()).await;
    (server, client)
}
