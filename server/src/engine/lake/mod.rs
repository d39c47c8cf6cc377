//! What the configuration brings to every start: DuckDB extensions, secrets for object storage, and sources, which
//! are views over files.
//!
//! All of it is done anew whenever the database is opened, also after a failure; nothing is written into the
//! user's file.

mod extensions;
mod published;
mod secret;
mod source;

use std::path::PathBuf;

pub use secret::{Secret, SecretKind, SecretText};
pub use source::{Format, OptionValue, Source};

use super::{Error, Exports, Result, ffi::Connection};
use extensions::{Extensions, HTTPFS};
pub(crate) use published::{QUERIES, SOURCES, publish};

/// What is to be there before anybody is served.
#[derive(Debug, Clone, Default)]
pub struct Lake {
    /// Where extensions are loaded from before they are asked of DuckDB's own repository.
    pub extension_directory: Option<PathBuf>,
    /// Extensions to load besides those that the sources and secrets need.
    pub extensions: Vec<String>,
    /// Keys of object storage.
    pub secrets: Vec<Secret>,
    /// Views over files.
    pub sources: Vec<Source>,
    /// Where clients may write files.
    pub exports: Exports,
}

impl Lake {
    /// Loads extensions and makes secrets; then the sources, in a catalog of their own. Tells whether there is one.
    ///
    /// # Errors
    /// [`Error::Setup`], which names the extension, secret or source. A source that is not required is only
    /// missed in the log.
    pub(super) fn open(&self, connection: &Connection) -> Result<bool> {
        let mut extensions = Extensions::new(self.extension_directory.as_deref());
        let remote = !self.secrets.is_empty() || self.exports.are_remote();
        let asked = remote.then_some(HTTPFS).into_iter().chain(self.extensions.iter().map(String::as_str));
        asked.into_iter().try_for_each(|name| extensions.load(connection, name))?;
        for secret in &self.secrets {
            connection.execute(&secret.create_sql()).map_err(|error| Error::Setup {
                what: format!("secret {}", secret.name),
                reason: error.message,
            })?;
        }
        if self.sources.is_empty() {
            return Ok(false);
        }
        let mut there = Vec::new();
        for source in &self.sources {
            let loaded = source.extensions().try_for_each(|name| extensions.load(connection, name));
            if source.or_missed(loaded)? {
                there.push(source);
            }
        }
        publish(connection, SOURCES, || {
            there.iter().try_for_each(|source| source.or_missed(source.create(connection)).map(drop))
        })?;
        Ok(true)
    }
}
