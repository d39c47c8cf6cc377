//! How to connect.

use std::{fmt, time::Duration};

/// How a [`Client`](crate::Client) connects; the default suits a server without users.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// How long a TCP connection may take to come up. Ten seconds unless set.
    pub connect_timeout: Duration,
    /// Who to log in as; none means that the server is not asked for a token.
    pub credentials: Option<Credentials>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(10), credentials: None }
    }
}

/// A user and a password, exchanged once for the bearer token that every later call carries.
#[derive(Clone)]
pub struct Credentials {
    /// Name of the user; it has no colon, because HTTP Basic authentication ends the name there.
    pub user: String,
    /// The password in clear; it is never printed.
    pub password: String,
}

// Written by hand, so that a password cannot reach a log by way of `{:?}`.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_the_password() {
        let options = ClientOptions {
            credentials: Some(Credentials { user: "ada".into(), password: "hunter2".into() }),
            ..ClientOptions::default()
        };
        let text = format!("{options:?}");
        assert!(text.contains("ada") && !text.contains("hunter2"), "{text}");
    }
}
