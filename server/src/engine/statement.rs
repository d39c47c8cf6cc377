//! What is asked of the engine, and what comes back.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};

use super::{
    BatchStream, Engine, Error, Result,
    ffi::{Connection, Prepared, StatementKind, Statements},
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
}

impl Statement {
    /// A statement without parameters.
    pub fn new(sql: impl Into<String>) -> Self {
        Self { sql: sql.into(), parameters: None }
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

    /// Refuses what would live on one connection: nothing outlasts a request here.
    pub(crate) fn check_stateless(self) -> Result<()> {
        let what = match self {
            Self::Set => "SET, RESET and USE",
            Self::Transaction => "BEGIN, COMMIT and ROLLBACK",
            Self::Prepare | Self::Execute => "PREPARE and EXECUTE",
            // Those that ask for something were turned into a SELECT by the parser.
            Self::Pragma => "a PRAGMA that changes settings",
            _ => return Ok(()),
        };
        Err(no_session(what))
    }
}

fn no_session(what: &str) -> Error {
    Error::NoSession(format!(
        "{what} would have no effect beyond this request: the server keeps no SQL session state; use qualified names, \
         tables, prepared statements of the driver, and one script for statements that belong together"
    ))
}

/// Parses, after the text has passed the gate.
pub(crate) fn extract(connection: &Connection, text: &str) -> Result<Statements> {
    sql::gate(text).map_err(|refusal| match refusal {
        sql::Refusal::NotAllowed(reason) => Error::Refused(reason),
        sql::Refusal::Malformed(reason) => Error::Duck { class: super::Class::Syntax, message: reason },
    })?;
    if sql::creates_temporary(text) {
        return Err(no_session("a temporary table, view or macro"));
    }
    let statements = connection.extract(text)?;
    if statements.len() == 0 {
        return Err(Error::Empty);
    }
    Ok(statements)
}

/// Plans the only statement of a text. `PIVOT` extracts as several, of which the leading ones create
/// the types that the last one needs; they run on this connection alone.
pub(crate) fn prepare_one(connection: &Connection, text: &str) -> Result<Prepared> {
    let statements = extract(connection, text)?;
    let last = statements.len() - 1;
    if last > 0 {
        if sql::statement_count(text) != 1 {
            return Err(Error::MultiStatement(statements.len()));
        }
        for index in 0..last {
            statements.prepare(index)?.execute()?;
        }
    }
    let prepared = statements.prepare(last)?;
    prepared.kind().check_stateless()?;
    Ok(prepared)
}

/// Binds row `row` of the parameters: by name where the statement has names, else by position.
pub(crate) fn bind(prepared: &Prepared, parameters: Option<&RecordBatch>, row: usize) -> Result<()> {
    let names = prepared.parameter_names();
    let columns = parameters.map_or(0, RecordBatch::num_columns);
    if names.len() != columns {
        return Err(Error::SchemaMismatch(format!(
            "the statement has {} parameters, {columns} were sent",
            names.len()
        )));
    }
    let Some(batch) = parameters else { return Ok(()) };
    let schema = batch.schema();
    let by_name = schema.fields().iter().all(|field| prepared.parameter_index(field.name()).is_some());
    for (position, column) in batch.columns().iter().enumerate() {
        let index = if by_name {
            prepared.parameter_index(schema.field(position).name()).unwrap_or(position + 1)
        } else {
            position + 1
        };
        prepared.bind(index, column.as_ref(), row)?;
    }
    Ok(())
}

impl Engine {
    /// Plans a statement and tells its kind, columns and parameters, without running it.
    ///
    /// # Errors
    /// Syntax and binder errors; [`Error::MultiStatement`]; [`Error::Empty`].
    pub async fn describe(&self, sql: &str) -> Result<Description> {
        let database = Arc::clone(&self.shared.database);
        let sql = sql.to_owned();
        self.blocking(move || {
            let connection = database.connection()?;
            connection.execute("BEGIN TRANSACTION READ ONLY")?;
            let described = describe(&connection, &sql);
            if connection.execute("ROLLBACK").is_err() {
                connection.discard();
            }
            described
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

fn describe(connection: &Connection, sql: &str) -> Result<Description> {
    let prepared = prepare_one(connection, sql)?;
    let kind = prepared.kind();
    let returns_rows = kind.may_read() || sql::has_returning(sql);
    let schema =
        if returns_rows { types::wire_schema(&prepared.schema()?) } else { Arc::new(Schema::empty()) };
    Ok(Description { kind, schema, parameters: types::wire_schema(&prepared.parameter_schema()?) })
}
