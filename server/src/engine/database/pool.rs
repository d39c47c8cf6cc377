//! The pool of connections.

use std::{
    ops::Deref,
    path::Path,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

use super::{Database, Instance};
use crate::{
    engine::{
        Error, Exports, Result,
        answers::first_text,
        ffi::{Connection, DuckError, Pulse},
        lake::PinnedSchemas,
        log_head::is_log,
        names::Names,
        plans::Plans,
        transaction_statements::TransactionStatements,
    },
    sql::{Existing, literal, mentions},
};

/// Connections kept open for the next statement. Connecting costs about 0.1 ms.
const IDLE_CONNECTIONS: usize = 64;

/// A connection and what it has planned.
pub(super) struct Idle {
    plans: Plans,
    reading: TransactionStatements,
    /// What USE has set; plans are of statements with these names.
    names: Option<Names>,
    connection: Connection,
}

impl Idle {
    /// A connection on which names have their default meaning.
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, plans: Plans::default(), reading: TransactionStatements::of_read(), names: None }
    }
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

impl Database {
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
        instance.kept.check(sql, |existing, name| exists(self, existing, name))
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

    /// Whether a catalog is a lake that others write to.
    pub(crate) fn shares_a_lake(&self) -> bool {
        self.instance.upgrade().is_some_and(|instance| instance.has_others)
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

fn set_names(connection: &Connection, instance: &Weak<Instance>, names: Option<&Names>) -> Result<()> {
    let instance = instance.upgrade().ok_or(Error::EngineDown)?;
    connection.execute(&instance.use_sql(names))?;
    Ok(())
}

/// Whether there is something of this name already, or DuckDB or an extension that is loaded has it. It is asked beside the
/// connection, whatever state its transaction is in.
fn exists(connection: &Connection, existing: Existing, name: &str) -> Result<bool> {
    let list = match existing {
        Existing::Function => "functions() WHERE internal AND lower(function_name)",
        Existing::Type => "types() WHERE internal AND lower(type_name)",
        Existing::Schema => "schemas() WHERE lower(schema_name)",
        Existing::Catalog => "databases() WHERE lower(database_name)",
        Existing::Log => return Ok(is_log(Path::new(name))),
    };
    let sql = format!("SELECT count(*)::VARCHAR FROM system.main.duckdb_{list} = {}", literal(name));
    Ok(first_text(&connection.beside()?, &sql)? != "0")
}
