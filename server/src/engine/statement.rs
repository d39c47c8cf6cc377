//! What is asked of the engine, and what comes back.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use tokio::sync::Semaphore;

use super::{
    BatchStream, Engine, Error, Exports, Names, Place, Result,
    batch_stream::{Cancel, CancelOnDrop},
    clock::CommitClock,
    database::Pooled,
    export::Cleared,
    ffi::{Connection, Prepared, StatementKind, Statements},
    plans::Plan,
    reader::is_reusable,
    types,
};
use crate::sql;

/// SQL and the rows bound to its parameters. Each row runs the statement once.
#[derive(Debug, Clone, Default)]
pub struct Statement {
    /// The text.
    pub sql: String,
    /// One column a parameter, by position, or by name where the statement's parameters have names.
    pub parameters: Option<RecordBatch>,
    /// The parameters' names are meant: one that the statement has not is an error, not a position.
    pub by_name: bool,
    /// What its unqualified names mean, where that was settled before; else what they mean in its session.
    pub names: Option<Names>,
}

impl Statement {
    /// A statement without parameters.
    pub fn new(sql: impl Into<String>) -> Self {
        Self { sql: sql.into(), ..Self::default() }
    }
}

/// What can be known of a statement without running it.
#[derive(Debug, Clone)]
pub struct Description {
    /// What the parser says it is.
    pub kind: StatementKind,
    /// The columns of its result; none for a statement that is run for its effect.
    pub schema: SchemaRef,
    /// Its parameters, in order.
    pub parameters: SchemaRef,
    /// Every column and parameter has a type before values are bound.
    pub typed: bool,
}

impl Description {
    /// DuckDB does not know the statement; it counts the rows that it copied or moved.
    fn of_own() -> Self {
        Self::of_effect(StatementKind::Copy)
    }

    /// The statement has no parameters, and is run for its effect.
    fn of_effect(kind: StatementKind) -> Self {
        let nothing = || Arc::new(Schema::empty());
        Self { kind, schema: nothing(), parameters: nothing(), typed: true }
    }
}

/// What a statement gave.
pub enum Outcome {
    /// Rows, as they are computed.
    Rows(BatchStream),
    /// The number of rows a write changed.
    Changed(u64),
}

impl StatementKind {
    /// True where the statement may be tried inside a READ ONLY transaction, which has the last word.
    pub(crate) fn may_read(self) -> bool {
        matches!(self, Self::Select | Self::Explain | Self::Call)
    }

    /// True where a client that asks for a FlightInfo expects the statement to have run afterwards.
    pub fn runs_at_once(self) -> bool {
        !self.may_read()
    }

    /// True where the number of changed rows means something.
    pub fn counts_rows(self) -> bool {
        self.keeps_schemas() || self == Self::Copy
    }

    /// True where no table's columns change.
    pub(crate) fn keeps_schemas(self) -> bool {
        matches!(self, Self::Insert | Self::Update | Self::Delete | Self::Merge)
    }

    /// Refuses what must not run on a connection that others use next. The session's own connection takes
    /// all of it but the PRAGMAs that change settings: those that ask for something became a SELECT while
    /// they were parsed.
    pub(crate) fn check_stateless(self) -> Result<()> {
        match self {
            Self::Set | Self::Transaction | Self::Prepare | Self::Execute => Err(Error::Refused(
                "this statement cannot be combined with others here; send it by itself".into(),
            )),
            other => other.check_pragma(),
        }
    }

    /// Refuses a PRAGMA that changes settings.
    pub(crate) fn check_pragma(self) -> Result<()> {
        match self {
            Self::Pragma => Err(Error::Refused(
                "a PRAGMA does not change settings here; use SET for those of your session".into(),
            )),
            _ => Ok(()),
        }
    }
}

/// Parses, after the text has passed the gate.
///
/// # Errors
/// Syntax errors, what the gate refuses, [`Error::ExportRefused`].
pub(crate) fn extract(connection: &Connection, exports: &Exports, text: &str) -> Result<Cleared> {
    sql::gate(text)?;
    let statements = Cleared::extract(connection, exports, text)?;
    if statements.len() == 0 {
        return Err(Error::Empty);
    }
    Ok(statements)
}

/// The same for SQL of the server's own, in which names of a client may stand; none of it writes files.
pub(crate) fn extract_own(connection: &Connection, text: &str) -> Result<Statements> {
    sql::gate(text)?;
    Ok(connection.extract(text)?)
}

/// Plans the only statement of a text. A query with `PIVOT` extracts as several, of which the leading ones create
/// the types that the last one needs; they run on this connection alone, in the transaction that is open on it.
///
/// # Errors
/// [`Error::SeveralSteps`] for a write of which DuckDB makes several; those of [`extract`].
pub(crate) fn prepare_one(connection: &Connection, exports: &Exports, text: &str) -> Result<Prepared> {
    let statements = extract(connection, exports, text)?;
    let last = statements.len() - 1;
    if last > 0 && sql::statement_count(text) != 1 {
        return Err(Error::MultiStatement(statements.len()));
    }
    for index in 0..last {
        let prepared = statements.prepare(index)?;
        if prepared.kind() != StatementKind::Create || !sql::pivots(text) {
            return Err(Error::SeveralSteps);
        }
        prepared.execute()?;
    }
    let prepared = statements.prepare(last)?;
    prepared.kind().check_pragma()?;
    Ok(prepared)
}

impl Engine {
    /// Plans a statement and tells its kind, columns and parameters, without running it.
    ///
    /// # Errors
    /// Syntax and binder errors; [`Error::MultiStatement`]; [`Error::Empty`].
    pub async fn describe(&self, place: &Place, sql: &str) -> Result<Description> {
        self.named(self.describe_unnamed(place, sql).await).await
    }

    /// The same, where an error may not name the catalog that is out of reach.
    async fn describe_unnamed(&self, place: &Place, sql: &str) -> Result<Description> {
        if let Some(file) = sql::backup(sql) {
            return file.map(|_| Description::of_own()).map_err(Error::from);
        }
        if let Some(job) = sql::job(sql) {
            return job.map(|_| Description::of_own()).map_err(Error::from);
        }
        if let Some(ending) = sql::ending(sql) {
            return ending.map(|_| Description::of_own()).map_err(Error::from);
        }
        let names = match place {
            Place::Shared(names) => names.clone(),
            Place::Own(workspace, open) => return self.describe_in(workspace, *open, sql).await,
        };
        let (database, clock) = (Arc::clone(&self.shared.database), Arc::clone(&self.shared.clock));
        let sql = sql.to_owned();
        let places = self.planning_places(&sql);
        self.planning(&places, move |cancel| {
            let connection = database.connection_with(names.as_ref())?;
            database.quarantine.guard(&sql, || describe_pooled(connection, &clock, &sql, cancel))
        })
        .await
    }

    /// Runs what plans a statement on a thread, in a place of its own and for as long as a read may: planning runs
    /// functions whose arguments are constants, however long they take. The places for reads are not for it, so that a
    /// client learns what it would get also where it has to wait for that.
    pub(super) async fn planning<T: Send + 'static>(
        &self,
        places: &Arc<Semaphore>,
        work: impl FnOnce(&Cancel) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let permit = self.place_of(places).await?;
        let cancel = CancelOnDrop::default();
        self.limit_plan(&cancel.0);
        let stop = cancel.0.clone();
        let planned = self.blocking(move || {
            let _permit = permit;
            work(&stop)
        });
        cancel.0.unless_overdue(planned).await.map_err(|error| cancel.0.explain(error))
    }

    /// Parses a script and tells whether it may be run as one.
    ///
    /// # Errors
    /// Syntax errors, what the gate refuses, [`Error::ExportRefused`].
    pub async fn check_script(&self, sql: &str) -> Result<()> {
        let database = Arc::clone(&self.shared.database);
        let sql = sql.to_owned();
        self.blocking(move || {
            let connection = database.connection()?;
            extract(&connection, connection.exports(), &sql).map(|_| ())
        })
        .await
    }

    /// Runs `work` on a thread that may block; a panic there is our bug and becomes an error.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let span = tracing::Span::current();
        tokio::task::spawn_blocking(move || span.in_scope(work))
            .await
            .unwrap_or_else(|panic| Err(Error::Internal(panic.to_string())))
    }
}

/// Describes by the plan that the connection keeps, or keeps the one that it makes for it.
fn describe_pooled(
    mut connection: Pooled,
    clock: &CommitClock,
    sql: &str,
    cancel: &Cancel,
) -> Result<Description> {
    let now = clock.stamp();
    if let Some(plan) = now.and_then(|now| connection.plans().take(sql, now)) {
        let description = description(plan.prepared(), sql);
        connection.plans().keep(plan);
        return description;
    }
    // Planning runs nothing, except for the types that a PIVOT makes: those are to be undone.
    let undone = sql::pivots(sql);
    if undone {
        connection.execute("BEGIN TRANSACTION READ ONLY")?;
    }
    let planned = plan_unless_stopped(&connection, sql, cancel)
        .and_then(|prepared| Ok((description(&prepared, sql)?, prepared)));
    if undone && connection.execute("ROLLBACK").is_err() {
        connection.discard();
        return planned.map(|(description, _)| description).or_else(of_several_steps);
    }
    let (description, prepared) = match planned {
        Ok(planned) => planned,
        Err(error) => return of_several_steps(error),
    };
    // The statement is fetched next, most likely on this connection.
    if let Some(now) = now.filter(|_| is_reusable(&prepared, sql)) {
        connection.plans().keep(Plan::new(sql, now, prepared));
    }
    Ok(description)
}

/// Plans the only statement of a text, which `cancel` may stop. It stops nothing else: a ROLLBACK that was interrupted
/// would leave the connection in a transaction.
pub(super) fn plan_unless_stopped(connection: &Pooled, sql: &str, cancel: &Cancel) -> Result<Prepared> {
    cancel.while_running(connection.interrupt(), || prepare_one(connection, connection.exports(), sql))
}

/// What is known of a write of which DuckDB makes several statements.
pub(super) fn of_several_steps(error: Error) -> Result<Description> {
    match error {
        Error::SeveralSteps => Ok(Description::of_effect(StatementKind::Other)),
        error => Err(error),
    }
}

pub(super) fn description(prepared: &Prepared, sql: &str) -> Result<Description> {
    let kind = prepared.kind();
    let returns_rows = kind.may_read() || sql::has_returning(sql);
    let schema =
        if returns_rows { types::wire_schema(&prepared.schema()?) } else { Arc::new(Schema::empty()) };
    let parameters = types::wire_schema(&prepared.parameter_schema()?);
    Ok(Description { kind, schema, parameters, typed: prepared.is_typed() })
}
