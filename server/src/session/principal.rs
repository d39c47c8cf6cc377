//! Who asks.

use std::sync::Arc;

use super::TokenId;

/// Somebody who was let in: a user, the subject of a client certificate, or anybody where authentication is
/// off. It is the place for what a principal may do: roles, once there are any, belong here, so that the one
/// value that every request carries answers both questions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Principal {
    /// `None` is anybody.
    name: Option<Arc<str>>,
}

impl Principal {
    /// Anybody: what everyone is where authentication is off.
    pub(crate) const ANONYMOUS: Self = Self { name: None };

    /// Somebody whose name was proven.
    pub(crate) fn named(name: &str) -> Self {
        Self { name: Some(name.into()) }
    }

    /// The name, where somebody has proven one.
    pub(crate) fn user(&self) -> Option<&Arc<str>> {
        self.name.as_ref()
    }

    /// The name, as the log shows it.
    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("anonymous")
    }
}

/// What every request carries: who asks, and by which token, if by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Who asks.
    pub(crate) principal: Principal,
    /// The token that came with the request. Requests with the same one belong together.
    pub(crate) token: Option<TokenId>,
}
