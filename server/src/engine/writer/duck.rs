//! The writer's connections to DuckDB.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{
    BulkCommit, Unit,
    actor::{commit_error, statement_error},
    lane::{Lane, Pending},
    rows::is_one_statement,
    storage::{Failure, Overlapping, Storage},
};
use crate::engine::{
    Result,
    clock::CommitClock,
    database::Database,
    insert::Inserts,
    ledger::{Committed, Entry, IngestKey, Ledger, LedgerTable},
};

/// What the writer commits with.
pub(super) struct DuckStorage {
    /// For what is done while no transaction of a lane is open.
    pub(super) own: Lane,
    /// Those for transactions that overlap: two, for one that commits and one that is appended to. A free one is
    /// held by nobody else.
    lanes: Vec<Arc<Mutex<Lane>>>,
    pub(super) database: Arc<Database>,
    pub(super) ledger: Arc<LedgerTable>,
    pub(super) clock: Arc<CommitClock>,
}

impl Storage for DuckStorage {
    /// The usual group without keys is a single statement and its own transaction. COMMIT is never called after an
    /// error, because DuckDB answers it with success.
    fn commit(&mut self, units: &[Unit], entries: &[Entry]) -> Result<(), Failure> {
        self.database.disk.check(bytes_on_disk(units)).map_err(Failure::whole)?;
        let Self { own, database, ledger, clock, .. } = self;
        let _writing = clock.writing();
        if entries.is_empty() && is_one_statement(units) {
            return own
                .insert(database, clock, units)
                .map_err(|failure| Failure { error: statement_error(failure.error), ..failure });
        }
        if !entries.is_empty() {
            ledger.ensure(&own.connection).map_err(Failure::whole)?;
        }
        own.begin().map_err(Failure::whole)?;
        own.insert(database, clock, units)
            .and_then(|()| own.note(&database.scans, ledger, entries))
            .inspect_err(|_| own.roll_back())?;
        own.commit()?;
        if units.iter().any(|unit| unit.create.is_some()) {
            clock.schema_changed();
        }
        Ok(())
    }

    fn commit_bulk(&mut self, bulk: &BulkCommit, entries: &[Entry]) -> Result<(), Failure> {
        if !entries.is_empty() {
            // The connection is the upload's own, so the lanes' plans are of no use.
            self.ledger
                .insert(&bulk.connection, &self.database.scans, &mut Inserts::default(), entries)
                .map_err(Failure::whole)?;
        }
        let clock = Arc::clone(&self.clock);
        let _writing = clock.writing();
        let committed = bulk.connection.execute("COMMIT");
        if bulk.creates {
            clock.schema_changed();
        }
        committed.map(|_| ()).map_err(|error| Failure::whole(commit_error(error.into())))
    }

    fn look_up(&mut self, key: &IngestKey) -> Result<Option<Committed>> {
        self.ledger.look_up(&self.own.connection, key)
    }

    fn is_slow(&self, unit: &Unit) -> bool {
        self.database.appends.is_slow(&unit.target.table)
    }

    fn load(&mut self) -> Result<Ledger> {
        self.ledger.look_again(&self.own.connection)?;
        self.ledger.load(&self.own.connection)
    }
}

impl Overlapping for DuckStorage {
    type Transaction = Pending;

    /// Without the ledger there is none: to make it takes a transaction of its own.
    fn begin(&mut self) -> Option<Pending> {
        if !self.ledger.exists() {
            return None;
        }
        let begun = self.free_lane().and_then(|lane| Ok(Pending::begin(lane, Arc::clone(&self.clock))?));
        begun.inspect_err(|error| tracing::debug!(%error, "no second transaction beside the first")).ok()
    }

    fn append(
        &mut self,
        transaction: &mut Pending,
        units: &[Unit],
        entries: &[Entry],
    ) -> Result<(), Failure> {
        let Self { database, ledger, clock, .. } = self;
        database.disk.check(bytes_on_disk(units)).map_err(Failure::whole)?;
        transaction.with(|lane| {
            lane.insert(database, clock, units)?;
            lane.note(&database.scans, ledger, entries)
        })
    }
}

impl DuckStorage {
    pub(super) fn open(
        database: Arc<Database>,
        ledger: Arc<LedgerTable>,
        clock: Arc<CommitClock>,
    ) -> Result<Self> {
        let own = Lane::open(&database)?;
        Ok(Self { own, lanes: Vec::new(), database, ledger, clock })
    }

    /// Lets go of all parts of a failed instance but the connection that is replaced next.
    pub(super) fn let_go(&mut self) {
        self.own.forget_plans();
        self.lanes.clear();
    }

    fn free_lane(&mut self) -> Result<Arc<Mutex<Lane>>> {
        let free = self.lanes.iter().find(|lane| Arc::strong_count(lane) == 1);
        if let Some(lane) = free {
            return Ok(Arc::clone(lane));
        }
        let lane = Arc::new(Mutex::new(Lane::open(&self.database)?));
        self.lanes.push(Arc::clone(&lane));
        Ok(lane)
    }
}

/// What a commit may take of the disk: the rows go to the log first, and into the file later.
fn bytes_on_disk(units: &[Unit]) -> u64 {
    units.iter().map(|unit| unit.bytes as u64).sum()
}
