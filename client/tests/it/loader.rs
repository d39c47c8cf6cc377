//! Units that are sent again: over a long stream, and one by one.

use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use crate::scripted::{Break, Seen, Server};
use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use futures::FutureExt;
use merganser::{
    Client, ClientOptions, Credentials, Error, IngestKey, IngestMode, IngestOptions, Loader, LoaderOptions,
    OnTrouble, RetryPolicy, Start, TablePath, Window,
};
use tonic::Code;

/// Quick, so that a test need not wait.
const RETRY: RetryPolicy = RetryPolicy {
    total: Duration::from_secs(20),
    first: Duration::from_millis(1),
    largest: Duration::from_millis(5),
};

fn batch(column: &str) -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    RecordBatch::try_from_iter([(column, numbers)]).unwrap()
}

fn options() -> LoaderOptions {
    LoaderOptions { retry: RETRY, epoch: Some(1), position: Start::At(1), ..LoaderOptions::new("new") }
}

async fn open(options: LoaderOptions) -> (Loader, Server) {
    let (client, server) = Server::connect().await;
    // In a task of its own, as applications do.
    let opening = tokio::spawn(async move {
        let loader = Loader::open(&client, &TablePath::new("ledger"), options).await;
        loader.unwrap()
    });
    (opening.await.unwrap(), server)
}

fn break_with(server: &Server, acknowledged: usize, stored: usize, code: Code, message: &'static str) {
    server.ledger.breaks.lock().unwrap().push_back(Break { acknowledged, stored, code, message });
}

fn streams(server: &Server) -> Vec<Vec<String>> {
    server.ledger.streams.lock().unwrap().clone()
}

#[tokio::test]
async fn units_have_keys_in_order_and_one_stream() {
    let (mut loader, server) = open(options()).await;
    for sequence in 1..=3 {
        assert_eq!(loader.send(vec![batch("a"); 2]).await.unwrap(), sequence);
    }
    let flushed = loader.flush().await.unwrap();
    assert_eq!((flushed.sequence, flushed.rows, flushed.commit_id), (Some(3), 18, 3));
    // A unit without rows has no message with rows.
    loader.send(vec![batch("a").slice(0, 0)]).await.unwrap();
    let all = loader.finish().await.unwrap();
    assert_eq!((all.units, all.rows, all.duplicates, all.retries), (4, 18, 0, 0));
    assert_eq!(streams(&server), [["new/1/1", "new/1/2", "new/1/3", "new/1/4"]]);
    let units: Vec<_> = server.ledger.units.lock().unwrap().values().copied().collect();
    assert_eq!(units, [2, 2, 2, 0]);
}

#[tokio::test]
async fn a_broken_stream_is_opened_again_and_goes_on_where_it_was_acknowledged() {
    let (mut loader, server) = open(options()).await;
    break_with(&server, 3, 2, Code::Unavailable, "ENGINE_DOWN: in a moment");
    break_with(&server, 0, 1, Code::Unknown, "COMMIT_UNKNOWN: who knows");
    break_with(&server, 1, 0, Code::ResourceExhausted, "QUEUE_FULL: in a moment");
    for _ in 1..=20 {
        loader.send(vec![batch("a")]).await.unwrap();
    }
    let all = loader.finish().await.unwrap();
    assert_eq!((all.sequence, all.units, all.rows), (Some(20), 20, 60));
    assert_eq!((all.duplicates, all.retries), (2, 3));
    let first: Vec<_> = streams(&server).iter().map(|keys| keys[0].clone()).collect();
    assert_eq!(first, ["new/1/1", "new/1/4", "new/1/4", "new/1/5"]);
    assert_eq!(server.ledger.units.lock().unwrap().len(), 20);
}

#[tokio::test]
async fn a_stream_that_ends_without_an_answer_is_opened_again() {
    let (mut loader, server) = open(options()).await;
    // What tonic makes of a stream that a proxy has cut, and of a server that it does not reach.
    server.lost.lock().unwrap().extend([200, 502, 504]);
    for _ in 1..=5 {
        loader.send(vec![batch("a")]).await.unwrap();
    }
    let all = loader.finish().await.unwrap();
    assert_eq!((all.sequence, all.units, all.retries), (Some(5), 5, 3));
    assert_eq!(server.ledger.units.lock().unwrap().len(), 5);
}

#[tokio::test]
async fn the_first_error_of_each_trouble_is_told() {
    let told = Arc::<Mutex<Vec<String>>>::default();
    let tell = {
        let told = told.clone();
        OnTrouble::new(move |error| told.lock().unwrap().push(error.to_string()))
    };
    let (mut loader, server) = open(LoaderOptions { on_trouble: Some(tell), ..options() }).await;
    break_with(&server, 0, 0, Code::Unavailable, "ENGINE_DOWN: one");
    break_with(&server, 0, 0, Code::Unavailable, "ENGINE_DOWN: two");
    break_with(&server, 1, 0, Code::Unavailable, "ENGINE_DOWN: three");
    for _ in 1..=5 {
        loader.send(vec![batch("a")]).await.unwrap();
    }
    assert_eq!(loader.finish().await.unwrap().retries, 3);
    assert_eq!(*told.lock().unwrap(), ["ENGINE_DOWN: one", "ENGINE_DOWN: three"]);
}

#[tokio::test]
async fn a_server_that_is_started_again_twice_gets_the_password_twice() {
    let server = Server::start();
    let login = Credentials::Password { user: "ada".into(), password: "secret".into() };
    let connect = ClientOptions { credentials: Some(login), ..ClientOptions::default() };
    let client = Client::connect_with(&server.url, &connect).await.unwrap();
    let mut loader = Loader::open(&client, &TablePath::new("ledger"), options()).await.unwrap();
    for _ in 0..2 {
        break_with(&server, 0, 0, Code::Unauthenticated, "UNAUTHENTICATED: the token has expired");
        break_with(&server, 0, 0, Code::Unavailable, "ENGINE_DOWN: in a moment");
    }
    loader.send(vec![batch("a")]).await.unwrap();
    assert_eq!(loader.finish().await.unwrap().units, 1);
}

#[tokio::test]
async fn what_can_never_succeed_ends_the_loader_and_names_the_unit() {
    for (code, message) in
        [(Code::Aborted, "FENCED: too late"), (Code::InvalidArgument, "SCHEMA_MISMATCH: no column a")]
    {
        let (mut loader, server) = open(options()).await;
        break_with(&server, 1, 1, code, message);
        loader.send(vec![batch("a")]).await.unwrap();
        loader.send(vec![batch("a")]).await.unwrap();
        let error = loader.flush().await.unwrap_err();
        assert_eq!(error.to_string(), format!("{message} (unit new/1/2)"));
        assert_eq!(loader.send(vec![batch("a")]).await.unwrap_err().to_string(), error.to_string());
        assert_eq!(loader.acknowledged().sequence, Some(1));
        assert!(loader.finish().await.is_err());
        assert_eq!(streams(&server).len(), 1);
    }
}

#[tokio::test]
async fn trying_again_has_an_end() {
    let retry = RetryPolicy { total: Duration::from_millis(50), ..RETRY };
    let (mut loader, server) = open(LoaderOptions { retry, ..options() }).await;
    for _ in 0..1000 {
        break_with(&server, 0, 1, Code::Unavailable, "ENGINE_DOWN: in a moment");
    }
    loader.send(vec![batch("a")]).await.unwrap();
    let error = loader.finish().await.unwrap_err();
    assert_eq!(error.slug(), Some("ENGINE_DOWN"));
}

#[tokio::test]
async fn a_full_window_makes_the_sender_wait() {
    let window = Window { units: 2, ..Window::default() };
    let (mut loader, server) = open(LoaderOptions { window, ..options() }).await;
    server.ledger.permits.forget_permits(1000);
    for _ in 0..2 {
        loader.send(vec![batch("a")]).await.unwrap();
    }
    assert!(loader.send(vec![batch("a")]).now_or_never().is_none());
    assert_eq!(loader.next_sequence(), 3, "what was not taken has no number");
    server.ledger.permits.add_permits(1);
    assert_eq!(loader.send(vec![batch("a")]).await.unwrap(), 3);
    server.ledger.permits.add_permits(2);
    assert_eq!(loader.finish().await.unwrap().units, 3);
}

#[tokio::test]
async fn other_columns_get_a_stream_of_their_own() {
    let (mut loader, server) = open(options()).await;
    for column in ["a", "a", "b", "a"] {
        loader.send(vec![batch(column)]).await.unwrap();
    }
    let mixed = loader.send(vec![batch("a"), batch("b")]).await;
    assert!(matches!(mixed, Err(Error::Usage(_))));
    assert_eq!(loader.finish().await.unwrap().retries, 0);
    assert_eq!(streams(&server), [vec!["new/1/1", "new/1/2"], vec!["new/1/3"], vec!["new/1/4"]]);
}

#[tokio::test]
async fn a_loader_goes_on_where_the_ledger_stands() {
    let resume = |name: &str| LoaderOptions { retry: RETRY, ..LoaderOptions::new(name) };
    let (mut loader, _server) = open(resume("new's")).await;
    assert_eq!((loader.committed(), loader.epoch(), loader.next_sequence()), (None, 1, 1));
    assert!(matches!(loader.send_last_again(vec![batch("a")]).await, Err(Error::Usage(_))));

    let (mut loader, server) = open(resume("known")).await;
    assert_eq!((loader.epoch(), loader.next_sequence()), (5, 18));
    assert_eq!(loader.send_last_again(vec![batch("a")]).await.unwrap(), 17);
    assert!(matches!(loader.send_last_again(vec![batch("a")]).await, Err(Error::Usage(_))));
    loader.send(vec![batch("a")]).await.unwrap();
    loader.finish().await.unwrap();
    assert_eq!(streams(&server), [["known/4/17", "known/5/18"]]);
}

fn keyed() -> IngestOptions {
    let key = Some(IngestKey::new("a", 1, 1));
    IngestOptions { key, mode: IngestMode::Append, ..IngestOptions::default() }
}

fn unkeyed() -> IngestOptions {
    IngestOptions { mode: IngestMode::Append, ..IngestOptions::default() }
}

async fn ingest(client: &Client, table: &str, options: &IngestOptions) -> Result<(), Error> {
    client.ingest_unit(&TablePath::new(table), options, &[batch("a")], &RETRY).await.map(drop)
}

#[tokio::test]
async fn a_unit_is_sent_again_when_it_was_not_stored_or_has_a_key() {
    let (client, server) = Server::connect().await;
    server.refusals.store(3, Ordering::SeqCst);
    ingest(&client, "away", &unkeyed()).await.unwrap();
    server.refusals.store(3, Ordering::SeqCst);
    ingest(&client, "unknown", &keyed()).await.unwrap();
    server.refusals.store(3, Ordering::SeqCst);
    let error = ingest(&client, "unknown", &unkeyed()).await.unwrap_err();
    assert_eq!((error.slug(), server.refusals.load(Ordering::SeqCst)), (Some("COMMIT_UNKNOWN"), 2));
    let none = client.ingest_unit(&TablePath::new("t"), &keyed(), &[], &RETRY).await;
    assert!(matches!(none, Err(Error::Usage(_))));
}

#[tokio::test]
async fn a_unit_whose_answer_a_proxy_lost_is_sent_again_only_with_a_key() {
    let (client, mut server) = Server::connect().await;
    for status in [429, 502, 503, 504, 200] {
        server.lost.lock().unwrap().push_back(status);
        let error = ingest(&client, "t", &unkeyed()).await.unwrap_err();
        assert!(matches!(error, Error::Disconnected(_)), "{status}: {error}");
        assert_eq!((server.next().await, server.next().await), (Seen::UploadBegan, Seen::UploadEnded));
        server.lost.lock().unwrap().push_back(status);
        ingest(&client, "t", &keyed()).await.unwrap();
        for _ in 0..2 {
            assert_eq!((server.next().await, server.next().await), (Seen::UploadBegan, Seen::UploadEnded));
        }
    }
    assert!(server.nothing_else(), "no upload was sent another time");
}

#[tokio::test]
async fn an_expired_token_is_renewed_once_where_there_is_a_password() {
    let server = Server::start();
    let login = Credentials::Password { user: "ada".into(), password: "secret".into() };
    let connect = |credentials| ClientOptions { credentials, ..ClientOptions::default() };
    let client = Client::connect_with(&server.url, &connect(Some(login))).await.unwrap();
    server.refusals.store(1, Ordering::SeqCst);
    ingest(&client, "expired", &unkeyed()).await.unwrap();
    server.refusals.store(9, Ordering::SeqCst);
    assert!(ingest(&client, "expired", &unkeyed()).await.is_err());
    assert_eq!(server.refusals.load(Ordering::SeqCst), 7);

    let token = connect(Some(Credentials::Token("t".into())));
    let client = Client::connect_with(&server.url, &token).await.unwrap();
    assert!(ingest(&client, "expired", &unkeyed()).await.is_err());
    assert_eq!(server.refusals.load(Ordering::SeqCst), 6);
}
