//! DuckDB: the only home of its C API. Knows no protocol.
//!
//! Reads go `reader` -> `delivery` -> `batch_stream`; rows come in through `ingest` -> `writer`; every other
//! write takes the `turn` and runs in `update`. What belongs to a session or an explicit transaction runs in
//! its `workspace`.

mod activity;
mod answers;
mod append;
mod appends;
mod attached;
mod backup;
mod batch_stream;
mod binding;
mod catalog;
mod clock;
mod coalesce;
mod database;
mod database_file;
mod delivery;
mod disk;
mod error;
mod execution;
mod expansion;
mod export;
mod ffi;
mod gates;
mod gauges;
mod import;
#[cfg(feature = "bench")]
pub mod in_process;
mod ingest;
mod insert;
mod ipc;
mod jobs;
mod lake;
mod ledger;
mod limits;
mod list_views;
mod log_head;
mod names;
mod open_writes;
mod outage;
mod outlet;
mod overdue;
mod panics;
mod permit;
mod plans;
mod posted;
mod quarantine;
mod queries;
mod reader;
mod replay;
mod returning;
mod runs;
mod schema_names;
mod spool;
mod statement;
mod supervisor;
mod torn_metadata;
mod transaction_statements;
mod turn;
mod types;
mod update;
mod visible;
mod wanted;
mod workspace;
mod writer;

use std::{path::PathBuf, sync::Arc, time::Duration};

pub use batch_stream::BatchStream;
#[cfg(test)]
pub(crate) use batch_stream::Cancel;
pub use catalog::{
    CatalogView, ColumnDetail, Dialect, ForeignKeyFilter, ForeignKeyOrder, NullOrder, Relation,
    RelationFilter, TableFilter, TableRef,
};
pub use database_file::check_path;
pub use error::{Class, Error, Result};
pub use execution::Execution;
pub use export::{BadDirectory, Exports};
pub use ffi::StatementKind;
pub use ingest::{
    Ack, Arrived, Arriving, IfExists, IfMissing, IngestRequest, Merge, NewColumns, OnConflict, PartitionKey,
    Pending, Reservation, Rows, Share,
};
pub use jobs::{JobClock, Pipeline};
pub use lake::{
    AttachedCatalog, CatalogKind, Format, Lake, Maintenance, NotApart, OptionValue, Reads, Secret,
    SecretKind, SecretText, Source,
};
pub use ledger::IngestKey;
pub use names::{Names, SessionNames};
pub use outage::Condition;
pub use posted::{Posted, Posting};
pub(crate) use queries::excerpt;
pub use queries::{
    Arguments, Input, NamedQuery, Page, Parameter, QueryCard, add_argument, arguments_of, counted, page_of,
    total_of,
};
pub use statement::{Description, Outcome, Statement};
pub use workspace::{IdleLimits, Place, TransactionId, Workspace};

use tokio_util::sync::CancellationToken;

pub(crate) use activity::{Activity, Caller, NOT_SHOWN, Registered, SessionCard, SessionDirectory, State};
use attached::Attached;
use catalog::Catalog;
pub(crate) use catalog::MAX_NAME_BYTES;
use clock::CommitClock;
use database::Database;
pub(crate) use expansion::check as check_expansion;
pub(crate) use ingest::bytes_of;
use ingest::{Budget, MergeQueue};
#[cfg(feature = "fuzz")]
pub(crate) use ipc::reads as reads_arrow_file;
pub(crate) use ipc::{is_as_schema_says, words_of_decoder};
use jobs::Jobs;
pub(crate) use lake::QUERIES;
use ledger::{LedgerTable, SharedLedger};
use overdue::Overdue;
pub(crate) use schema_names::check_names;
use turn::Turn;
pub(crate) use types::{Extension, type_name};
use writer::WriterHandle;

/// A text of SQL statements.
#[derive(Debug, Clone)]
pub struct Script {
    /// What people call it.
    pub name: String,
    /// The statements.
    pub sql: String,
}

/// How the engine is to run. Sizes are bytes.
#[derive(Debug, Clone)]
pub struct Options {
    /// The database file; `None` keeps it in memory.
    pub path: Option<PathBuf>,
    /// Refuse every write.
    pub read_only: bool,
    /// DuckDB's memory limit; `None` is its own default, 80 % of the machine.
    pub memory_limit: Option<u64>,
    /// DuckDB's worker threads; `None` is one a core.
    pub threads: Option<usize>,
    /// Where DuckDB spills; `None` is beside the file.
    pub temp_directory: Option<PathBuf>,
    /// SQL to run at every start, and the name by which errors call it.
    pub init_sql: Option<Script>,
    /// Reads that may run at once.
    pub read_concurrency: usize,
    /// How long a read waits for its place, and a write for its turn.
    pub wait: Duration,
    /// How long a statement may run, its streaming included; `None` is for ever.
    pub query_timeout: Option<Duration>,
    /// Units that may wait for the writer.
    pub queue_units: usize,
    /// Bytes of rows that may be in the server on their way to the database.
    pub queue_bytes: usize,
    /// An upload larger than this appends on a connection of its own.
    pub bulk_bytes: usize,
    /// How long an upload may send nothing, and the client of a result take nothing.
    pub stall_timeout: Duration,
    /// How long the rows of a group may take to enter their tables, before their COMMIT; `None` is for ever.
    pub ingest_timeout: Option<Duration>,
    /// The write-ahead log is checkpointed at this size even when the writer is never idle.
    pub checkpoint_bytes: u64,
    /// At this size of the write-ahead log no new bulk upload or write transaction begins until it is
    /// checkpointed.
    pub wal_limit_bytes: u64,
    /// Free space on the database's disk below which nothing is written.
    pub disk_reserve_bytes: u64,
    /// How old the snapshot of a read may become; `None` is for ever.
    pub read_age: Option<Duration>,
    /// How long statements that go on after their stop may hold all places for reads.
    pub overdue_grace: Duration,
    /// Extensions, secrets and sources.
    pub lake: Lake,
    /// Named queries.
    pub queries: Vec<NamedQuery>,
    /// Pipelines from one table to another.
    pub pipelines: Vec<Pipeline>,
    /// By which jobs are run.
    pub job_clock: JobClock,
}

/// How long statements that DuckDB does not stop may keep everybody from reading.
pub const OVERDUE_GRACE: Duration = Duration::from_secs(60);

impl Default for Options {
    fn default() -> Self {
        Self {
            path: None,
            read_only: false,
            memory_limit: None,
            threads: None,
            temp_directory: None,
            init_sql: None,
            read_concurrency: 32,
            wait: Duration::from_secs(10),
            query_timeout: None,
            queue_units: 4096,
            queue_bytes: 256 << 20,
            bulk_bytes: 8 << 20,
            stall_timeout: Duration::from_secs(60),
            ingest_timeout: Some(Duration::from_secs(10)),
            checkpoint_bytes: 16 << 20,
            wal_limit_bytes: 4 << 30,
            disk_reserve_bytes: 64 << 20,
            read_age: Some(Duration::from_secs(600)),
            overdue_grace: OVERDUE_GRACE,
            lake: Lake::default(),
            queries: Vec::new(),
            pipelines: Vec::new(),
            job_clock: JobClock::default(),
        }
    }
}

/// One open database and everything that works on it. Clones are cheap and share it.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    options: Options,
    database: Arc<Database>,
    clock: Arc<CommitClock>,
    catalog: Arc<Catalog>,
    budget: Budget,
    /// Uploads whose rows are matched by key.
    merges: MergeQueue,
    bulks: Arc<tokio::sync::Semaphore>,
    reads: Arc<tokio::sync::Semaphore>,
    /// As many places for planning.
    planning: Arc<tokio::sync::Semaphore>,
    /// Places of either kind for who looks at what goes on.
    looking: [Arc<tokio::sync::Semaphore>; 2],
    /// Statements that go on although they were stopped.
    overdue: Arc<Overdue>,
    /// Cancelled when nobody waits for reads any longer.
    reads_end: CancellationToken,
    turn: Turn,
    ledger: SharedLedger,
    ledger_table: Arc<LedgerTable>,
    writer: Option<WriterHandle>,
    /// The writers of the catalogs that the configuration attaches.
    attached: Attached,
    jobs: Jobs,
}

impl Options {
    fn temporary_folder(&self) -> PathBuf {
        self.temp_directory.clone().unwrap_or_else(std::env::temp_dir)
    }
}

impl Engine {
    /// Opens the database and starts its writer.
    ///
    /// # Errors
    /// Whatever DuckDB says: the file is locked by another process, is no database, or cannot be written.
    pub fn open(options: Options) -> Result<Self> {
        let database = Arc::new(Database::open(&options)?);
        let clock = Arc::new(CommitClock::new(!database.has_attached()));
        let (ledger_table, ledger) = open_ledger(&database)?;
        let writer = if options.read_only {
            None
        } else {
            let ledger = (Arc::clone(&ledger_table), Arc::clone(&ledger));
            Some(WriterHandle::spawn(Arc::clone(&database), Arc::clone(&clock), ledger, &options)?)
        };
        let attached = Attached::start(&database, &clock, &options)?;
        let catalog = Arc::new(Catalog::new(Arc::clone(&database), Arc::clone(&clock)));
        let jobs = Jobs::new(&database)?;
        supervisor::start(&database, Arc::clone(&clock))?;
        let watched = Arc::downgrade(&database);
        let overdue = Overdue::new(options.read_concurrency, options.overdue_grace, move |reason| {
            if let Some(database) = watched.upgrade() {
                database.invalidate(reason);
            }
        });
        Ok(Self {
            shared: Arc::new(Shared {
                catalog,
                budget: Budget::new(options.queue_bytes, options.wait),
                merges: MergeQueue::new(options.queue_units, options.queue_bytes, options.wait),
                bulks: Arc::new(tokio::sync::Semaphore::new(ingest::bulk_places(options.queue_bytes))),
                reads: Arc::new(tokio::sync::Semaphore::new(options.read_concurrency)),
                overdue,
                reads_end: CancellationToken::new(),
                planning: Arc::new(tokio::sync::Semaphore::new(options.read_concurrency)),
                looking: [0, 1].map(|_| Arc::new(tokio::sync::Semaphore::new(activity::PLACES_TO_LOOK))),
                turn: Turn::shown_by(database.activity.turn.clone(), options.wait),
                ledger,
                ledger_table,
                options,
                database,
                clock,
                writer,
                attached,
                jobs,
            }),
        })
    }

    /// Where files go that are gone with the process.
    pub(crate) fn temporary_folder(&self) -> PathBuf {
        self.shared.options.temporary_folder()
    }

    /// How long an upload may send nothing.
    pub fn stall_timeout(&self) -> Duration {
        self.shared.options.stall_timeout
    }

    /// True when the database takes no writes.
    pub fn read_only(&self) -> bool {
        self.shared.options.read_only
    }

    /// The name of the catalog where unqualified names live.
    pub fn default_catalog(&self) -> &str {
        &self.shared.database.catalog
    }

    /// The version of DuckDB, such as `v1.5.5`.
    pub fn duckdb_version(&self) -> String {
        ffi::library_version()
    }

    /// Reads that run or stream just now.
    pub fn reads_in_progress(&self) -> usize {
        self.shared.options.read_concurrency - self.shared.reads.available_permits()
    }

    /// Uploads under way that are too large to be collected.
    pub fn bulk_uploads_in_progress(&self) -> usize {
        ingest::bulk_places(self.shared.options.queue_bytes) - self.shared.bulks.available_permits()
    }

    /// What goes on just now.
    pub(crate) fn activity(&self) -> Arc<Activity> {
        Arc::clone(&self.shared.database.activity)
    }

    /// Closes the database and opens it again, as after a failure, for this reason. What runs ends with
    /// [`Error::EngineDown`].
    pub fn reopen(&self, reason: &str) {
        self.shared.database.invalidate(reason);
    }

    /// Follows whether the database works, is being opened again after a failure, or is lost.
    pub fn condition(&self) -> tokio::sync::watch::Receiver<Condition> {
        self.shared.database.condition()
    }

    /// Commits what the writer has accepted, checkpoints, and stops it. Later writes get
    /// [`Error::Stopping`]. A database that has failed is not waited for.
    pub async fn shutdown(&self) {
        if !self.shared.database.is_open() {
            self.shared.database.stop();
        }
        self.shared.jobs.stop().await;
        if let Some(writer) = &self.shared.writer {
            writer.shutdown().await;
        }
        self.shared.attached.shutdown().await;
        self.shared.database.stop();
    }
}

/// What the database knows of keyed units.
fn open_ledger(database: &Arc<Database>) -> Result<(Arc<LedgerTable>, SharedLedger)> {
    // Rows keep their order on it, and with them each loader's sequences.
    let connection = database.private_connection()?;
    let table = LedgerTable::find(&connection, &database.catalog, false)?;
    *database.ledger.lock() = table.load(&connection)?;
    Ok((Arc::new(table), Arc::clone(&database.ledger)))
}
