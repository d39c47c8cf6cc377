//! What is particular to a catalog: its ledger, how a transaction ends in it, and how it is tidied up.

use std::{path::Path, sync::Arc};

use super::verdict;
use crate::{
    counted::counted,
    engine::{
        CatalogKind, Error, Result,
        disk::{self, NO_ROOM},
        ffi::{Connection, DuckError, ScanRegistry},
        insert::Inserts,
        lake::AttachedCatalog,
        ledger::{Entry, Ledger, LedgerTable, Retention},
        writer::Failure,
    },
    sql::{literal, quote},
};

/// Keys that the message of a commit names.
const KEYS_TOLD: usize = 20;

/// A catalog, as its writer sees it.
pub(super) struct Home {
    pub(super) catalog: AttachedCatalog,
    pub(super) ledger: LedgerTable,
}

/// How a transaction ends.
pub(super) struct Closing<'a> {
    units: usize,
    entries: &'a [Entry],
    /// Rows that are there are changed.
    merges: bool,
    /// Where the fence is, as far as this server knows,
    from: u64,
    /// and where it goes to.
    pub(super) to: u64,
}

impl<'a> Closing<'a> {
    pub(super) fn new(units: usize, entries: &'a [Entry], merges: bool, from: u64) -> Self {
        let to = entries.first().map_or(from + 1, |entry| entry.committed.commit);
        Self { units, entries, merges, from, to }
    }

    /// Whether another server's commit must not come between.
    pub(super) fn is_fenced(&self) -> bool {
        self.merges || !self.entries.is_empty()
    }
}

impl Home {
    pub(super) fn new(catalog: AttachedCatalog) -> Self {
        let ledger = LedgerTable::of(&catalog.name, catalog.is_shared());
        Self { catalog, ledger }
    }

    /// The catalog's name.
    pub(super) fn name(&self) -> &str {
        &self.catalog.name
    }

    /// The ledger as it is in the catalog.
    pub(super) fn load(&self, connection: &Connection) -> Result<Ledger> {
        if !self.catalog.keeps_keys() {
            return Ok(Ledger::default());
        }
        // It may not have been attached again with the database; an empty ledger would be a lie.
        if !self.catalog.is_there(connection)? {
            return Err(Error::CatalogDown(self.name().to_owned()));
        }
        self.ledger.look_again(connection)?;
        self.ledger.load(connection)
    }

    /// Makes the ledger where it is not there yet. Another server may be about to do the same.
    pub(super) fn ensure_ledger(&self, connection: &Connection) -> Result<(), Failure> {
        if !self.catalog.keeps_keys() {
            return Ok(());
        }
        let Err(error) = self.ledger.ensure(connection) else { return Ok(()) };
        let found = self.ledger.look_again(connection);
        if found.is_ok() && self.ledger.exists() {
            return Ok(());
        }
        Err(verdict::of_work(self.name(), Failure::whole(error)))
    }

    /// One transaction. COMMIT is never called after an error, because DuckDB may answer it with success.
    pub(super) fn transact(
        &self,
        connection: &Connection,
        scans: &Arc<ScanRegistry>,
        closing: &Closing<'_>,
        work: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let done = connection
            .execute("BEGIN TRANSACTION")
            .map_err(Failure::whole)
            .and_then(|_| work())
            .and_then(|()| self.close(connection, scans, closing));
        let ended = match done {
            Ok(()) => connection
                .execute("COMMIT")
                .map_err(|error| Failure::whole(verdict::of_commit(&self.catalog.kind, error.into()))),
            Err(failure) => Err(verdict::of_work(self.name(), failure)),
        };
        let Err(failure) = ended else { return Ok(()) };
        // Where COMMIT failed there is no transaction left.
        let _ = connection.execute("ROLLBACK");
        // With the fence in it, a conflict means that keys may have to be judged anew.
        if closing.is_fenced() && failure.is_conflict() {
            return Err(self.overtaken());
        }
        Err(failure)
    }

    /// What goes with the rows in their transaction: the fence, the ledger's rows, and what the lake tells of the
    /// commit.
    fn close(
        &self,
        connection: &Connection,
        scans: &Arc<ScanRegistry>,
        closing: &Closing<'_>,
    ) -> Result<(), Failure> {
        let Closing { entries, from, to, .. } = closing;
        if self.catalog.keeps_keys()
            && closing.is_fenced()
            && !self.ledger.move_fence(connection, *from, *to).map_err(Failure::whole)?
        {
            return Err(self.overtaken());
        }
        if !entries.is_empty() {
            self.ledger
                .insert(connection, scans, &mut Inserts::default(), entries)
                .map_err(Failure::whole)?;
        }
        match self.catalog.kind {
            CatalogKind::DuckLake { .. } => self.tell(connection, closing).map_err(Failure::whole),
            CatalogKind::DuckDb | CatalogKind::Postgres | CatalogKind::Sqlite => Ok(()),
        }
    }

    fn overtaken(&self) -> Failure {
        Failure::whole(Error::Overtaken(self.name().to_owned()))
    }

    /// The commit's message: which loaders it is from, and their keys.
    fn tell(&self, connection: &Connection, closing: &Closing<'_>) -> Result<(), DuckError> {
        let Closing { units, entries, to, .. } = closing;
        let keys: Vec<_> = entries.iter().map(|entry| entry.key.to_string()).collect();
        let message = match keys.len() {
            0 => counted(*units, "unit"),
            1..=KEYS_TOLD => keys.join(", "),
            more => format!("{}, and {} more", keys[..KEYS_TOLD].join(", "), more - KEYS_TOLD),
        };
        let extra = serde_json::json!({ "commit": to, "units": units, "keys": keys });
        connection.execute(&format!(
            "CALL {}.set_commit_message('merganser', {}, extra_info => {})",
            quote(self.name()),
            literal(&message),
            literal(&extra.to_string())
        ))?;
        Ok(())
    }

    /// Writes the log of a file of DuckDB into the file.
    ///
    /// # Errors
    /// [`Error::DiskFull`], where it has not begun for lack of room: then it is to be tried again.
    pub(super) fn checkpoint(&self, connection: &Connection) -> Result<()> {
        let is_one = self.catalog.kind == CatalogKind::DuckDb;
        let Some(file) = self.catalog.duckdb_file().filter(|_| is_one) else { return Ok(()) };
        disk::check_checkpoint(Path::new(file), 0)
            .inspect_err(|_| tracing::debug!(catalog = self.name(), "{NO_ROOM}"))?;
        if let Err(error) = connection.execute(&format!("CHECKPOINT {}", quote(self.name()))) {
            tracing::debug!(catalog = self.name(), %error, "a catalog could not be checkpointed");
        }
        Ok(())
    }

    /// Forgets old units of the ledger, unless maintenance does, which must not merge what somebody else deletes from.
    pub(super) fn prune(&self, connection: &Connection) {
        if self.catalog.is_shared() && self.catalog.maintenance.every.is_some() {
            return;
        }
        match self.ledger.prune(connection, Retention::default()) {
            Ok(units) => tracing::debug!(catalog = self.name(), units, "pruned the ledger"),
            Err(error) => tracing::debug!(catalog = self.name(), %error, "the ledger was not pruned"),
        }
    }
}
