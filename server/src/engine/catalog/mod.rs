//! Tables: their names, what an append must know of them, and what the catalog says of them: [`listing`],
//! [`keys`] and the [`dialect`].

mod column_types;
mod dialect;
mod keys;
mod known;
mod listing;
mod out_of_reach;
mod reachable;
mod table_keys;

use std::{collections::HashMap, sync::Arc, time::Duration};

use arrow_array::{RecordBatch, cast::AsArray};
use arrow_schema::DataType;
use parking_lot::Mutex;

use known::Known;
use reachable::Reachable;

use super::{
    Engine, Error, Names, Place, Result,
    clock::CommitClock,
    database::{Database, Pooled},
    error::Class,
    ffi::Connection,
    statement::extract_own,
};
use crate::sql::{INTERNAL_PREFIX, quote};

pub use dialect::{Dialect, NullOrder};
pub use keys::{ForeignKeyFilter, ForeignKeyOrder, TableFilter};
pub use listing::{ColumnDetail, Relation, RelationFilter};
pub(crate) use table_keys::{TableKeys, is_of_table};

/// A longer name is refused: it would be carried in every message about the table.
pub(crate) const MAX_NAME_BYTES: usize = 255;

/// A table's name as a client gives it; what is missing is the default.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TableRef {
    /// The catalog; by default the database file.
    pub catalog: Option<String>,
    /// The schema; by default `main`.
    pub schema: Option<String>,
    /// The table.
    pub table: String,
}

impl TableRef {
    /// A name from the parts of a path: `[table]`, `[schema, table]` or `[catalog, schema, table]`.
    ///
    /// # Errors
    /// [`Error::BadName`]: no parts or more than three; an empty, overlong or NUL-carrying part.
    pub fn from_path(path: &[String]) -> Result<Self> {
        let (catalog, schema, table) = match path {
            [table] => (None, None, table),
            [schema, table] => (None, Some(schema), table),
            [catalog, schema, table] => (Some(catalog), Some(schema), table),
            _ => {
                return Err(Error::BadName(format!(
                    "a table path has one to three parts ([table], [schema, table] or [catalog, schema, table]), not {}",
                    path.len()
                )));
            }
        };
        for part in path {
            check_name(part)?;
        }
        Ok(Self { catalog: catalog.cloned(), schema: schema.cloned(), table: table.clone() })
    }

    /// With what is missing filled in: a name of two parts means a schema of the current catalog.
    pub(crate) fn resolve(&self, names: &Names) -> FullName {
        FullName {
            catalog: self.catalog.clone().unwrap_or_else(|| names.catalog.clone()),
            schema: self.schema.clone().unwrap_or_else(|| names.schema.clone()),
            table: self.table.clone(),
        }
    }
}

fn check_name(part: &str) -> Result<()> {
    if part.is_empty() {
        return Err(Error::BadName("a part of the table's name is empty".into()));
    }
    if part.len() > MAX_NAME_BYTES {
        return Err(Error::BadName(format!(
            "a name of {} bytes is too long; at most {MAX_NAME_BYTES}",
            part.len()
        )));
    }
    if part.contains('\0') {
        return Err(Error::BadName("a name contains the character NUL".into()));
    }
    if part.to_lowercase().starts_with(INTERNAL_PREFIX) {
        return Err(Error::BadName(format!("names that begin with {INTERNAL_PREFIX} are the server's own")));
    }
    Ok(())
}

/// The catalog of temporary tables.
pub(crate) const TEMPORARY: &str = "temp";

/// A table's whole name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct FullName {
    pub(crate) catalog: String,
    pub(crate) schema: String,
    pub(crate) table: String,
}

impl FullName {
    /// A temporary table, which has one place only.
    pub(crate) fn temporary(table: &str) -> Self {
        Self { catalog: TEMPORARY.into(), schema: "main".into(), table: table.into() }
    }

    /// As SQL.
    pub(crate) fn sql(&self) -> String {
        format!("{}.{}.{}", quote(&self.catalog), quote(&self.schema), quote(&self.table))
    }
}

impl std::fmt::Display for FullName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.sql())
    }
}

/// A column as an append sees it.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) data_type: DataType,
    /// DuckDB's own type.
    pub(crate) sql_type: String,
    /// A row without a value for it is refused.
    pub(crate) required: bool,
    /// A row with a value for it is refused: the table computes it.
    pub(crate) generated: bool,
}

/// What an append must know of a table.
#[derive(Debug)]
pub(crate) struct TableInfo {
    pub(crate) columns: Vec<Column>,
    pub(crate) keys: TableKeys,
}

/// Others may change the tables of an attached catalog; what is known of them may be this old and no older.
const MAX_AGE: Duration = Duration::from_secs(1);

/// Descriptions of tables, kept until a schema changes.
pub(crate) struct Catalog {
    database: Arc<Database>,
    clock: Arc<CommitClock>,
    known: Mutex<Known>,
}

impl Catalog {
    pub(crate) fn new(database: Arc<Database>, clock: Arc<CommitClock>) -> Self {
        Self { database, clock, known: Mutex::default() }
    }

    /// The description of a table if it is known without asking DuckDB.
    pub(crate) fn known(&self, name: &FullName) -> Option<Arc<TableInfo>> {
        let (age, info) = self.known.lock().get(name, self.clock.schemas())?;
        let is_own = name.catalog == self.database.catalog;
        (is_own || age < MAX_AGE).then_some(info)
    }

    /// The description of a table; `None` when it does not exist. Asks DuckDB: call it where blocking is allowed.
    pub(crate) fn look_up(&self, name: &FullName) -> Result<Option<Arc<TableInfo>>> {
        let at = self.clock.schemas();
        let described = match self.describe_on(self.database.connection()?, name) {
            // A pipeline has the tables of PostgreSQL listed anew, and between two questions they are not there for a moment.
            Err(error) if error.class() == Some(Class::NotFound) => {
                self.describe_on(self.database.connection()?, name)?
            }
            described => described?,
        };
        let Some(info) = described else { return Ok(None) };
        let info = Arc::new(info);
        self.known.lock().keep(at, name.clone(), Arc::clone(&info));
        Ok(Some(info))
    }

    /// Asks in one transaction: what a catalog of another kind knows of its tables may belong to that.
    fn describe_on(&self, connection: Pooled, name: &FullName) -> Result<Option<TableInfo>> {
        connection.execute("BEGIN TRANSACTION")?;
        let described = describe(&connection, name);
        if connection.execute("ROLLBACK").is_err() {
            connection.discard();
        }
        described
    }
}

pub(super) fn describe(connection: &Connection, name: &FullName) -> Result<Option<TableInfo>> {
    let sql = format!("SELECT * FROM {} LIMIT 0", name.sql());
    let schema = match extract_own(connection, &sql)?.prepare(0) {
        Ok(prepared) => prepared.schema()?,
        Err(error) if matches!(error.class, Class::NotFound | Class::Binder) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let listed = listed_columns(connection, name)?;
    let computed = listed.iter().filter(|(_, listed)| listed.has_expression).map(|(name, _)| name.as_str());
    let generated = table_keys::generated(connection, name, computed)?;
    let columns = schema
        .fields()
        .iter()
        .map(|field| {
            let Listed { sql_type, required, .. } = listed.get(field.name()).cloned().unwrap_or_default();
            Column {
                name: field.name().clone(),
                data_type: field.data_type().clone(),
                sql_type,
                required,
                generated: generated.contains(field.name()),
            }
        })
        .collect();
    Ok(Some(TableInfo { columns, keys: table_keys::table_keys(connection, name)? }))
}

/// A column as DuckDB lists it.
#[derive(Clone, Default)]
struct Listed {
    sql_type: String,
    /// Whether a row needs a value.
    required: bool,
    /// Whether there may be a default, or what a generated column is computed from.
    has_expression: bool,
}

/// The columns by name. DuckDB's own list of columns would ask every attached catalog, and fail where one is out of
/// reach.
fn listed_columns(connection: &Connection, name: &FullName) -> Result<HashMap<String, Listed>> {
    let sql = format!("SELECT name, type, required, has_expression FROM ({})", table_keys::columns_sql(name));
    let mut columns = HashMap::new();
    for batch in ask(connection, &sql)? {
        let (required, has_expression) = (batch.column(2).as_boolean(), batch.column(3).as_boolean());
        columns.extend((0..batch.num_rows()).map(|row| {
            let listed = Listed {
                sql_type: text(&batch, 1, row),
                required: required.value(row),
                has_expression: has_expression.value(row),
            };
            (text(&batch, 0, row), listed)
        }));
    }
    Ok(columns)
}

/// The catalog as one client sees it: with its temporary tables, and with what its open transaction has
/// changed.
pub struct CatalogView {
    engine: Engine,
    place: Place,
}

impl Engine {
    /// The catalog as it is seen from a place.
    pub fn catalog_at(&self, place: Place) -> CatalogView {
        CatalogView { engine: self.clone(), place }
    }
}

impl CatalogView {
    /// The engine under it.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// All rows of a question to the catalog.
    async fn ask(&self, sql: String) -> Result<Vec<RecordBatch>> {
        self.look(move |connection| ask(connection, &sql)).await
    }

    /// All rows of a question to DuckDB's lists of one catalog or of all; see [`CatalogView::look_at_lists`].
    async fn ask_lists(&self, catalog: Option<&str>, sql: String) -> Result<Vec<RecordBatch>> {
        self.look_at_lists(catalog, move |connection| ask(connection, &sql)).await
    }

    /// Looks at DuckDB's lists, which ask every catalog that is attached. Where one of them is out of reach, those that
    /// answer are listed without it, as everybody sees them; one that is asked for by its name must answer.
    async fn look_at_lists<T: Send + 'static>(
        &self,
        catalog: Option<&str>,
        look: impl Fn(&Connection) -> Result<T> + Send + Sync + 'static,
    ) -> Result<T> {
        let look = Arc::new(look);
        // A list that fails would take an open transaction with it.
        let down = if self.in_transaction() { self.engine.out_of_reach().await } else { Vec::new() };
        let looked = if down.is_empty() {
            let look = Arc::clone(&look);
            self.engine.named(self.look(move |connection| look(connection)).await).await
        } else {
            Err(Error::CatalogDown(down.join(", ")))
        };
        match looked {
            // A temporary table is seen from its place alone.
            Err(error) if tells_of_no_answer(&error) && catalog != Some(TEMPORARY) => {
                let database = Arc::clone(&self.engine.shared.database);
                let catalog = catalog.map(str::to_owned);
                let listing = move || match Reachable::copy(&database, catalog.as_deref()) {
                    Ok(reachable) => look(reachable.connection()),
                    Err(reason) => {
                        tracing::warn!(%reason, "catalogs cannot be listed");
                        Err(error)
                    }
                };
                self.engine.blocking(listing).await
            }
            looked => looked,
        }
    }

    fn in_transaction(&self) -> bool {
        matches!(&self.place, Place::Own(workspace, _) if workspace.in_transaction())
    }

    /// Looks from a connection of the place.
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        match &self.place {
            Place::Shared(_) => {
                let database = Arc::clone(&self.engine.shared.database);
                self.engine.blocking(move || look(&*database.connection()?)).await
            }
            Place::Own(workspace, _) => {
                let mut guard = workspace.take(self.engine.pinned_wait()).await?;
                self.engine
                    .blocking(move || {
                        let pinned = guard.pinned();
                        pinned.check_usable()?;
                        look(&pinned.connection)
                    })
                    .await
            }
        }
    }
}

/// Whether a catalog does not answer.
fn tells_of_no_answer(error: &Error) -> bool {
    matches!(error, Error::CatalogDown(_)) || error.class() == Some(Class::Unreachable)
}

/// All rows of a question to the catalog, on a connection.
fn ask(connection: &Connection, sql: &str) -> Result<Vec<RecordBatch>> {
    let mut rows = extract_own(connection, sql)?.prepare(0)?.execute()?;
    let mut batches = Vec::new();
    while let Some(batch) = rows.next()? {
        batches.push(batch);
    }
    Ok(batches)
}

fn text(batch: &RecordBatch, column: usize, row: usize) -> String {
    batch.column(column).as_string::<i32>().value(row).to_owned()
}
