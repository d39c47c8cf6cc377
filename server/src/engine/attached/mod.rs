//! Writing to the catalogs that the configuration attaches: a DuckLake, a file of DuckDB, PostgreSQL, SQLite.
//!
//! A transaction of DuckDB writes to one database only, so each catalog has a writer of its own, and a slow lake
//! holds nobody else up. [`actor`] is its thread; it commits groups as the server's own writer does, to [`storage`];
//! [`home`] knows what is particular to the catalog, and [`verdict`] what its errors mean.
//! Several servers may write to one DuckLake: what keeps their keys apart is the ledger's fence, and [`queue`] lets
//! them take turns where the lake's metadata is in PostgreSQL.

mod actor;
mod home;
mod queue;
mod storage;
mod verdict;

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::future::join_all;

use super::{
    Options, Result, clock::CommitClock, database::Database, lake::AttachedCatalog, ledger::SharedLedger,
    turn::Turn, writer::WriterHandle,
};
use home::Home;
use storage::AttachedStorage;

/// How long a question about loaders waits for a lake.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(5);
/// How long a stop waits for all catalogs. What is not committed by then was not acknowledged either.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// Every catalog of the configuration that takes writes, by its name in lower case; empty while it is missing.
#[derive(Default)]
pub(crate) struct Attached {
    sites: HashMap<String, OnceLock<Site>>,
}

/// Where uploads into one catalog go.
pub(crate) struct Site {
    pub(crate) catalog: AttachedCatalog,
    pub(crate) writer: WriterHandle,
    pub(crate) ledger: SharedLedger,
    /// Whose turn it is to make or widen a table: of many units for a new one, the first.
    pub(crate) turn: Turn,
}

impl Attached {
    /// Starts the writers of the catalogs that are attached and take writes.
    pub(crate) fn start(
        database: &Arc<Database>,
        clock: &Arc<CommitClock>,
        options: &Options,
    ) -> Result<Self> {
        if options.read_only {
            return Ok(Self::default());
        }
        let written = options.lake.catalogs.iter().filter(|catalog| !catalog.read_only);
        let sites = written.map(|catalog| (catalog.name.to_lowercase(), OnceLock::new())).collect();
        let attached = Self { sites };
        for catalog in database.attached_catalogs() {
            catalog.or_missed(attached.add(catalog, database, clock, options))?;
        }
        Ok(attached)
    }

    /// Starts the writer of a catalog that is attached, where it takes writes.
    pub(crate) fn add(
        &self,
        catalog: &AttachedCatalog,
        database: &Arc<Database>,
        clock: &Arc<CommitClock>,
        options: &Options,
    ) -> Result<()> {
        if let Some(place) = self.sites.get(&catalog.name.to_lowercase())
            && place.get().is_none()
        {
            // Nobody else fills it.
            let _ = place.set(start(catalog.clone(), database, clock, options)?);
        }
        Ok(())
    }

    /// That of a catalog, where the configuration attaches it for writing and it is there.
    pub(crate) fn site(&self, catalog: &str) -> Option<&Site> {
        self.sites.get(&catalog.to_lowercase())?.get()
    }

    fn sites(&self) -> impl Iterator<Item = &Site> {
        self.sites.values().filter_map(OnceLock::get)
    }

    /// Whether other servers write to one of them.
    pub(crate) fn is_shared(&self) -> bool {
        self.sites().any(|site| site.catalog.is_shared())
    }

    /// Brings what is known of loaders up to date with what other servers have committed, where they can be asked in
    /// time.
    pub(crate) async fn catch_up(&self) {
        let shared = self.sites().filter(|site| site.catalog.is_shared());
        join_all(shared.map(async |site| {
            let caught_up = tokio::time::timeout(CATCH_UP_WITHIN, site.writer.catch_up()).await;
            if !matches!(caught_up, Ok(Ok(()))) {
                tracing::warn!(catalog = site.catalog.name, "the ledger of a catalog cannot be read in time");
            }
        }))
        .await;
    }

    /// Lets the writers finish what they have accepted, then ends them. One whose catalog does not answer is left behind.
    pub(crate) async fn shutdown(&self) {
        let ending = self.sites().map(|site| (site.catalog.name.as_str(), site.writer.shutdown()));
        for name in unfinished(ending, STOP_WITHIN).await {
            tracing::warn!(
                catalog = name,
                "a catalog does not end what is being committed to it; nobody knows what becomes of that"
            );
        }
    }
}

/// The names of those that have not ended after so long.
async fn unfinished<'a>(
    ending: impl Iterator<Item = (&'a str, impl Future<Output = ()>)>,
    patience: Duration,
) -> Vec<&'a str> {
    let deadline = tokio::time::Instant::now() + patience;
    let ending = ending.map(async |(name, end)| {
        let ended = tokio::time::timeout_at(deadline, end).await;
        ended.is_err().then_some(name)
    });
    join_all(ending).await.into_iter().flatten().collect()
}

fn start(
    catalog: AttachedCatalog,
    database: &Arc<Database>,
    clock: &Arc<CommitClock>,
    options: &Options,
) -> Result<Site> {
    let connection = database.private_connection()?;
    // What fails in another database does not condemn the server's own.
    connection.forgive();
    let home = Home::new(catalog.clone());
    let ledger = SharedLedger::default();
    *ledger.lock() = home.load(&connection)?;
    database.ledgers.lock().insert(catalog.name.clone(), Arc::clone(&ledger));
    let seen = ledger.lock().highest_commit();
    let storage = AttachedStorage::new(connection, Arc::clone(database), Arc::clone(clock), home, seen);
    let own = Arc::clone(&ledger);
    let name = format!("writer {}", catalog.name);
    let writer = WriterHandle::start(name, Arc::clone(database), options, |_| {
        Ok(move |commands: &std::sync::mpsc::Receiver<_>| actor::run(storage, own, commands))
    })?;
    Ok(Site { catalog, writer, ledger, turn: Turn::new(options.wait) })
}

#[cfg(test)]
mod tests {
    use futures::{
        FutureExt,
        future::{pending, ready},
    };

    use super::*;

    #[tokio::test]
    async fn those_that_do_not_end_are_named_after_one_time_for_all() {
        let patience = Duration::from_secs(1);
        let started = std::time::Instant::now();
        let ending = [
            ("hangs", pending().boxed()),
            ("ends", ready(()).boxed()),
            ("hangs, too", pending().boxed()),
            ("and this", pending().boxed()),
        ];
        assert_eq!(unfinished(ending.into_iter(), patience).await, ["hangs", "hangs, too", "and this"]);
        assert!(started.elapsed() < patience * 3, "{:?}", started.elapsed());
    }
}
