//! A client of the HTTP API on one connection, which shows how an answer ended.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use crate::soon;

/// One connection.
pub struct HttpClient(SendRequest<Full<Bytes>>);

/// An answer whose body has come, whole or not.
#[derive(Debug)]
pub struct HttpAnswer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// What has come of its body.
    pub body: Vec<u8>,
    /// The body ended as it should.
    pub complete: bool,
}

impl HttpAnswer {
    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// A header, if it is there.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a header of text"))
    }

    /// The slug of a problem, which says the same status as the answer itself.
    #[track_caller]
    pub fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16());
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
        (self.status.as_u16(), problem["slug"].as_str().expect("a slug").to_owned())
    }
}

impl HttpClient {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.expect("a connection")).await
    }

    /// Speaks over a stream that is there.
    pub async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let (send, connection) = http1::handshake(TokioIo::new(stream)).await.expect("a connection");
        tokio::spawn(connection);
        Self(send)
    }

    /// Sends a request with some headers, and gives the answer once its head is there.
    pub async fn begin(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response<Incoming> {
        let request = Request::builder().method(method).uri(path);
        let names_host = headers.iter().any(|(name, _)| *name == "host");
        let request = if names_host { request } else { request.header("host", "localhost") };
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.body(Full::new(body.into())).expect("a request");
        soon("a connection that is free", self.0.ready()).await.expect("the connection is open");
        soon("an answer", self.0.send_request(request)).await.expect("an answer")
    }

    /// The same with all that comes of the body.
    pub async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> HttpAnswer {
        let (head, mut incoming) = self.begin(method, path, headers, body).await.into_parts();
        let mut body = Vec::new();
        let complete = loop {
            match soon("the rest of the answer", incoming.frame()).await {
                Some(Ok(frame)) => body.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
                Some(Err(_)) => break false,
                None => break true,
            }
        };
        HttpAnswer { status: head.status, headers: head.headers, body, complete }
    }

    /// Runs SQL and gives the answer in a format.
    pub async fn sql(&mut self, format: &str, sql: &str) -> HttpAnswer {
        let path = format!("/v1/sql?format={format}");
        self.send("POST", &path, &[("content-type", "application/sql")], sql.to_owned()).await
    }

    /// The same with parameters, all in JSON.
    pub async fn bound(&mut self, sql: &str, parameters: Value) -> HttpAnswer {
        let body = serde_json::json!({ "sql": sql, "parameters": parameters });
        self.send("POST", "/v1/sql", &[("content-type", "application/json")], body.to_string()).await
    }
}
