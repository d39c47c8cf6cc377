//! Encryption, and clients that prove who they are by a certificate.

use merganser::{ClientOptions, Credentials, Error, TlsOptions};
use merganser_server::config::{Config, PasswordHash, Tls, User};
use merganser_tests::{Authority, Signed, TestServer, integer, refused};
use tokio::{io::AsyncReadExt, net::TcpStream};
use tonic::Code;

/// Makes a server encrypt; with an authority for clients, they need certificates of it.
fn encrypted(authority: &Authority, clients: Option<&Authority>) -> impl FnOnce(&mut Config) + use<> {
    let Signed { certificate, key } = authority.server();
    let client_ca = clients.map(Authority::certificate);
    move |config| config.security.tls = Some(Tls { certificate, key, client_ca })
}

fn trusting(authority: &Authority, identity: Option<Signed>) -> ClientOptions {
    let identity = identity.map(|signed| (signed.certificate, signed.key));
    let tls = TlsOptions { ca: Some(authority.certificate()), identity };
    ClientOptions { tls, ..ClientOptions::default() }
}

async fn answers(server: &TestServer, options: &ClientOptions) -> Result<i64, Error> {
    let client = server.connect(options).await?;
    client.execute("SELECT 42").await?;
    Ok(integer(&client, "SELECT 42").await)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_server_answers_who_trusts_it() {
    let authority = Authority::new();
    let server = TestServer::with(encrypted(&authority, None)).await;
    assert_eq!(answers(&server, &trusting(&authority, None)).await.unwrap(), 42);
    let stranger = answers(&server, &trusting(&Authority::new(), None)).await;
    assert!(matches!(stranger, Err(Error::Connect(_))), "{stranger:?}");
    let in_the_clear = merganser::Client::connect(&server.address().to_string()).await;
    let in_the_clear = match in_the_clear {
        Ok(client) => client.execute("SELECT 42").await.map(|_| ()),
        Err(error) => Err(error),
    };
    assert!(in_the_clear.is_err());
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_needs_a_certificate_where_one_is_asked_for() {
    let authority = Authority::new();
    let server = TestServer::with(encrypted(&authority, Some(&authority))).await;
    let with = |identity| trusting(&authority, identity);
    assert_eq!(answers(&server, &with(Some(authority.client("ana")))).await.unwrap(), 42);
    for identity in [None, Some(Authority::new().client("ana"))] {
        let stranger = answers(&server, &with(identity)).await;
        assert!(matches!(stranger, Err(Error::Connect(_) | Error::Disconnected(_))), "{stranger:?}");
    }
    let nameless = answers(&server, &with(Some(authority.client("")))).await;
    refused(nameless, Code::Unauthenticated, "UNAUTHENTICATED");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_go_before_the_certificate_and_have_to_be_right() {
    let authority = Authority::new();
    let encrypted = encrypted(&authority, Some(&authority));
    let server = TestServer::with(|config| {
        encrypted(config);
        config.security.users =
            vec![User { name: "eva".into(), password: PasswordHash::of("secret").unwrap() }];
    })
    .await;
    let with = |password: &str| ClientOptions {
        credentials: Some(Credentials::Password { user: "eva".into(), password: password.into() }),
        ..trusting(&authority, Some(authority.client("ana")))
    };
    assert_eq!(answers(&server, &with("secret")).await.unwrap(), 42);
    refused(answers(&server, &with("wrong")).await, Code::Unauthenticated, "UNAUTHENTICATED");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_tls_handshake_holds_up_nobody_and_is_given_up() {
    let authority = Authority::new();
    let server = TestServer::with(encrypted(&authority, None)).await;
    let mut stalled = TcpStream::connect(server.address()).await.unwrap();
    assert_eq!(answers(&server, &trusting(&authority, None)).await.unwrap(), 42);
    let end = merganser_tests::soon("the server gives up", stalled.read(&mut [0; 1])).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    server.shutdown().await;
}
