//! Opening the database, its settings, and the pool of connections.

use std::{
    collections::HashSet,
    ops::Deref,
    sync::{Arc, OnceLock, Weak},
};

use arrow_schema::Schema;
use parking_lot::{Mutex, RwLock};

use super::{
    Error, Exports, Options, Result,
    answers::{first_text, texts},
    brackets::Brackets,
    database_file,
    disk::DiskRoom,
    ffi::{
        self, BatchView, Connection, DuckError, Pulse, ScanRegistry, attach_views, register_listing,
        register_read_arrow, register_recast, register_scan,
    },
    jobs::{self, Board},
    lake::{AttachedCatalog, CatalogKind, Opened, PinnedSchemas, SOURCES},
    ledger::{self, Ledgers, SharedLedger},
    log_head,
    names::Names,
    open_writes::OpenWrites,
    outage::Standing,
    plans::Plans,
    posted_views::PostedViews,
    quarantine::Quarantine,
    queries::{self, Queries},
    replay,
};
use crate::sql::{Kept, literal, mentions, quote};

/// Connections kept open for the next statement. Connecting costs about 0.1 ms.
const IDLE_CONNECTIONS: usize = 64;

/// The database: one instance of DuckDB at a time, which is replaced when it has failed; see
/// [`super::supervisor`].
pub(crate) struct Database {
    pub(super) standing: Standing,
    pub(crate) scans: Arc<ScanRegistry>,
    /// The name of the catalog that the file is, and where unqualified names live.
    pub(crate) catalog: String,
    /// The room on its disk.
    pub(crate) disk: DiskRoom,
    /// The write transactions that are open beside the writer's.
    pub(crate) writes: Arc<OpenWrites>,
    /// What is known of keyed units,
    pub(crate) ledger: SharedLedger,
    /// and in all catalogs.
    pub(crate) ledgers: Ledgers,
    /// The jobs, as clients see them.
    pub(crate) board: Board,
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

/// The table function that tells of named queries.
const QUERIES_LISTING: &str = "merganser_queries";

/// An open instance and its idle connections.
pub(super) struct Instance {
    raw: ffi::Database,
    idle: Mutex<Vec<Idle>>,
    posted_views: PostedViews,
    catalog: String,
    /// Whether there are any.
    sources: bool,
    /// What no client takes away, also catalogs that are missing.
    kept: Kept,
    /// Those of them that are lakes.
    lakes: Vec<String>,
    exports: Exports,
    queries: Queries,
}

impl Instance {
    /// Opens the file (or memory), pins what clients must not change, and runs the start-up SQL. Tells which catalogs are
    /// attached.
    pub(super) fn open(
        options: &Options,
        scans: &Arc<ScanRegistry>,
        ledgers: &Ledgers,
        board: &Board,
    ) -> Result<(Self, HashSet<String>)> {
        if let Some(path) = &options.path {
            database_file::check(path)?;
            log_head::check(path)?;
        }
        let settings = settings(options);
        let raw = match &options.path {
            Some(path) if !options.read_only => replay::open(path, &settings),
            path => ffi::Database::open(path.as_deref(), &settings),
        };
        let raw = raw.map_err(open_error)?;
        let connection = raw.connect()?;
        register_scan(&connection, scans)?;
        register_recast(&connection)?;
        register_read_arrow(&connection)?;
        let listed = Arc::clone(ledgers);
        let rows = Arc::new(move || ledger::report(&listed.lock()));
        register_listing(&connection, INGEST_LISTING, ledger::report_schema(), rows)?;
        let listed = Arc::clone(board);
        let rows = Arc::new(move || jobs::listing(&listed.lock()));
        register_listing(&connection, JOBS_LISTING, jobs::listing_schema(), rows)?;
        // Views of the start-up SQL may read it, though the queries are checked after that.
        let listed = Arc::<OnceLock<Queries>>::default();
        let checked = Arc::clone(&listed);
        let rows = Arc::new(move || queries::listing(listed.get().map_or(&[], |queries| queries)));
        register_listing(&connection, QUERIES_LISTING, queries::listing_schema(), rows)?;
        if !options.read_only {
            attach_views(&connection)?;
        }
        for (name, value) in PINNED {
            connection.execute(&format!("SET GLOBAL {name} = {value}"))?;
        }
        if !options.lake.catalogs.is_empty() {
            connection.execute(NO_SIMILAR_NAMES)?;
        }
        let catalog = first_text(&connection, "SELECT system.main.current_database()")?;
        if options.path.is_some() {
            database_file::check_opened(&connection, &catalog)?;
        }
        let Opened { sources, catalogs } = options.lake.open(&connection, options.read_only)?;
        if let Some(script) = &options.init_sql {
            // On a connection of its own: a USE or SET in it must not stay behind in the pool.
            raw.connect()?
                .execute(&script.sql)
                .map_err(|error| Error::InitSql { name: script.name.clone(), reason: error.message })?;
        }
        let default = use_sql(&Names::default_of(&catalog), sources);
        let with_names = || {
            let connection = raw.connect()?;
            connection.execute(&default)?;
            Ok(connection)
        };
        let queries = queries::open(&options.queries, &connection, with_names)?;
        let queries = Arc::clone(checked.get_or_init(|| queries));
        options.lake.limit_reads(&connection)?;
        if options.lake.reads.is_some() {
            queries::check_again(&options.queries, with_names)?;
        }
        // The connection that pinned the settings does not join the idle ones: its own layout of Arrow data is
        // of before.
        let exports = options.lake.exports.clone();
        let (idle, posted_views) = (Mutex::default(), PostedViews::default());
        let names = |which: fn(&AttachedCatalog) -> bool| {
            options.lake.catalogs.iter().filter(|it| which(it)).map(|it| it.name.clone()).collect()
        };
        let attached: Vec<String> = names(|_| true);
        let kept = Kept::new(&catalog, attached.iter().map(String::as_str), functions(&connection)?);
        let lakes = names(AttachedCatalog::is_shared);
        Ok((Self { raw, idle, posted_views, catalog, sources, kept, lakes, exports, queries }, catalogs))
    }

    /// Whether it lives, also for those who must not keep it open.
    pub(super) fn pulse(&self) -> &Arc<Pulse> {
        self.raw.pulse()
    }

    fn connect(&self) -> Result<Idle> {
        let connection = self.raw.connect()?;
        if self.sources {
            connection.execute(&self.use_sql(None))?;
        }
        Ok(Idle { connection, plans: Plans::default(), reading: Brackets::of_read(), names: None })
    }

    /// The statement after which unqualified names mean `names`; `None` is the default.
    fn use_sql(&self, names: Option<&Names>) -> String {
        match names {
            Some(names) => use_sql(names, self.sources),
            None => use_sql(&Names::default_of(&self.catalog), self.sources),
        }
    }
}

impl Database {
    /// Opens the database for the first time.
    pub(crate) fn open(options: &Options) -> Result<Self> {
        let scans = Arc::default();
        let (ledger, ledgers) = (SharedLedger::default(), Ledgers::default());
        let board = Board::default();
        let (instance, attached) = Instance::open(options, &scans, &ledgers, &board)?;
        ledgers.lock().insert(instance.catalog.clone(), Arc::clone(&ledger));
        Ok(Self {
            scans,
            catalog: instance.catalog.clone(),
            disk: DiskRoom::new(options.path.as_deref(), options.disk_reserve_bytes),
            writes: Arc::new(OpenWrites::new(options.wait)),
            ledger,
            ledgers,
            board,
            queries: Arc::clone(&instance.queries),
            quarantine: Arc::default(),
            attached: RwLock::new(attached),
            options: options.clone(),
            standing: Standing::new(instance),
        })
    }

    /// An idle connection with the default names, or a new one. It goes back when dropped.
    pub(crate) fn connection(self: &Arc<Self>) -> Result<Pooled> {
        self.connection_with(None)
    }

    /// An idle connection on which unqualified names mean `names`; `None` is the default.
    pub(crate) fn connection_with(self: &Arc<Self>, names: Option<&Names>) -> Result<Pooled> {
        let instance = self.standing.instance()?;
        let idle = {
            let mut idle = instance.idle.lock();
            let fitting = idle.iter().rposition(|idle| idle.names.as_ref() == names);
            match fitting {
                Some(at) => Some(idle.swap_remove(at)),
                None => idle.pop(),
            }
        };
        let idle = match idle {
            Some(idle) => idle,
            None => instance.connect()?,
        };
        let mut pooled = Pooled::new(idle, &instance, false);
        pooled.use_names(names)?;
        Ok(pooled)
    }

    /// A new connection for ingest. It never joins the pool, because it may be dropped with a transaction
    /// open. Rows keep their order on it, whatever the start-up SQL says: with
    /// `preserve_insertion_order = false` readers see rows before they are committed (DuckDB 1.5.5).
    pub(crate) fn private_connection(self: &Arc<Self>) -> Result<Pooled> {
        let instance = self.standing.instance()?;
        let idle = instance.connect()?;
        idle.connection.execute("SET SESSION preserve_insertion_order = true")?;
        Ok(Pooled::new(idle, &instance, true))
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
        let Some(path) = &self.options.path else { return Ok(()) };
        let file_bytes = std::fs::metadata(path).map_or(0, |file| file.len());
        self.disk.check_checkpoint(self.wal_bytes(), file_bytes, in_file)
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

/// The names of DuckDB's functions, those of loaded extensions included.
fn functions(connection: &Connection) -> Result<Vec<String>> {
    texts(connection, "SELECT DISTINCT function_name FROM system.main.duckdb_functions() WHERE internal")
}

/// A log that cannot be replayed is for its operator to decide on; nothing else about opening is.
fn open_error(error: DuckError) -> Error {
    if error.message.contains("replaying WAL") {
        return Error::WalUnreadable(error.message);
    }
    error.into()
}

/// Where a table is missing, DuckDB looks for similar names in all catalogs, and tells of one that is out of reach instead
/// of the table. The names beside it are looked at all the same.
const NO_SIMILAR_NAMES: &str = "SET GLOBAL catalog_error_max_schemas = 0";

/// The Arrow layout is one for all clients and for the life of the process: a schema that was announced
/// is the schema that is delivered. Sessions run in UTC.
const PINNED: [(&str, &str); 7] = [
    ("TimeZone", "'UTC'"),
    ("arrow_large_buffer_size", "false"),
    ("arrow_lossless_conversion", "false"),
    ("arrow_output_list_view", "false"),
    ("arrow_output_version", "'1.0'"),
    ("produce_arrow_string_view", "false"),
    ("errors_as_json", "false"),
];

fn settings(options: &Options) -> Vec<(&'static str, String)> {
    let mut settings = vec![
        // Checkpoints are the writer's to decide: DuckDB's own would run inside a loader's commit, and be
        // fatal on a full disk.
        ("checkpoint_threshold", "1024TB".into()),
        // Secrets are the configuration's: none is written to, or read from, the home of the server's user.
        ("allow_persistent_secrets", "false".into()),
        // What others have written runs as the server, and some of it runs commands. It is loaded where the operator
        // names extensions or brings a script, and else not at all.
        (
            "allow_community_extensions",
            (!options.lake.extensions.is_empty() || options.init_sql.is_some()).to_string(),
        ),
        // A database in memory has to be made first; the engine refuses writes to it.
        (
            "access_mode",
            if options.read_only && options.path.is_some() { "READ_ONLY" } else { "READ_WRITE" }.into(),
        ),
    ];
    if let Some(threads) = options.threads {
        settings.push(("threads", threads.to_string()));
    }
    if let Some(bytes) = options.memory_limit {
        settings.push(("memory_limit", format!("{bytes}B")));
    }
    if let Some(folder) = &options.temp_directory {
        settings.push(("temp_directory", folder.to_string_lossy().into_owned()));
    }
    settings
}

fn set_names(connection: &Connection, instance: &Weak<Instance>, names: Option<&Names>) -> Result<()> {
    let instance = instance.upgrade().ok_or(Error::EngineDown)?;
    connection.execute(&instance.use_sql(names))?;
    Ok(())
}

/// The statement after which unqualified names mean `names` first, then the sources where there are any.
fn use_sql(names: &Names, sources: bool) -> String {
    let (catalog, schema) = (quote(&names.catalog), quote(&names.schema));
    if sources {
        return format!(
            "SET SESSION search_path = {}",
            literal(&format!("{catalog}.{schema},{SOURCES}.main"))
        );
    }
    format!("USE {catalog}.{schema}")
}

/// A connection and what it has planned.
struct Idle {
    plans: Plans,
    reading: Brackets,
    /// What USE has set; plans are of statements with these names.
    names: Option<Names>,
    connection: Connection,
}

/// A connection on loan from the pool.
pub(crate) struct Pooled {
    idle: Option<Idle>,
    /// Where it goes back to. A loan that is over must not keep the instance open, nor need one that goes on.
    instance: Weak<Instance>,
    pulse: Arc<Pulse>,
    exports: Exports,
    /// A private connection never joins the pool: closing it rolls back whatever is open on it.
    private: bool,
    /// The catalog of unqualified names, where USE has set another one than the pool gave it.
    used: Mutex<Option<String>>,
}

impl Pooled {
    fn new(idle: Idle, instance: &Arc<Instance>, private: bool) -> Self {
        let pulse = Arc::clone(instance.pulse());
        let exports = instance.exports.clone();
        let (instance, used) = (Arc::downgrade(instance), Mutex::default());
        Self { idle: Some(idle), instance, pulse, exports, private, used }
    }

    /// Ends the loan without giving the connection back, because its state is not known.
    pub(crate) fn discard(mut self) {
        self.close();
    }

    /// Closes the connection for good, because its state is not known, or to let go of the instance.
    pub(crate) fn close(&mut self) {
        self.idle = None;
    }

    /// Whether it has not been closed.
    pub(crate) fn is_open(&self) -> bool {
        self.idle.is_some()
    }

    /// True when the instance under it has failed, and the connection with it.
    pub(crate) fn is_lost(&self) -> bool {
        self.pulse.has_failed()
    }

    /// Makes unqualified names mean `names`.
    pub(crate) fn use_names(&mut self, names: Option<&Names>) -> Result<()> {
        let Some(idle) = &mut self.idle else { return Ok(()) };
        if idle.names.as_ref() != names {
            set_names(&idle.connection, &self.instance, names)?;
            idle.names = names.cloned();
            idle.plans = Plans::default();
        }
        Ok(())
    }

    /// The same for a connection that keeps its state, and no plans here.
    pub(crate) fn set_names(&self, names: &Names) -> Result<()> {
        set_names(self, &self.instance, Some(names))?;
        *self.used.lock() = Some(names.catalog.clone());
        Ok(())
    }

    /// Takes note of a client's own USE, and brings the sources back in sight, because it sets one schema only.
    pub(crate) fn has_used(&self, names: &Names) -> Result<()> {
        let instance = self.instance.upgrade().ok_or(Error::EngineDown)?;
        *self.used.lock() = Some(names.catalog.clone());
        if instance.sources { self.set_names(names) } else { Ok(()) }
    }

    /// Refuses a text that would take away what is served, or what the configuration attaches.
    pub(crate) fn keep_catalogs(&self, sql: &str) -> Result<()> {
        let instance = self.instance.upgrade().ok_or(Error::EngineDown)?;
        Ok(instance.kept.check(sql)?)
    }

    /// Pins the schemas of the lakes in which a text may make or change tables, for the transaction that is open here.
    pub(crate) fn pin_schemas(&self, pinned: &mut PinnedSchemas, sql: &str) {
        let Some(instance) = self.instance.upgrade() else { return };
        let pooled = self.idle.as_ref().and_then(|idle| idle.names.as_ref()).map(|names| &names.catalog);
        let used = self.used.lock();
        let in_use = used.as_ref().or(pooled);
        for lake in &instance.lakes {
            // One that has nothing to do with it may be out of reach.
            if in_use.is_some_and(|used| used.eq_ignore_ascii_case(lake))
                || mentions(sql, &lake.to_lowercase())
            {
                pinned.pin(self, lake);
            }
        }
    }

    /// Pins the schema of a catalog that is a lake.
    pub(crate) fn pin_schema(&self, pinned: &mut PinnedSchemas, catalog: &str) {
        let Some(instance) = self.instance.upgrade() else { return };
        if instance.lakes.iter().any(|lake| lake.eq_ignore_ascii_case(catalog)) {
            pinned.pin(self, catalog);
        }
    }

    /// Where its statements may write files.
    pub(crate) fn exports(&self) -> &Exports {
        &self.exports
    }

    /// Begins a READ ONLY transaction. A connection on which none can begin serves nobody any more.
    pub(crate) fn begin_read(&mut self) -> Result<(), DuckError> {
        let begun = self.idle.as_mut().map_or(Ok(()), |idle| idle.reading.begin(&idle.connection));
        if begun.is_err() {
            self.close();
        }
        begun
    }

    /// Ends it.
    pub(crate) fn end_read(&self) -> Result<(), DuckError> {
        self.idle.as_ref().map_or(Ok(()), |idle| idle.reading.end())
    }

    /// The plans that the connection keeps.
    #[allow(clippy::expect_used, reason = "only `close` and `drop` empty it, and nobody uses it after them")]
    pub(crate) fn plans(&mut self) -> &mut Plans {
        &mut self.idle.as_mut().expect("on loan").plans
    }
}

impl Deref for Pooled {
    type Target = Connection;

    #[allow(clippy::expect_used, reason = "only `close` and `drop` empty it, and nobody uses it after them")]
    fn deref(&self) -> &Connection {
        &self.idle.as_ref().expect("on loan").connection
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let Some(connection) = self.idle.take() else { return };
        // A panic may have left a transaction open.
        if self.private || self.is_lost() || std::thread::panicking() {
            return;
        }
        let Some(instance) = self.instance.upgrade() else { return };
        let mut idle = instance.idle.lock();
        if idle.len() < IDLE_CONNECTIONS {
            idle.push(connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_arrow_setting_of_duckdb_is_pinned() {
        let database = ffi::Database::open(None, &[]).unwrap();
        let connection = database.connect().unwrap();
        let names = first_text(
            &connection,
            "SELECT string_agg(name) FROM duckdb_settings() WHERE name ILIKE '%arrow%'",
        );
        for name in names.unwrap().split(',') {
            assert!(PINNED.iter().any(|(pinned, _)| *pinned == name), "{name} is not set at start");
        }
    }
    /// Settings that a client may change for its own session: they say what its queries mean, or how they are planned.
    const OF_SESSIONS: [&str; 38] = [
        "asof_loop_join_threshold",
        "binary_as_string",
        "default_collation",
        "default_null_order",
        "default_order",
        "deprecated_using_key_syntax",
        "disable_parquet_prefetching",
        "disable_timestamptz_casts",
        "dynamic_or_filter_threshold",
        "enable_caching_operators",
        "enable_geoparquet_conversion",
        "enable_http_metadata_cache",
        "enable_object_cache",
        "explain_output",
        "ieee_floating_point_ops",
        "ignore_unknown_crs",
        "index_scan_max_count",
        "index_scan_percentage",
        "integer_division",
        "lambda_syntax",
        "late_materialization_max_rows",
        "merge_join_threshold",
        "nested_loop_join_threshold",
        "null_order",
        "old_implicit_casting",
        "order_by_non_integer_literal",
        "ordered_aggregate_threshold",
        "parquet_metadata_cache",
        "partitioned_write_flush_threshold",
        "pivot_filter_threshold",
        "pivot_limit",
        "prefer_range_joins",
        "prefetch_all_parquet_files",
        "preserve_identifier_case",
        "preserve_insertion_order",
        "scalar_subquery_error_on_multiple_rows",
        "schema",
        "search_path",
    ];

    /// A new DuckDB may bring settings that nobody has thought about.
    #[test]
    fn a_setting_of_sessions_is_one_that_was_looked_at() {
        let database = ffi::Database::open(None, &[]).unwrap();
        let connection = database.connect().unwrap();
        let names = texts(&connection, "SELECT name FROM duckdb_settings()").unwrap();
        for name in names {
            let is_local = ["DEFAULT", "''", "1"].iter().any(|value| {
                let beside = database.connect().unwrap();
                beside.execute(&format!("SET SESSION {name} = {value}")).is_ok()
            });
            let lets = crate::sql::localise(&format!("SET {name} = x")).is_ok();
            assert_eq!(is_local && lets, OF_SESSIONS.contains(&name.as_str()), "{name}: {is_local} {lets}");
        }
    }
}
