//! What the configuration brings to every start: DuckDB extensions, secrets for object storage, and sources, which
//! are views over files.
//!
//! All of it is done anew whenever the database is opened, also after a failure; nothing is written into the
//! user's file.

mod alone;
mod apart;
mod catalog;
mod extensions;
mod files;
mod messages;
mod pinned;
mod place;
mod published;
mod reads;
mod secret;
mod source;

use std::{collections::HashSet, path::PathBuf};

pub(super) use alone::{Alone, explain, lost_race, replaces, takes_away};
pub use apart::NotApart;
pub use catalog::{AttachedCatalog, CatalogKind, Maintenance};
pub(super) use catalog::{data_path_of, metadata_of};
pub(super) use files::{is_its_file, tells_of_missing_file};
pub(super) use pinned::PinnedSchemas;
pub use reads::Reads;
pub use secret::{Secret, SecretKind, SecretText};
pub use source::{Format, OptionValue, Source};

use super::{Error, Exports, Result, export::Directory, ffi::Connection};
use extensions::{Extensions, HTTPFS};
pub(crate) use published::{QUERIES, SOURCES, publish};

/// What is to be there before anybody is served.
#[derive(Debug, Clone, Default)]
pub struct Lake {
    /// Where extensions are loaded from before they are asked of a repository.
    pub extension_directory: Option<PathBuf>,
    /// The address of that repository; DuckDB's own unless given.
    pub extension_repository: Option<String>,
    /// Extensions to load besides those that the sources and secrets need.
    pub extensions: Vec<String>,
    /// Keys of object storage.
    pub secrets: Vec<Secret>,
    /// Databases besides the server's own.
    pub catalogs: Vec<AttachedCatalog>,
    /// Views over files.
    pub sources: Vec<Source>,
    /// Where clients may write files.
    pub exports: Exports,
    /// Where clients may read files; anywhere unless given.
    pub reads: Option<Reads>,
}

/// What of the configuration is there once the database is open.
pub(super) struct Opened {
    /// Whether there is a catalog of sources.
    pub(super) sources: bool,
    /// The names of the catalogs that are attached.
    pub(super) catalogs: HashSet<String>,
}

/// What came of a step on the way to something that the configuration declares: done, or, where it is not required,
/// `missed`.
///
/// # Errors
/// That of the step to what is required.
pub(super) fn unless_missed<T>(
    required: bool,
    step: Result<T>,
    missed: impl FnOnce(&Error),
) -> Result<Option<T>> {
    match step {
        Err(error) if !required => {
            missed(&error);
            Ok(None)
        }
        step => step.map(Some),
    }
}

/// What keeps the database closed, as [`Error::Setup`] of it.
fn setup(what: String) -> impl FnOnce(Error) -> Error {
    move |error| Error::Setup { what, reason: error.to_string() }
}

impl Lake {
    /// Loads extensions and makes secrets; attaches the catalogs; then makes the sources, in a catalog of their own.
    ///
    /// # Errors
    /// [`Error::Setup`], which names the extension, secret, catalog or source. A catalog or source that is not
    /// required is only missed in the log.
    pub(super) fn open(&self, connection: &Connection, read_only: bool) -> Result<Opened> {
        let mut extensions = self.extensions();
        extensions.announce(connection)?;
        let is_remote = self.directories().any(Directory::is_remote);
        let asked = is_remote.then_some(HTTPFS).into_iter().chain(self.extensions.iter().map(String::as_str));
        let asked = self.secrets.iter().map(|secret| secret.kind.extension()).chain(asked);
        asked.into_iter().try_for_each(|name| extensions.load(connection, name))?;
        for secret in &self.secrets {
            connection.execute(&secret.create_sql()).map_err(|error| Error::Setup {
                what: format!("secret {}", secret.name),
                reason: error.message,
            })?;
        }
        let catalogs = self.attach(connection, &mut extensions, read_only)?;
        let sources = !self.sources.is_empty();
        if sources {
            self.publish_sources(connection, &mut extensions)?;
        }
        Ok(Opened { sources, catalogs })
    }

    fn extensions(&self) -> Extensions<'_> {
        Extensions::new(self.extension_directory.as_deref(), self.extension_repository.as_deref())
    }

    fn attach(
        &self,
        connection: &Connection,
        extensions: &mut Extensions<'_>,
        read_only: bool,
    ) -> Result<HashSet<String>> {
        let mut attached = HashSet::new();
        for catalog in &self.catalogs {
            if catalog.or_missed(self.attach_one(catalog, connection, extensions, read_only))?.is_some() {
                attached.insert(catalog.name.clone());
            }
        }
        Ok(attached)
    }

    /// Attaches a catalog that was missing.
    ///
    /// # Errors
    /// Whatever DuckDB says; it may be tried again.
    pub(super) fn attach_late(
        &self,
        catalog: &AttachedCatalog,
        connection: &Connection,
        read_only: bool,
    ) -> Result<()> {
        self.attach_one(catalog, connection, &mut self.extensions(), read_only)
    }

    fn attach_one(
        &self,
        catalog: &AttachedCatalog,
        connection: &Connection,
        extensions: &mut Extensions<'_>,
        read_only: bool,
    ) -> Result<()> {
        catalog.extensions().try_for_each(|name| extensions.load(connection, name))?;
        catalog.attach(connection, read_only)?;
        if !read_only
            && catalog.is_shared()
            && let Err(error) = self.check_attached(connection)
        {
            catalog.detach(connection)?;
            return Err(error);
        }
        tracing::info!(catalog = catalog.name, "attached a catalog");
        Ok(())
    }

    fn publish_sources(&self, connection: &Connection, extensions: &mut Extensions<'_>) -> Result<()> {
        let mut there = Vec::new();
        for source in &self.sources {
            let loaded = source.extensions().try_for_each(|name| extensions.load(connection, name));
            if source.or_missed(loaded)? {
                there.push(source);
            }
        }
        publish(connection, SOURCES, || {
            there.iter().try_for_each(|source| source.or_missed(source.create(connection)).map(drop))
        })
    }
}
