//! With users, nobody comes in without a password, a token or a certificate; without users everybody does.

use std::time::Duration;

use arrow_flight::{
    Action, BasicAuth, Criteria, Empty, FlightData, FlightDescriptor, HandshakeRequest, Ticket,
    flight_service_client::FlightServiceClient,
};
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, Engine};
use bytes::Bytes;
use futures::{TryStreamExt, stream};
use merganser::{Client, ClientOptions, Credentials, Error};
use merganser_server::config::{Config, PasswordHash, User};
use merganser_tests::{TestServer, configure, ids, integer, put, refused, until};
use tonic::{Code, Request, Status, Streaming, metadata::MetadataMap, transport::Channel};

const SELECT: &str = "SELECT 42";

/// A server with the users ana and eva, whose passwords are their names doubled.
async fn server_with_users(change: impl FnOnce(&mut Config)) -> TestServer {
    TestServer::with(|config| {
        config.security.users = ["ana", "eva"].map(user).to_vec();
        change(config);
    })
    .await
}

fn user(name: &str) -> User {
    User { name: name.into(), password: PasswordHash::of(&name.repeat(2)).unwrap() }
}

fn password(user: &str, password: &str) -> ClientOptions {
    let credentials = Credentials::Password { user: user.into(), password: password.into() };
    ClientOptions { credentials: Some(credentials), ..ClientOptions::default() }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

fn with<T>(authorization: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", authorization.parse().unwrap());
    request
}

async fn get(flight: &mut FlightServiceClient<Channel>, authorization: &str) -> Result<usize, Status> {
    let answer = flight.do_get(with(authorization, Ticket::new(SELECT))).await?;
    Ok(answer.into_inner().try_collect::<Vec<_>>().await?.len())
}

/// A Handshake, and the token it is answered with.
async fn handshake(
    flight: &mut FlightServiceClient<Channel>,
    request: Request<HandshakeRequest>,
) -> Result<String, Status> {
    let request = request.map(|message| stream::iter([message]));
    let (headers, mut answers, _) = flight.handshake(request).await?.into_parts();
    let payload = answers.message().await?.unwrap().payload;
    let bearer = headers.get("authorization").unwrap().to_str().unwrap().to_owned();
    assert_eq!(bearer.as_bytes(), [b"Bearer ", &payload[..]].concat());
    Ok(bearer)
}

fn unauthenticated<T: std::fmt::Debug>(answer: Result<T, Status>) -> String {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    status.message().strip_prefix("UNAUTHENTICATED: ").unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_logs_in_reads_and_writes() {
    let server = server_with_users(|_| ()).await;
    let client = server.connect(&password("ana", "anaana")).await.unwrap();
    put(&client, "t", ids([1, 2])).await.unwrap();
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 2);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_an_unknown_user_are_refused_alike() {
    let server = server_with_users(|_| ()).await;
    let mut texts = Vec::new();
    for (user, guess) in [("ana", "evaeva"), ("ana", ""), ("nobody", "anaana"), ("", "")] {
        let refusal = server.connect(&password(user, guess)).await;
        texts.push(refused(refusal, Code::Unauthenticated, "UNAUTHENTICATED"));
    }
    texts.dedup();
    assert_eq!(texts, ["wrong user or password"]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn basic_is_accepted_on_every_call_padded_or_not() {
    let server = server_with_users(|_| ()).await;
    let mut flight = server.flight().await;
    // Two users of which one needs padding.
    for (user, secret) in [("ana", "anaana"), ("eva", "evaeva")] {
        get(&mut flight, &basic(user, secret)).await.unwrap();
        let unpadded = BASE64_STANDARD_NO_PAD.encode(format!("{user}:{secret}"));
        get(&mut flight, &format!("Basic {unpadded}")).await.unwrap();
    }
    unauthenticated(get(&mut flight, &basic("ana", "evaeva")).await);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_refuses_who_shows_nothing_or_nonsense() {
    let server = server_with_users(|_| ()).await;
    let mut flight = server.flight().await;
    for authorization in [None, Some("Bearer 0123"), Some("Basic !!"), Some("Digest x"), Some("")] {
        for refusal in every_method(&mut flight, authorization).await {
            unauthenticated(Err::<(), _>(refusal));
        }
    }
    server.shutdown().await;
}

/// Calls every method of Flight with what must not be enough.
async fn every_method(
    flight: &mut FlightServiceClient<Channel>,
    authorization: Option<&str>,
) -> [Status; 10] {
    let mut headers = MetadataMap::new();
    if let Some(authorization) = authorization {
        headers.insert("authorization", authorization.parse().unwrap());
    }
    let sql = FlightDescriptor::new_cmd(SELECT);
    let action = Action { r#type: "query".into(), body: SELECT.into() };
    fn with<T>(headers: &MetadataMap, message: T) -> Request<T> {
        Request::from_parts(headers.clone(), Default::default(), message)
    }
    [
        refusal(flight.handshake(with(&headers, stream::iter([HandshakeRequest::default()]))).await),
        refusal(flight.list_flights(with(&headers, Criteria::default())).await),
        flight.get_flight_info(with(&headers, sql.clone())).await.unwrap_err(),
        flight.poll_flight_info(with(&headers, sql.clone())).await.unwrap_err(),
        flight.get_schema(with(&headers, sql)).await.unwrap_err(),
        refusal(flight.do_get(with(&headers, Ticket::new(SELECT))).await),
        refusal(flight.do_put(with(&headers, stream::iter([FlightData::default()]))).await),
        refusal(flight.do_exchange(with(&headers, stream::iter([FlightData::default()]))).await),
        refusal(flight.do_action(with(&headers, action)).await),
        refusal(flight.list_actions(with(&headers, Empty {})).await),
    ]
}

fn refusal<T>(answer: Result<tonic::Response<Streaming<T>>, Status>) -> Status {
    match answer {
        Err(status) => status,
        Ok(_) => panic!("a method answered somebody unknown"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_with_a_token_answers_that_token() {
    let server = server_with_users(|_| ()).await;
    let mut flight = server.flight().await;
    let first = handshake(&mut flight, with(&basic("ana", "anaana"), HandshakeRequest::default())).await;
    let first = first.unwrap();
    let again = handshake(&mut flight, with(&first, HandshakeRequest::default())).await.unwrap();
    assert_eq!(again, first);
    get(&mut flight, &first).await.unwrap();
    // Another log-in is another token.
    let other = handshake(&mut flight, with(&basic("ana", "anaana"), HandshakeRequest::default())).await;
    assert_ne!(other.unwrap(), first);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_takes_user_and_password_in_its_body() {
    let server = server_with_users(|_| ()).await;
    let mut flight = server.flight().await;
    let payload = |secret: &str| {
        let payload =
            prost::Message::encode_to_vec(&BasicAuth { username: "ana".into(), password: secret.into() });
        Request::new(HandshakeRequest { protocol_version: 0, payload: payload.into() })
    };
    let bearer = handshake(&mut flight, payload("anaana")).await.unwrap();
    // The token then comes in the header of the C++ client.
    let mut request = Request::new(Ticket::new(SELECT));
    let token = Bytes::copy_from_slice(&bearer.as_bytes()["Bearer ".len()..]);
    request.metadata_mut().insert_bin("auth-token-bin", tonic::metadata::MetadataValue::from_bytes(&token));
    flight.do_get(request).await.unwrap();
    assert_eq!(unauthenticated(handshake(&mut flight, payload("wrong")).await), "wrong user or password");
    let nonsense = HandshakeRequest { protocol_version: 0, payload: Bytes::from_static(b"\xff") };
    unauthenticated(handshake(&mut flight, Request::new(nonsense)).await);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_expires_when_it_is_not_used() {
    let server = server_with_users(|config| config.security.token_idle = Duration::from_millis(1)).await;
    let mut flight = server.flight().await;
    let bearer = handshake(&mut flight, with(&basic("ana", "anaana"), HandshakeRequest::default())).await;
    let bearer = bearer.unwrap();
    until("the token expires", async || {
        matches!(get(&mut flight, &bearer).await, Err(status) if status.code() == Code::Unauthenticated)
    })
    .await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_is_stopped_for_one_user_and_nobody_else() {
    let server = server_with_users(|_| ()).await;
    let mut flight = server.flight().await;
    for guess in 0..10 {
        unauthenticated(get(&mut flight, &basic("ana", &guess.to_string())).await);
    }
    let status = get(&mut flight, &basic("ana", "anaana")).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().starts_with("TOO_MANY_LOGINS: "), "{status}");
    get(&mut flight, &basic("eva", "evaeva")).await.unwrap();
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_ticket_is_good_for_its_user_and_for_nobody_else() {
    let query = "[[query]]\nname = 'q'\nsql = 'SELECT $n AS n'\nparams.n = { type = 'BIGINT', default = 1 }";
    let server = server_with_users(|config| configure(config, query)).await;
    let mut flight = server.flight().await;
    let mut token = async |user: &str| {
        let asked = with(&basic(user, &user.repeat(2)), HandshakeRequest::default());
        handshake(&mut flight, asked).await.unwrap()
    };
    let (ana, eva) = (token("ana").await, token("eva").await);
    let named = FlightDescriptor::new_path(["queries", "q", "n=7"].map(str::to_owned).to_vec());
    for descriptor in [FlightDescriptor::new_cmd(SELECT), named] {
        let info = flight.get_flight_info(with(&ana, descriptor)).await.unwrap().into_inner();
        let ticket = info.endpoint[0].ticket.clone().unwrap();
        let status = flight.do_get(with(&eva, ticket.clone())).await.map(drop).unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{status}");
        assert!(status.message().starts_with("SESSION_ENDED: "), "{status}");
        unauthenticated(flight.do_get(Request::new(ticket.clone())).await.map(drop));
        // The same user may fetch it from another connection.
        let rows = server.flight().await.do_get(with(&ana, ticket)).await.unwrap().into_inner();
        assert!(!rows.try_collect::<Vec<_>>().await.unwrap().is_empty());
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_client_can_use_a_token_that_is_there() {
    let server = server_with_users(|_| ()).await;
    let mut flight = server.flight().await;
    let bearer = handshake(&mut flight, with(&basic("ana", "anaana"), HandshakeRequest::default())).await;
    let token = bearer.unwrap().split_off("Bearer ".len());
    let options = |token: &str| ClientOptions {
        credentials: Some(Credentials::Token(token.into())),
        ..ClientOptions::default()
    };
    let client: Result<Client, Error> = server.connect(&options(&token)).await;
    assert_eq!(integer(&client.unwrap(), SELECT).await, 42);
    let client = server.connect(&options("nonsense")).await.unwrap();
    refused(client.execute(SELECT).await, Code::Unauthenticated, "UNAUTHENTICATED");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_users_everybody_is_welcome_whatever_they_send() {
    let server = TestServer::start().await;
    let mut flight = server.flight().await;
    let bearer = handshake(&mut flight, Request::new(HandshakeRequest::default())).await.unwrap();
    for authorization in [&bearer, "Bearer unknown", &basic("ana", "x"), "Digest x"] {
        get(&mut flight, authorization).await.unwrap();
        handshake(&mut flight, with(authorization, HandshakeRequest::default())).await.unwrap();
    }
    server.shutdown().await;
}
