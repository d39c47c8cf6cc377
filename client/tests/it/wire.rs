//! Uploads, results and log-ins.

use std::{sync::Arc, time::Duration};

use crate::scripted::{Seen, Server};
use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use futures::{StreamExt, TryStreamExt, stream};
use merganser::{Client, ClientOptions, Credentials, Error, IngestAck, IngestMode, TablePath};

/// The scripted server answers the headers of a plain put at once, and those of a Flight SQL ingest with
/// the result: HTTP/2 resets behave differently before and after them.
const MODES: [IngestMode; 2] = [IngestMode::CreateOrAppend, IngestMode::Append];

fn batch() -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    RecordBatch::try_from_iter([("a", column)]).unwrap()
}

fn table() -> TablePath {
    TablePath::new("t")
}

#[tokio::test]
async fn an_upload_that_ends_is_whole() {
    for mode in MODES {
        let (client, mut server) = Server::connect().await;
        let batches = stream::iter([Ok::<_, Error>(batch()), Ok(batch())]);
        let acknowledged = client.ingest(&table(), mode, batch().schema(), batches).await.unwrap();
        // The schema is a message, too.
        assert_eq!(acknowledged.rows, 3, "{mode:?}");
        assert_eq!(server.next().await, Seen::UploadBegan);
        assert_eq!(server.next().await, Seen::UploadEnded, "{mode:?}");
    }
}

#[tokio::test]
async fn an_upload_without_rows_still_has_its_schema() {
    let (client, _server) = Server::connect().await;
    let none = stream::iter(Vec::<Result<RecordBatch, Error>>::new());
    let acknowledged: IngestAck =
        client.ingest(&table(), IngestMode::Append, batch().schema(), none).await.unwrap();
    assert_eq!(acknowledged.rows, 1);
}

#[tokio::test]
async fn a_source_that_fails_breaks_the_upload() {
    for mode in MODES {
        let (client, mut server) = Server::connect().await;
        let batches = stream::iter([Ok(batch()), Err(Error::Usage("line 7 is bad".into()))]);
        // The failure comes once the server is in the middle of the upload.
        let (began, begun) = tokio::sync::oneshot::channel::<()>();
        let batches = batches.enumerate().then({
            let mut begun = Some(begun);
            move |(index, item)| {
                let wait = (index == 1).then(|| begun.take()).flatten();
                async move {
                    if let Some(begun) = wait {
                        begun.await.unwrap();
                    }
                    item
                }
            }
        });
        let ingest = tokio::spawn({
            let client = client.clone();
            async move { client.ingest(&table(), mode, batch().schema(), batches).await }
        });
        assert_eq!(server.next().await, Seen::UploadBegan);
        began.send(()).unwrap();
        let error = ingest.await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "line 7 is bad");
        assert_eq!(server.next().await, Seen::UploadBroke, "{mode:?}");
    }
}

#[tokio::test]
async fn a_caller_that_leaves_breaks_the_upload() {
    for mode in MODES {
        let (client, mut server) = Server::connect().await;
        let batches = stream::iter([Ok::<_, Error>(batch())]).chain(stream::pending());
        let ingest = tokio::spawn({
            let client = client.clone();
            async move { client.ingest(&table(), mode, batch().schema(), batches).await }
        });
        assert_eq!(server.next().await, Seen::UploadBegan);
        ingest.abort();
        assert_eq!(server.next().await, Seen::UploadBroke, "{mode:?}");
    }
}

#[tokio::test]
async fn dropped_rows_cancel_the_query() {
    let (client, mut server) = Server::connect().await;
    let mut rows = client.query("endless").await.unwrap();
    assert_eq!(rows.try_next().await.unwrap(), Some(batch()));
    assert!(rows.bytes_received() > 0);
    drop(rows);
    assert_eq!(server.next().await, Seen::QueryCancelled);
}

#[tokio::test]
async fn unread_rows_do_not_hold_up_other_calls() {
    let (client, _server) = Server::connect().await;
    let mut unread = Vec::new();
    for _ in 0..10 {
        unread.push(client.query("endless").await.unwrap());
    }
    // Long enough to fill the windows of ten streams.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(client.execute("UPDATE").await.unwrap(), 7);
}

#[tokio::test]
async fn a_statement_without_rows_is_not_fetched() {
    let (client, _server) = Server::connect().await;
    let rows = client.query("dml").await.unwrap();
    assert!(!rows.has_columns());
    assert_eq!(rows.affected_rows(), Some(7));
    assert!(rows.try_collect::<Vec<_>>().await.unwrap().is_empty());
}

#[tokio::test]
async fn errors_keep_their_slug() {
    let (client, _server) = Server::connect().await;
    let error = client.query("wrong").await.unwrap_err();
    assert_eq!(error.to_string(), "SYNTAX: near \"wrong\"");
    assert!(!error.retryable());
}

#[tokio::test]
async fn a_log_in_gives_the_token_of_every_call() {
    let server = Server::start();
    let mut options = ClientOptions {
        credentials: Some(Credentials::Password { user: "ada".into(), password: "secret".into() }),
        ..ClientOptions::default()
    };
    let client = Client::connect_with(&server.url, &options).await.unwrap();
    let error = client.query("whoami").await.unwrap_err();
    assert_eq!(error.to_string(), "TOKEN: Bearer token-of-ada");

    options.credentials = Some(Credentials::Password { user: "ada".into(), password: "guess".into() });
    let error = Client::connect_with(&server.url, &options).await.unwrap_err();
    assert_eq!(error.to_string(), "CREDENTIALS: wrong user or password");
}

#[tokio::test]
async fn nobody_there_is_a_connect_error() {
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let error = Client::connect(&address).await.unwrap_err();
    assert!(matches!(error, Error::Connect(_)), "{error:?}");
    assert!(error.to_string().contains("refused"), "{error}");
}
