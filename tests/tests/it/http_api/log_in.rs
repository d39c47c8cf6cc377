//! Who may send SQL over HTTP: who may over Flight.

use std::sync::Arc;

use arrow_flight::Ticket;
use base64::prelude::{BASE64_STANDARD, Engine};
use merganser_server::config::{Config, PasswordHash, Tls, User};
use merganser_tests::{Authority, HttpClient, Signed, TestServer, configure};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::Request;

use super::server_with;

/// What the API answers, and what it would answer if it were there.
const EVERYTHING: [(&str, &str); 8] = [
    ("POST", "/v1/sql"),
    ("GET", "/v1/tables"),
    ("GET", "/v1/queries"),
    ("GET", "/v1/queries/q"),
    ("POST", "/v1/queries/q"),
    ("GET", "/v1/queries/no_such_query"),
    ("GET", "/v1/queries/q?cursor=x"),
    ("GET", "/v1/openapi.json"),
];

fn with_ana(config: &mut Config) {
    configure(config, "[[query]]\nname = 'q'\nsql = 'SELECT 1 AS n'");
    config.security.users = vec![User { name: "ana".into(), password: PasswordHash::of("secret").unwrap() }];
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

async fn status(client: &mut HttpClient, authorization: &str) -> u16 {
    let headers = [("authorization", authorization)];
    client.send("POST", "/v1/sql", &headers, "SELECT 1").await.status.as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_comes_in_without_a_password_or_a_token() {
    let (server, mut client) = server_with(with_ana).await;
    for (method, path) in EVERYTHING {
        let refused = client.send(method, path, &[], "SELECT 1").await;
        assert_eq!(refused.problem(), (401, "UNAUTHENTICATED".into()), "{path}");
        assert_eq!(refused.header("www-authenticate"), Some(r#"Basic realm="merganser""#), "{path}");
    }
    for open in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(client.send("GET", open, &[], "").await.status, 200, "{open}");
    }
    assert_eq!(status(&mut client, &basic("ana", "secret")).await, 200);
    for wrong in [basic("ana", "wrong"), basic("eva", "secret"), "Bearer x".into(), "Basic !".into()] {
        assert_eq!(status(&mut client, &wrong).await, 401, "{wrong}");
    }
    server.shutdown().await;
}

/// What is told to somebody who shows this.
async fn told(client: &mut HttpClient, method: &str, path: &str, authorization: &str) -> (String, String) {
    let answer = client.send(method, path, &[("authorization", authorization)], "SELECT 1").await;
    let problem = answer.json();
    let text = |member: &str| problem[member].as_str().unwrap_or_default().to_owned();
    (text("slug"), text("detail"))
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_whether_the_user_or_the_password_was_wrong() {
    let (server, mut client) = server_with(with_ana).await;
    let long = "x".repeat(5_000);
    let wrong = ("UNAUTHENTICATED".to_owned(), "wrong user or password".to_owned());
    for (user, guess) in [("ana", "wrong"), ("ana", ""), ("ana", &*long), ("eva", "secret"), ("", "")] {
        let guess = basic(user, guess);
        assert_eq!(told(&mut client, "GET", "/v1/queries/q", &guess).await, wrong, "{user}");
        // Over Flight they are told the same, by a call and by both ways to shake hands.
        let mut flight = server.flight().await;
        let mut request = Request::new(Ticket::new("SELECT 1"));
        request.metadata_mut().insert("authorization", guess.parse().unwrap());
        let mut handshake = Request::new(futures::stream::empty());
        handshake.metadata_mut().insert("authorization", guess.parse().unwrap());
        for status in [
            flight.do_get(request).await.map(drop).unwrap_err(),
            flight.handshake(handshake).await.map(drop).unwrap_err(),
        ] {
            assert_eq!(status.message(), "UNAUTHENTICATED: wrong user or password", "{user}");
        }
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_is_stopped_at_every_path_and_counts_wherever_it_was() {
    let (server, mut client) = server_with(with_ana).await;
    for user in ["ana", "nobody"] {
        for (guess, (method, path)) in (0..10).zip(EVERYTHING.iter().cycle()) {
            let guess = basic(user, &format!("guess {guess}"));
            let (slug, _) = told(&mut client, method, path, &guess).await;
            assert_eq!(slug, "UNAUTHENTICATED", "{user} {path}");
        }
        for (method, path) in EVERYTHING {
            let answer =
                client.send(method, path, &[("authorization", &basic(user, "secret"))], "SELECT 1").await;
            assert_eq!(answer.problem(), (403, "TOO_MANY_LOGINS".into()), "{user} {path}");
        }
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_flight_is_good_over_http() {
    let (server, mut client) = server_with(with_ana).await;
    let mut handshake = Request::new(futures::stream::empty());
    handshake.metadata_mut().insert("authorization", basic("ana", "secret").parse().unwrap());
    let answer = server.flight().await.handshake(handshake).await.unwrap();
    let bearer = answer.metadata().get("authorization").unwrap().to_str().unwrap().to_owned();
    assert_eq!(status(&mut client, &bearer).await, 200);
    server.shutdown().await;
}

/// A connection with TLS, for somebody who may have a certificate.
async fn encrypted(server: &TestServer, authority: &Authority, identity: Option<Signed>) -> HttpClient {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&authority.certificate()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match identity {
        Some(Signed { certificate, key }) => {
            let chain = vec![CertificateDer::from_pem_slice(&certificate).unwrap()];
            config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(&key).unwrap()).unwrap()
        }
        None => config.with_no_client_auth(),
    };
    let stream = TcpStream::connect(server.http_address().unwrap()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    HttpClient::over(TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_server_is_encrypted_over_http_too_and_knows_certificates() {
    let authority = Authority::new();
    let Signed { certificate, key } = authority.server();
    let client_ca = Some(authority.certificate());
    let (server, _) =
        server_with(|config| config.security.tls = Some(Tls { certificate, key, client_ca })).await;
    let mut stranger = encrypted(&server, &authority, None).await;
    assert_eq!(stranger.send("GET", "/readyz", &[], "").await.status, 200);
    assert_eq!(stranger.sql("json", "SELECT 1").await.problem(), (401, "UNAUTHENTICATED".into()));
    let mut ana = encrypted(&server, &authority, Some(authority.client("ana"))).await;
    assert_eq!(ana.sql("ndjson", "SELECT 1 AS a").await.text(), "{\"a\":1}\n");
    drop((stranger, ana));
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_users_a_name_that_may_lead_here_by_deceit_opens_nothing() {
    let evil = [("host", "evil.example:9100"), ("origin", "http://evil.example:9100")];
    let (server, mut client) = server_with(|config| config.network.http_hosts = vec!["lake".into()]).await;
    for (method, path) in [("POST", "/v1/sql"), ("GET", "/v1/tables"), ("GET", "/v1/openapi.json")] {
        let refused = client.send(method, path, &evil, "SELECT 1").await;
        assert_eq!(refused.problem(), (403, "UNKNOWN_HOST".into()), "{path}");
    }
    for open in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(client.send("GET", open, &evil, "").await.status, 200, "{open}");
    }
    for host in ["lake:9100", "127.0.0.1:9100", "[::1]:9100", "localhost"] {
        assert_eq!(client.send("POST", "/v1/sql", &[("host", host)], "SELECT 1").await.status, 200, "{host}");
    }
    server.shutdown().await;
    // Where somebody has to log in, a page has nothing to log in with.
    let (server, mut client) = server_with(with_ana).await;
    let headers = [("host", "evil.example"), ("authorization", &*basic("ana", "secret"))];
    assert_eq!(client.send("POST", "/v1/sql", &headers, "SELECT 1").await.status, 200);
    server.shutdown().await;
}
