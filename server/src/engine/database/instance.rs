//! One open instance: what is registered in it, set, attached, checked and run before anybody sees it.

use std::{
    collections::HashSet,
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;

use super::{INGEST_LISTING, JOBS_LISTING, pool::Idle, settings};
use crate::{
    engine::{
        Error, Exports, Options, Result,
        activity::{self, Activity, SESSIONS_LISTING, STATEMENTS_LISTING},
        answers::first_text,
        database_file,
        ffi::{
            self, Connection, DuckError, Pulse, ScanRegistry, attach_views, forbid_setseed, register_listing,
            register_read_arrow, register_recast, register_scan,
        },
        jobs::{self, JobStatuses},
        lake::{AttachedCatalog, Opened, SOURCES},
        ledger::{self, Ledgers},
        log_head,
        names::Names,
        posted::PostedViews,
        queries::{self, Queries},
        replay, torn_metadata,
    },
    sql::{Kept, literal, quote},
};

/// The table function that tells of named queries.
const QUERIES_LISTING: &str = "merganser_queries";

/// Where a table is missing, DuckDB looks for similar names in all catalogs, and tells of one that is out of reach instead
/// of the table. The names beside it are looked at all the same.
const NO_SIMILAR_NAMES: &str = "SET GLOBAL catalog_error_max_schemas = 0";

/// An open instance and its idle connections.
pub(in crate::engine) struct Instance {
    pub(super) raw: ffi::Database,
    pub(super) idle: Mutex<Vec<Idle>>,
    pub(super) posted_views: PostedViews,
    pub(super) catalog: String,
    /// Whether there are any.
    pub(super) sources: bool,
    /// What no client takes away, also catalogs that are missing.
    pub(super) kept: Kept,
    /// Those of them that are lakes.
    pub(super) lakes: Vec<String>,
    /// Other processes may write to one of these.
    pub(super) has_others: bool,
    pub(super) exports: Exports,
    pub(super) queries: Queries,
}

impl Instance {
    /// Opens the file (or memory), pins what clients must not change, and runs the start-up SQL. Tells which catalogs are
    /// attached.
    pub(in crate::engine) fn open(
        options: &Options,
        scans: &Arc<ScanRegistry>,
        ledgers: &Ledgers,
        job_statuses: &JobStatuses,
        activity: &Arc<Activity>,
    ) -> Result<(Self, HashSet<String>)> {
        if let Some(path) = &options.path {
            database_file::check(path)?;
            log_head::check(path)?;
            if !options.read_only {
                torn_metadata::mend(path)?;
            }
        }
        let settings = settings::at_start(options);
        let raw = match &options.path {
            Some(path) if !options.read_only => replay::open(path, &settings),
            path => ffi::Database::open(path.as_deref(), &settings),
        };
        let raw = raw.map_err(open_error)?;
        let connection = raw.connect()?;
        // Views of the start-up SQL may list them, though the queries are checked after that.
        let checked = Arc::<OnceLock<Queries>>::default();
        register(&connection, scans, ledgers, job_statuses, Arc::clone(&checked))?;
        register_activity(&connection, activity)?;
        if !options.read_only {
            attach_views(&connection)?;
        }
        forbid_setseed(&connection)?;
        settings::pin(&connection)?;
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
        let mut queries = queries::open(&options.queries, &connection, with_names)?;
        options.lake.limit_reads(&connection)?;
        if options.lake.reads.is_some() {
            queries = queries::check_again(&options.queries, &queries, with_names)?;
        }
        let queries = Arc::clone(checked.get_or_init(|| queries));
        // The connection that pinned the settings does not join the idle ones: its own layout of Arrow data is
        // of before.
        let (idle, posted_views) = (Mutex::default(), PostedViews::default());
        let attached = &options.lake.catalogs;
        let files = attached.iter().filter_map(|it| it.file()).chain(options.path.as_deref());
        let exports = options.lake.exports.of_server(files, options.wait);
        let kept = Kept::new(&catalog, attached.iter().map(|it| it.name.as_str()));
        let lakes = attached.iter().filter(|it| it.is_shared()).map(|it| it.name.clone()).collect();
        let has_others = attached.iter().any(AttachedCatalog::is_open_to_others);
        let instance =
            Self { raw, idle, posted_views, catalog, sources, kept, lakes, has_others, exports, queries };
        Ok((instance, catalogs))
    }

    /// Whether it lives, also for those who must not keep it open.
    pub(in crate::engine) fn pulse(&self) -> &Arc<Pulse> {
        self.raw.pulse()
    }

    pub(super) fn connect(&self) -> Result<Idle> {
        let connection = self.raw.connect()?;
        if self.sources {
            connection.execute(&self.use_sql(None))?;
        }
        Ok(Idle::new(connection))
    }

    /// The statement after which unqualified names mean `names`; `None` is the default.
    pub(super) fn use_sql(&self, names: Option<&Names>) -> String {
        match names {
            Some(names) => use_sql(names, self.sources),
            None => use_sql(&Names::default_of(&self.catalog), self.sources),
        }
    }
}

/// Registers the server's own functions: by which rows come in, and those that list what it knows.
fn register(
    connection: &Connection,
    scans: &Arc<ScanRegistry>,
    ledgers: &Ledgers,
    job_statuses: &JobStatuses,
    checked: Arc<OnceLock<Queries>>,
) -> Result<()> {
    register_scan(connection, scans)?;
    register_recast(connection)?;
    register_read_arrow(connection)?;
    let listed = Arc::clone(ledgers);
    let rows = Arc::new(move || ledger::report(&listed.lock()));
    register_listing(connection, INGEST_LISTING, ledger::report_schema(), rows)?;
    let listed = Arc::clone(job_statuses);
    let rows = Arc::new(move || jobs::listing(&listed.lock()));
    register_listing(connection, JOBS_LISTING, jobs::listing_schema(), rows)?;
    let rows = Arc::new(move || queries::listing(checked.get().map_or(&[], |queries| queries)));
    register_listing(connection, QUERIES_LISTING, queries::listing_schema(), rows)?;
    Ok(())
}

/// Registers the functions that list what goes on.
fn register_activity(connection: &Connection, activity: &Arc<Activity>) -> Result<()> {
    let listed = Arc::clone(activity);
    let rows = Arc::new(move || activity::statements(&listed));
    register_listing(connection, STATEMENTS_LISTING, activity::statements_schema(), rows)?;
    let listed = Arc::clone(activity);
    let rows = Arc::new(move || activity::sessions(&listed));
    register_listing(connection, SESSIONS_LISTING, activity::sessions_schema(), rows)?;
    Ok(())
}

/// A log that cannot be replayed is for its operator to decide on; nothing else about opening is.
fn open_error(error: DuckError) -> Error {
    if error.message.contains("replaying WAL") {
        return Error::WalUnreadable(error.message);
    }
    error.into()
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
