//! Who asks: one door in front of every service that needs one. Whatever passes it carries an [`Identity`] in
//! its extensions, so that no method can forget to ask.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Extensions, Request, Response};
use tonic::{Status, body::Body, server::NamedService, transport::server::TlsConnectInfo};
use tower::Service;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{
    credentials::Offered,
    error::{internal, login_status, unauthenticated},
};
use crate::{
    config::Security,
    network::Peer,
    session::{Identity, LoginError, Principal, TokenId, Tokens, Users},
};

/// The one method that is let through without credentials, because it may bring them in its body.
const HANDSHAKE: &str = "/arrow.flight.protocol.FlightService/Handshake";

const MISSING: &str = "log in: send a user and a password (`authorization: Basic`), or the token that \
                       Handshake answers (`authorization: Bearer`)";
const UNREADABLE: &str = "the credentials cannot be read: send `authorization: Basic` with base64 of \
                          user:password, or `authorization: Bearer` with a token";
const UNKNOWN_TOKEN: &str = "the token is unknown or has expired; log in again";
const NO_NAME: &str = "the client certificate has no common name that could be the user";

/// Knows who may come in.
pub(crate) struct Authenticator {
    users: Users,
    tokens: Tokens,
    /// Without users and client certificates everybody is welcome.
    required: bool,
}

/// What the transport knows of who sends a request.
#[derive(Debug, Default)]
pub(super) struct Sender {
    address: Option<SocketAddr>,
    /// The client's certificate in DER; TLS has verified it.
    certificate: Option<Vec<u8>>,
}

impl Authenticator {
    /// Lets in whom the configuration names.
    pub(crate) fn new(security: &Security) -> Result<Self, getrandom::Error> {
        let users = security.users.iter().map(|user| (user.name.clone(), user.password.clone()));
        let users = Users::new(users)?;
        let certificates = security.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        let required = certificates || !users.is_empty();
        Ok(Self { users, tokens: Tokens::new(security.token_idle)?, required })
    }

    /// Who sends a request, by what it offers.
    pub(super) async fn identify(&self, offered: Offered, sender: &Sender) -> Result<Identity, Status> {
        let principal = match offered {
            Offered::Token(token) => match self.tokens.find(&token) {
                Some((principal, id)) => return Ok(Identity { principal, token: Some(id) }),
                None if self.required => return Err(unauthenticated(UNKNOWN_TOKEN)),
                None => Principal::ANONYMOUS,
            },
            _ if !self.required => Principal::ANONYMOUS,
            Offered::Password { name, password } => self.log_in(&name, &password, sender).await?,
            Offered::Unreadable => return Err(unauthenticated(UNREADABLE)),
            Offered::Nothing => match &sender.certificate {
                Some(certificate) => common_name(certificate).ok_or_else(|| unauthenticated(NO_NAME))?,
                None => return Err(unauthenticated(MISSING)),
            },
        };
        Ok(Identity { principal, token: None })
    }

    /// A new token for somebody who was let in.
    pub(super) fn issue(&self, principal: Principal) -> Result<String, Status> {
        tracing::debug!(user = principal.name(), "a token is issued");
        self.tokens.issue(principal).map_err(|error| internal(&error))
    }

    /// Makes a token worthless.
    pub(super) fn revoke(&self, token: TokenId) {
        self.tokens.revoke(token);
    }

    async fn log_in(&self, name: &str, password: &str, sender: &Sender) -> Result<Principal, Status> {
        let from = sender.address.map(|address| address.ip());
        self.users.log_in(name, password, from).await.map_err(|error| {
            log_failure(name, sender, &error);
            login_status(&error)
        })
    }

    /// What a request has to show before a service sees it.
    async fn admit(&self, mut request: Request<Body>) -> Result<Request<Body>, Status> {
        let offered = Offered::in_headers(request.headers());
        let sender = Sender::of(request.extensions());
        let handshake = self.required && offered == Offered::Nothing && request.uri().path() == HANDSHAKE;
        if !handshake || sender.certificate.is_some() {
            let identity = self.identify(offered, &sender).await?;
            request.extensions_mut().insert(identity);
        }
        Ok(request)
    }
}

/// A user name is what somebody typed: it may be long, and have line ends or a password in it by mistake.
fn log_failure(name: &str, sender: &Sender, error: &LoginError) {
    let user: String = name.chars().take(64).collect();
    let peer = sender.address.map(tracing::field::display);
    tracing::warn!(?user, peer, reason = %error, "a log-in failed");
}

impl Sender {
    /// Reads what the transport left with a request.
    pub(super) fn of(extensions: &Extensions) -> Self {
        let certificates = extensions.get::<TlsConnectInfo<Peer>>().and_then(TlsConnectInfo::peer_certs);
        let certificate = certificates.and_then(|certificates| Some(certificates.first()?.to_vec()));
        Self { address: extensions.get::<Peer>().and_then(|peer| peer.address), certificate }
    }
}

/// The subject of a certificate.
fn common_name(der: &[u8]) -> Option<Principal> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    (!name.is_empty()).then(|| Principal::named(name))
}

/// A service behind the door.
#[derive(Clone)]
pub(crate) struct Authenticated<S> {
    service: S,
    authenticator: Arc<Authenticator>,
}

impl<S> Authenticated<S> {
    /// Puts a service behind the door.
    pub(crate) fn new(service: S, authenticator: &Arc<Authenticator>) -> Self {
        Self { service, authenticator: Arc::clone(authenticator) }
    }
}

impl<S: NamedService> NamedService for Authenticated<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Authenticated<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The service that was found ready is the one to call; its clone is not known to be.
        let clone = self.service.clone();
        let mut service = std::mem::replace(&mut self.service, clone);
        let authenticator = Arc::clone(&self.authenticator);
        Box::pin(async move {
            match authenticator.admit(request).await {
                Ok(request) => service.call(request).await,
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}
