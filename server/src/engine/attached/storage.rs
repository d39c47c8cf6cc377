//! Groups and bulk uploads into one attached catalog: one transaction each, with the ledger's rows in it.

use std::sync::Arc;

use super::{
    home::{Closing, Home},
    queue::Queue,
    verdict,
};
use crate::engine::{
    CatalogKind, Result,
    appends::Load,
    clock::CommitClock,
    database::{Database, Pooled},
    insert::Inserts,
    lake::PinnedSchemas,
    ledger::{Committed, Entry, IngestKey, Ledger, SharedLedger},
    writer::{BulkCommit, Failure, Storage, Unit, insert_units},
};

/// The writer's connection to one catalog, and what it has seen of it.
pub(super) struct AttachedStorage {
    pub(super) connection: Pooled,
    pub(super) database: Arc<Database>,
    pub(super) home: Home,
    clock: Arc<CommitClock>,
    /// Where servers that share the catalog wait for each other.
    queue: Option<Queue>,
    /// The last commit of the ledger that this server knows.
    seen: u64,
    /// Something was written since it was last tidied up.
    pub(super) dirty: bool,
}

impl AttachedStorage {
    pub(super) fn new(
        connection: Pooled,
        database: Arc<Database>,
        clock: Arc<CommitClock>,
        home: Home,
        seen: u64,
    ) -> Self {
        Self { connection, database, home, clock, queue: None, seen, dirty: false }
    }

    /// Lets go of what belongs to an instance that has failed.
    pub(super) fn let_go(&mut self) {
        self.queue = None;
    }

    /// What is appended, and where: all but a file of DuckDB is on another machine, or may be.
    fn load_of(&self, load: Load) -> Load {
        Load { remote: self.home.catalog.kind != CatalogKind::DuckDb, ..load }
    }

    /// Makes what a fenced commit needs: the ledger, and a place in the queue of the servers.
    fn prepare(&mut self, closing: &Closing<'_>) -> Result<(), Failure> {
        if !closing.is_fenced() {
            return Ok(());
        }
        self.home.ensure_ledger(&self.connection)?;
        if self.home.catalog.has_queue() && self.queue.is_none() {
            let connection = self.database.private_connection().map_err(Failure::whole)?;
            connection.forgive();
            self.queue = Some(Queue::new(connection, self.home.name()));
        }
        Ok(())
    }

    /// One transaction, which may make or change tables; `work` is what happens in it before the ledger's part.
    fn transact(
        &mut self,
        own: Option<&Pooled>,
        closing: &Closing<'_>,
        creates: bool,
        work: impl FnOnce(&Pooled) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.prepare(closing)?;
        let clock = Arc::clone(&self.clock);
        let _writing = clock.writing();
        let Self { connection, queue, home, database, .. } = self;
        let turn = queue.as_ref().filter(|_| closing.is_fenced()).map(Queue::take);
        let connection = own.unwrap_or(connection);
        let mut pinned = PinnedSchemas::default();
        if creates {
            connection.pin_schema(&mut pinned, home.name());
        }
        home.transact(connection, &database.scans, closing, || work(connection))?;
        drop(turn);
        if closing.is_fenced() {
            self.seen = closing.to;
        }
        if creates {
            clock.schema_changed();
        }
        self.dirty = true;
        Ok(())
    }
}

impl Storage for AttachedStorage {
    fn commit(&mut self, units: &[Unit], entries: &[Entry]) -> Result<(), Failure> {
        let closing = Closing::new(units.len(), entries, false, self.seen);
        let (database, load) = (Arc::clone(&self.database), self.load_of(Load::of_group(units)));
        let creates = units.iter().any(|unit| unit.create.is_some());
        // Plans are not kept: a lake's catalog is another with each snapshot.
        self.transact(None, &closing, creates, |connection| {
            let mut timed = database.appends.begin(connection, load);
            insert_units(connection, &database.scans, &mut Inserts::default(), &mut timed, units)
        })
    }

    fn commit_bulk(&mut self, bulk: &BulkCommit, entries: &[Entry]) -> Result<(), Failure> {
        // What fails in another database does not condemn the server's own.
        bulk.connection.forgive();
        let enter = bulk.enter.as_ref();
        let matched = enter.is_some_and(|enter| enter.merges);
        let closing = Closing::new(1, entries, matched, self.seen);
        let (rows, bytes) =
            bulk.parts.iter().fold((0, 0), |(rows, bytes), part| (rows + part.rows, bytes + part.bytes));
        let load = self.load_of(Load { rows, bytes, matched, remote: false });
        let database = Arc::clone(&self.database);
        self.transact(Some(&bulk.connection), &closing, bulk.creates, |connection| {
            let Some(enter) = enter else { return Ok(()) };
            let mut timed = database.appends.begin(connection, load);
            timed.append_to(&bulk.table, || (enter.run)(connection)).map_err(Failure::whole)
        })
    }

    fn look_up(&mut self, key: &IngestKey) -> Result<Option<Committed>> {
        let known = self.home.ledger.look_up(&self.connection, key);
        known.map_err(|error| verdict::of_reading(self.home.name(), error))
    }

    fn is_slow(&self, unit: &Unit) -> bool {
        self.database.appends.is_slow(&unit.target.table)
    }

    fn load(&mut self) -> Result<Ledger> {
        // It may be a new connection.
        self.connection.forgive();
        let ledger = self.home.load(&self.connection)?;
        self.seen = self.seen.max(ledger.highest_commit());
        Ok(ledger)
    }

    fn is_shared(&self) -> bool {
        self.home.catalog.is_shared()
    }

    fn catch_up(&mut self, ledger: &SharedLedger) -> Result<u64> {
        let home = &self.home;
        let found = if home.ledger.exists() { Ok(()) } else { home.ledger.look_again(&self.connection) };
        let caught_up = found.and_then(|()| home.ledger.catch_up(&self.connection, self.seen, ledger));
        self.seen = caught_up.map_err(|error| verdict::of_reading(home.name(), error))?;
        Ok(self.seen)
    }
}
