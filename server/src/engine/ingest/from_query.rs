//! Rows of a query that enter a table as an upload's would: checked against it, matched by key, widened.

use arrow_schema::SchemaRef;

use super::{Admission, Entry, IngestRequest, bulk::Uploaded, merge_stage::MergeStage};
use crate::{
    engine::{
        CatalogKind, Engine, Result,
        answers::{text_or_null, texts},
        attached::Site,
        catalog::{FullName, TableInfo},
        database::Pooled,
        ffi::Connection,
        open_writes::Kind,
        types::wire_schema,
        writer::{Enter, Held},
    },
    sql::quote,
};

/// Types of DuckDB that leave it as text, and that a lake keeps. It takes others of this kind, and changes their values: HUGEINT
/// becomes DOUBLE in its files, and TIME WITH TIME ZONE loses the zone.
const KEPT_TYPES: [&str; 2] = ["UUID", "JSON"];

/// The rows in a temporary table of a connection.
pub(in crate::engine) struct StagedQuery {
    stage: MergeStage,
    schema: SchemaRef,
    /// The statements that make or widen the table.
    create: Option<String>,
}

/// How the rows enter their table.
pub(in crate::engine) enum Way {
    /// By what the table is now. What others must wait for is held until it is dropped.
    Admitted(Box<Admission>),
    /// By the writer of an attached catalog, as they are staged.
    AsStaged,
    /// The same in one statement, which files are the better for.
    AtOnce,
}

impl Engine {
    /// Waits until the rows of a query may enter a table that no writer of an attached catalog has, such as one of the
    /// server's own database. Nothing of this is held while the query runs, which may take long.
    ///
    /// # Errors
    /// [`Error::WriteBusy`](crate::engine::Error::WriteBusy) and the others of an upload that waits for its place;
    /// [`Error::EngineDown`](crate::engine::Error::EngineDown) when the instance fails meanwhile, of which what is
    /// staged is a part.
    pub(in crate::engine) async fn admit_query(
        &self,
        request: &IngestRequest,
        staged: &StagedQuery,
    ) -> Result<Way> {
        let database = &self.shared.database;
        let admitted = async {
            self.check_disk("MERGE")?;
            database.writes.admitted().await?;
            let mut admission = self.admit_staged(request, &staged.schema, self.shared.options.wait).await?;
            admission.held.open = Some(database.writes.open(Kind::Statement));
            Ok(Way::Admitted(Box::new(admission)))
        };
        database.while_open(admitted).await
    }

    /// Has the catalog's writer bring rows of a query into their table, with all that keeps others of its kind apart: an
    /// upload that is matched by key may have the same keys, here and at another server. `enter` is all that happens in
    /// their transaction, again after that was rolled back.
    ///
    /// # Errors
    /// Those of an upload; where the instance fails meanwhile, of which what is staged is a part,
    /// [`Error::EngineDown`](crate::engine::Error::EngineDown).
    pub(in crate::engine) async fn commit_query(
        &self,
        site: &Site,
        connection: Pooled,
        shape: Shape,
        name: &FullName,
        enter: impl Fn(&Connection) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let Shape { rows, merges, creates } = shape;
        let enter = Some(Enter { merges, run: Box::new(enter) });
        let committed = async {
            let appending = self.shared.turn.appending_within(name, self.shared.options.wait).await?;
            let held = Held { appending: Some(appending), ..Held::nothing() };
            let uploaded = Uploaded { connection, enter, rows, bytes: 0, creates, held };
            let pending = self.commit_upload(&site.writer, uploaded, name, None, None).await?;
            pending.committed().await.map(|_| ())
        };
        self.shared.database.while_open(committed).await
    }
}

/// What the writer of a catalog is to know of the rows of a query.
pub(in crate::engine) struct Shape {
    rows: usize,
    /// They are matched by key.
    merges: bool,
    /// The table is made or widened.
    creates: bool,
}

impl Way {
    /// How rows enter an attached catalog.
    pub(in crate::engine) fn into(site: &Site) -> Self {
        match site.catalog.kind {
            CatalogKind::DuckLake { .. } => Self::AtOnce,
            CatalogKind::DuckDb | CatalogKind::Postgres | CatalogKind::Sqlite => Self::AsStaged,
        }
    }

    /// Whether the table is made or widened.
    pub(in crate::engine) fn changes_schema(&self, staged: &StagedQuery) -> bool {
        match self {
            Self::Admitted(admission) => admission.create.is_some(),
            Self::AsStaged | Self::AtOnce => staged.create.is_some(),
        }
    }
}

impl StagedQuery {
    /// Runs the query. `table` is what its rows go to as it is now, if it is there. Where `keeps_types`, columns that are made
    /// get the [types](KEPT_TYPES) of the query instead of those of its Arrow rows.
    pub(in crate::engine) fn fill(
        connection: &Connection,
        name: &FullName,
        table: Option<&TableInfo>,
        request: &IngestRequest,
        query: &str,
        keeps_types: bool,
    ) -> Result<Self> {
        let schema = wire_schema(&connection.extract(query)?.prepare(0)?.schema()?);
        let Entry { fit, create, matching, .. } = Entry::decide(name, table, request, &schema)?;
        let stage = MergeStage::open(connection, name, fit, matching)?;
        let mut staged = Self { stage, schema, create };
        if keeps_types && staged.create.is_some() {
            staged.keep_types(connection, name, table.is_some(), query)?;
        }
        staged.stage.fill_from(connection, query)?;
        Ok(staged)
    }

    /// Gives new columns, of the stage and of the table, the types of the query.
    fn keep_types(
        &mut self,
        connection: &Connection,
        name: &FullName,
        is_there: bool,
        query: &str,
    ) -> Result<()> {
        let fit = self.stage.fit();
        let types = texts(connection, &format!("SELECT column_type FROM (DESCRIBE {query})"))?;
        let (mut made, mut added) = (Vec::new(), Vec::new());
        for (at, (column, uploaded)) in fit.columns().iter().zip(fit.sql_types()).enumerate() {
            let kept = types.get(at).filter(|kept| KEPT_TYPES.contains(&kept.as_str()));
            let is_new = fit.new_columns().get(at) == Some(&true);
            if let Some(kept) = kept.filter(|_| is_new) {
                connection.execute(&format!("ALTER TABLE {} ALTER c{at} TYPE {kept}", self.stage.sql()))?;
            }
            let defined = format!("{} {}", quote(column), kept.unwrap_or(uploaded));
            if is_new {
                added.push(format!("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {defined}", name.sql()));
            }
            made.push(defined);
        }
        self.create = Some(match is_there {
            true => added.join("; "),
            false => format!("CREATE TABLE IF NOT EXISTS {} ({})", name.sql(), made.join(", ")),
        });
        Ok(())
    }

    /// Which one of the staged columns has a name.
    fn at(&self, column: &str) -> Option<usize> {
        self.stage.fit().columns().iter().position(|one| one.eq_ignore_ascii_case(column))
    }

    /// The greatest value of a column as text; `None` where there are no rows, or none has a value.
    pub(in crate::engine) fn last(&self, connection: &Connection, column: &str) -> Result<Option<String>> {
        let Some(at) = self.at(column) else { return Ok(None) };
        text_or_null(connection, &format!("SELECT system.main.max(c{at})::VARCHAR FROM {}", self.stage.sql()))
    }

    /// Leaves one row of each key, and none that is there already with the same values; tells how many rows are
    /// left.
    pub(in crate::engine) fn settle(&self, connection: &Connection, name: &FullName) -> Result<u64> {
        self.stage.settle(connection)?;
        if self.create.is_none() {
            self.stage.drop_known(connection, name)?;
        }
        self.stage.count(connection)
    }

    /// Brings the rows into the table, in the transaction that is open.
    pub(in crate::engine) fn enter(&self, connection: &Connection, name: &FullName, way: &Way) -> Result<()> {
        let create = self.create.as_deref();
        match way {
            Way::Admitted(admission) => self.stage.enter(connection, &admission.entering()),
            Way::AsStaged => self.stage.enter_as_staged(connection, name, create, true),
            Way::AtOnce => self.stage.enter_at_once(connection, name, create),
        }
    }

    /// What the writer of a catalog is to know of so many rows that are left.
    pub(in crate::engine) fn shape(&self, rows: u64) -> Shape {
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        Shape { rows, merges: self.stage.is_matched(), creates: self.create.is_some() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;
    use tokio::time::timeout;

    use super::*;
    use crate::engine::{Error, Options, TableRef};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_query_whose_rows_wait_lets_go_of_an_instance_that_fails() {
        let long = Duration::from_secs(60);
        let folder = tempfile::tempdir().unwrap();
        let path = Some(folder.path().join("a.db"));
        let engine = Engine::open(Options { path, wait: 60 * long, ..Options::default() }).unwrap();
        let table = TableRef { catalog: None, schema: None, table: "t".into() };
        let name = table.resolve(&engine.default_names());
        let request = IngestRequest::append(table, 1);
        let connection = engine.shared.database.private_connection().unwrap();
        let query = "SELECT 1::BIGINT AS id";
        let staged = StagedQuery::fill(&connection, &name, None, &request, query, false).unwrap();
        // Whoever makes a table needs it.
        let turn = engine.shared.turn.take().await.unwrap();
        let mut waiting = Box::pin(engine.admit_query(&request, &staged));
        while !engine.shared.turn.is_wanted() {
            assert!((&mut waiting).now_or_never().is_none());
            tokio::task::yield_now().await;
        }

        engine.reopen("a test");
        let ended = timeout(long, waiting).await.expect("it waits for ever");
        assert!(matches!(ended, Err(Error::EngineDown)));
        drop((staged, connection, turn));
        engine.shutdown().await;
    }
}
