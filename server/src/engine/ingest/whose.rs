//! Whose uploads keep their order among each other.

use std::sync::Arc;

/// Uploads keep their order that come over one connection, and those of one loader over any.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Whose {
    Connection(u64),
    Loader(Arc<str>),
}

impl Whose {
    /// Both that an upload is, by the connection that it came over and the name that the ledger knows its loader by.
    pub(crate) fn of(connection: u64, loader: Option<&Arc<str>>) -> impl Iterator<Item = Self> + use<> {
        let by_name = loader.map(|loader| Self::Loader(Arc::clone(loader)));
        [Self::Connection(connection)].into_iter().chain(by_name)
    }
}
