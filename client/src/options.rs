//! How to connect.

use std::{fmt, time::Duration};

/// How a [`Client`](crate::Client) connects; the default suits a server without users.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// How long a TCP connection may take to come up. Ten seconds unless set.
    pub connect_timeout: Duration,
    /// Who to log in as; none means that the server is not asked for a token.
    pub credentials: Option<Credentials>,
    /// What an encrypted connection (`grpc+tls://`) trusts and shows.
    pub tls: TlsOptions,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(10), credentials: None, tls: TlsOptions::default() }
    }
}

/// How to log in.
#[derive(Clone)]
pub enum Credentials {
    /// Exchanged for the bearer token that every later call carries; kept, to get another one when a retried
    /// call finds it expired.
    Password {
        /// Name of the user; it has no colon, because HTTP Basic authentication ends the name there.
        user: String,
        /// The password in clear; it is never printed.
        password: String,
    },
    /// A bearer token from an earlier log-in; it is never printed.
    Token(String),
}

/// Encryption, in PEM. The default trusts the authorities of the system and shows no certificate.
#[derive(Clone, Default)]
pub struct TlsOptions {
    /// The authorities to trust in place of the system's.
    pub ca: Option<Vec<u8>>,
    /// The client's own certificate and its private key, for servers that ask for one.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

// Written by hand, so that a password cannot reach a log by way of `{:?}`.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { user, .. } => {
                f.debug_struct("Password").field("user", user).finish_non_exhaustive()
            }
            Self::Token(_) => f.write_str("Token(..)"),
        }
    }
}

// And neither can a private key.
impl fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("TlsOptions");
        shown.field("ca", &self.ca.is_some()).field("identity", &self.identity.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_every_secret() {
        let secret = "hunter2";
        for credentials in [
            Credentials::Password { user: "ada".into(), password: secret.into() },
            Credentials::Token(secret.into()),
        ] {
            let tls = TlsOptions { ca: None, identity: Some((Vec::new(), secret.into())) };
            let options = ClientOptions { credentials: Some(credentials), tls, ..ClientOptions::default() };
            let text = format!("{options:?}");
            assert!(text.contains("identity: true") && !text.contains(secret), "{text}");
        }
    }
}
