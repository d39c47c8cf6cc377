//! The database: one instance of DuckDB at a time, and what outlives it.

mod instance;
mod pool;
mod settings;

use std::{collections::HashSet, path::Path, sync::Arc};

use arrow_schema::Schema;
use parking_lot::RwLock;

pub(super) use self::instance::Instance;
pub(crate) use self::pool::Pooled;
use super::{
    Options, Result,
    activity::Activity,
    answers::first_text,
    appends::Appends,
    disk::{self, DiskRoom},
    ffi::{BatchView, Connection, ScanRegistry},
    jobs::JobStatuses,
    lake::{AttachedCatalog, CatalogKind},
    ledger::{Ledgers, SharedLedger},
    log_head,
    open_writes::OpenWrites,
    outage::Standing,
    posted::PostedViews,
    quarantine::Quarantine,
    queries::Queries,
};
use crate::sql::literal;

/// The database: one instance of DuckDB at a time, which is replaced when it has failed; see
/// [`super::supervisor`].
pub(crate) struct Database {
    pub(super) standing: Standing,
    pub(crate) scans: Arc<ScanRegistry>,
    /// The name of the catalog that the file is, and where unqualified names live.
    pub(crate) catalog: String,
    /// The room on its disk.
    pub(crate) disk: DiskRoom,
    /// The limit of what appends.
    pub(crate) appends: Appends,
    /// The write transactions that are open beside the writer's.
    pub(crate) writes: Arc<OpenWrites>,
    /// What is known of keyed units,
    pub(crate) ledger: SharedLedger,
    /// and in all catalogs.
    pub(crate) ledgers: Ledgers,
    /// The jobs, as clients see them.
    pub(crate) job_statuses: JobStatuses,
    /// What goes on just now.
    pub(crate) activity: Arc<Activity>,
    /// The named queries.
    pub(crate) queries: Queries,
    /// Texts of clients that are refused for a while; it outlives the instance that they have failed.
    pub(crate) quarantine: Arc<Quarantine>,
    /// The names of the catalogs that were attached when it was opened last, and have come since.
    attached: RwLock<HashSet<String>>,
    pub(super) options: Options,
}

/// The table function that tells of loaders.
pub(crate) const INGEST_LISTING: &str = "merganser_ingest";

/// The table function that tells of jobs.
pub(crate) const JOBS_LISTING: &str = "merganser_jobs";

impl Database {
    /// Opens the database for the first time.
    pub(crate) fn open(options: &Options) -> Result<Self> {
        let scans = Arc::default();
        let activity = Arc::<Activity>::default();
        let (ledger, ledgers) = (SharedLedger::default(), Ledgers::default());
        let job_statuses = JobStatuses::default();
        let (instance, attached) = Instance::open(options, &scans, &ledgers, &job_statuses, &activity)?;
        ledgers.lock().insert(instance.catalog.clone(), Arc::clone(&ledger));
        Ok(Self {
            scans,
            catalog: instance.catalog.clone(),
            disk: DiskRoom::new(options.path.as_deref(), options.disk_reserve_bytes),
            appends: Appends::new(options.ingest_timeout)?,
            writes: Arc::new(OpenWrites::new(options.wait)),
            ledger,
            ledgers,
            job_statuses,
            activity,
            queries: Arc::clone(&instance.queries),
            quarantine: Arc::default(),
            attached: RwLock::new(attached),
            options: options.clone(),
            standing: Standing::new(instance),
        })
    }

    /// Does something with the views for posted rows that wait.
    pub(super) fn posted_views<R>(&self, work: impl FnOnce(&PostedViews) -> R) -> Result<R> {
        Ok(work(&self.standing.instance()?.posted_views))
    }

    /// The catalogs that the configuration attaches, as far as they are there.
    pub(crate) fn attached_catalogs(&self) -> impl Iterator<Item = &AttachedCatalog> {
        self.options.lake.catalogs.iter().filter(|catalog| self.attached.read().contains(&catalog.name))
    }

    /// Those that are not there.
    pub(crate) fn missing_catalogs(&self) -> impl Iterator<Item = &AttachedCatalog> {
        self.options.lake.catalogs.iter().filter(|catalog| !self.attached.read().contains(&catalog.name))
    }

    /// Says which are there, in an instance that takes the place of another one.
    pub(super) fn are_attached(&self, names: HashSet<String>) {
        *self.attached.write() = names;
    }

    /// Says that one of them is there now.
    pub(crate) fn has_come(&self, catalog: &AttachedCatalog) {
        self.attached.write().insert(catalog.name.clone());
    }

    /// What an attached catalog is; `None` for any other.
    pub(crate) fn kind_of(&self, catalog: &str) -> Option<&CatalogKind> {
        self.attached_catalogs()
            .find(|attached| attached.name.eq_ignore_ascii_case(catalog))
            .map(|it| &it.kind)
    }

    /// How it is run.
    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// Whether there may be any.
    pub(crate) fn has_attached(&self) -> bool {
        !self.options.lake.catalogs.is_empty()
    }

    /// A view over batches that are to come; on a connection of its own.
    pub(crate) fn batch_view(&self, name: String, schema: &Schema) -> Result<BatchView> {
        Ok(BatchView::new(self.standing.instance()?.raw.connect()?, name, schema)?)
    }

    /// Bytes in the write-ahead log; 0 for a database in memory.
    pub(crate) fn wal_bytes(&self) -> u64 {
        let Some(path) = &self.options.path else { return 0 };
        std::fs::metadata(log_head::log_of(path)).map_or(0, |file| file.len())
    }

    /// Whether a checkpoint can be expected to find room, of which `in_file` bytes are inside the file.
    ///
    /// # Errors
    /// [`Error::DiskFull`].
    pub(crate) fn check_checkpoint(&self, in_file: u64) -> Result<()> {
        self.options.path.as_ref().map_or(Ok(()), |path| disk::check_checkpoint(path, in_file))
    }

    /// The same of each file of DuckDB that is open.
    ///
    /// # Errors
    /// [`Error::DiskFull`].
    pub(crate) fn check_checkpoints(&self) -> Result<()> {
        self.check_checkpoint(0)?;
        let mut files = self.attached_catalogs().filter_map(AttachedCatalog::duckdb_file);
        files.try_for_each(|file| disk::check_checkpoint(Path::new(file), 0))
    }

    /// Bytes that are free inside the file, as far as DuckDB tells.
    pub(crate) fn room_in_file(&self, connection: &Connection) -> u64 {
        let sql = format!(
            "SELECT (free_blocks * block_size)::VARCHAR FROM system.main.pragma_database_size() WHERE database_name = {}",
            literal(&self.catalog)
        );
        first_text(connection, &sql).ok().and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
    }
}
