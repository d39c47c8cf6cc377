//! Knows who may come in, by whatever protocol.

use std::{net::SocketAddr, time::Duration};

use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Identity, LoginError, Offered, PasswordHash, Principal, TokenId, Tokens, Users};

/// Knows who may come in.
pub(crate) struct Authenticator {
    users: Users,
    tokens: Tokens,
    /// Without users and client certificates everybody is welcome.
    required: bool,
}

/// What the transport knows of who sends a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sender {
    /// Where it comes from.
    pub(crate) address: Option<SocketAddr>,
    /// The client's certificate in DER; TLS has verified it.
    pub(crate) certificate: Option<Vec<u8>>,
}

/// Why somebody is not let in. The texts say what to send.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthError {
    /// No credentials came.
    #[error(
        "log in: send a user and a password (`authorization: Basic`), or the token that Handshake answers \
         (`authorization: Bearer`)"
    )]
    Missing,
    /// Credentials of an unknown form.
    #[error(
        "the credentials cannot be read: send `authorization: Basic` with base64 of user:password, or \
         `authorization: Bearer` with a token"
    )]
    Unreadable,
    /// A token that is good no more, or never was.
    #[error("the token is unknown or has expired; log in again")]
    UnknownToken,
    /// A certificate that names nobody.
    #[error("the client certificate has no common name that could be the user")]
    NoName,
    /// A user and a password that were not let in.
    #[error(transparent)]
    Login(#[from] LoginError),
}

impl Authenticator {
    /// Lets in these users, and with `certificates` whomever TLS has verified. A token is good until it was not
    /// used for `token_idle`.
    pub(crate) fn new(
        users: impl IntoIterator<Item = (String, PasswordHash)>,
        certificates: bool,
        token_idle: Duration,
    ) -> Result<Self, getrandom::Error> {
        let users = Users::new(users)?;
        let required = certificates || !users.is_empty();
        Ok(Self { users, tokens: Tokens::new(token_idle)?, required })
    }

    /// False where everybody is welcome.
    pub(crate) fn is_required(&self) -> bool {
        self.required
    }

    /// Who sends a request, by what it offers.
    ///
    /// # Errors
    /// Why nobody knows.
    pub(crate) async fn identify(&self, offered: Offered, sender: &Sender) -> Result<Identity, AuthError> {
        let principal = match offered {
            Offered::Token(token) => match self.tokens.find(&token) {
                Some((principal, id)) => return Ok(Identity { principal, token: Some(id) }),
                None if self.required => return Err(AuthError::UnknownToken),
                None => Principal::ANONYMOUS,
            },
            _ if !self.required => Principal::ANONYMOUS,
            Offered::Password { name, password } => self.log_in(&name, &password, sender).await?,
            Offered::Unreadable => return Err(AuthError::Unreadable),
            Offered::Nothing => match &sender.certificate {
                Some(certificate) => common_name(certificate).ok_or(AuthError::NoName)?,
                None => return Err(AuthError::Missing),
            },
        };
        Ok(Identity { principal, token: None })
    }

    /// A new token for somebody who was let in.
    pub(crate) fn issue(&self, principal: Principal) -> Result<String, getrandom::Error> {
        tracing::debug!(user = principal.name(), "a token is issued");
        self.tokens.issue(principal)
    }

    /// Makes a token worthless.
    pub(crate) fn revoke(&self, token: TokenId) {
        self.tokens.revoke(token);
    }

    async fn log_in(&self, name: &str, password: &str, sender: &Sender) -> Result<Principal, LoginError> {
        let from = sender.address.map(|address| address.ip());
        let logged_in = self.users.log_in(name, password, from).await;
        logged_in.inspect_err(|error| log_failure(name, sender, error))
    }
}

/// A user name is what somebody typed: it may be long, and have a password in it by mistake.
fn log_failure(name: &str, sender: &Sender, error: &LoginError) {
    let user: String = name.chars().take(64).collect();
    let peer = sender.address.map(tracing::field::display);
    tracing::warn!(user, peer, reason = %error, "a log-in failed");
}

/// The subject of a certificate.
fn common_name(der: &[u8]) -> Option<Principal> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    (!name.is_empty()).then(|| Principal::named(name))
}
