//! What is asked of the engine, and what comes back.

use std::{collections::HashSet, sync::Arc};

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{Field, Schema, SchemaRef};
use tokio::sync::Semaphore;

use super::{
    BatchStream, Class, Engine, Error, Exports, Names, Place, Result,
    batch_stream::{Cancel, CancelOnDrop},
    clock::CommitClock,
    database::Pooled,
    export::Cleared,
    ffi::{Connection, Prepared, StatementKind, Statements, bytes_for_bits},
    import::{import, imported},
    plans::Plan,
    reader::is_reusable,
    types,
};
use crate::{counted::counted, sql};

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

/// Binds row `row` of the parameters, and nothing else: by name where the statement's parameters have names that the
/// columns have too, else by position.
pub(crate) fn bind(prepared: &Prepared, statement: &Statement, row: usize) -> Result<()> {
    prepared.clear_bindings();
    let parameters = statement.parameters.as_ref();
    let names = prepared.parameter_names();
    let columns = parameters.map_or(0, RecordBatch::num_columns);
    if names.len() != columns {
        return Err(Error::SchemaMismatch(format!(
            "the statement has {}, and {} came with it; send one for each",
            counted(names.len(), "parameter"),
            counted(columns, "value")
        )));
    }
    let Some(batch) = parameters else { return Ok(()) };
    let schema = batch.schema();
    let has_bytes = schema.fields().iter().any(|field| field.data_type().is_binary());
    let bits = if has_bytes { sql::cast_to_bits(&statement.sql) } else { HashSet::new() };
    for (index, position) in order(&names, statement, &schema)?.into_iter().enumerate() {
        if bits.contains(&names[index].to_lowercase()) && schema.field(position).data_type().is_binary() {
            return Err(bytes_for_bits().into());
        }
        bind_one(prepared, index + 1, schema.field(position), &batch.column(position).slice(row, 1))?;
    }
    Ok(())
}

/// For each parameter the column that it is bound to.
fn order(names: &[String], statement: &Statement, schema: &Schema) -> Result<Vec<usize>> {
    // The numbers of `?` and `$1` are no names, whatever columns are called.
    let have_names = names.iter().any(|name| name.parse::<u64>().is_err());
    if !have_names && !statement.by_name {
        return Ok((0..names.len()).collect());
    }
    let column = |name: &String| {
        let mut columns =
            schema.fields().iter().enumerate().filter(|(_, field)| same_name(field.name(), name));
        match (columns.next(), columns.next()) {
            (Some((position, _)), None) => Some(position),
            _ => None,
        }
    };
    if let Some(columns) = names.iter().map(column).collect() {
        return Ok(columns);
    }
    let is_parameter = |field: &&Arc<Field>| names.iter().any(|name| same_name(field.name(), name));
    match schema.fields().iter().find(|field| !is_parameter(field)) {
        Some(unknown) if statement.by_name => Err(Error::SchemaMismatch(format!(
            "the statement has no parameter ${}; it has {}",
            unknown.name(),
            listed(names)
        ))),
        Some(_) => Ok((0..names.len()).collect()),
        None => Err(Error::SchemaMismatch(format!(
            "a parameter was sent twice; the statement has {}, each of which is sent once",
            listed(names)
        ))),
    }
}

/// DuckDB's names of parameters have no case.
fn same_name(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

fn listed(names: &[String]) -> String {
    names.iter().map(|name| format!("${name}")).collect::<Vec<_>>().join(", ")
}

/// Binds the only value of an array, in a type that DuckDB takes without loss.
fn bind_one(prepared: &Prepared, index: usize, field: &Field, value: &ArrayRef) -> Result<()> {
    let what = format!("parameter {index}");
    let to = imported(field);
    let value = import(&what, value, &to)?;
    prepared.bind(index, &to, value.as_ref(), 0).map_err(|error| match error.class {
        Class::Unsupported => Error::UnsupportedType { what, data_type: field.data_type().to_string() },
        _ => error.into(),
    })
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

#[cfg(test)]
mod tests {
    use arrow_array::StringArray;

    use super::*;
    use crate::engine::ffi;

    fn row(columns: &[(&str, &str)]) -> RecordBatch {
        let fields = columns.iter().map(|(name, _)| Field::new(*name, arrow_schema::DataType::Utf8, true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let value = |(_, value): &(&str, &str)| Arc::new(StringArray::from(vec![*value])) as ArrayRef;
        RecordBatch::try_new(schema, columns.iter().map(value).collect()).unwrap()
    }

    fn answer(prepared: &Prepared, columns: &[(&str, &str)], by_name: bool) -> Result<String> {
        let statement = Statement { parameters: Some(row(columns)), by_name, ..Statement::default() };
        bind(prepared, &statement, 0)?;
        let batch = prepared.execute()?.next()?.unwrap();
        Ok(arrow_array::cast::AsArray::as_string::<i32>(batch.column(0)).value(0).to_owned())
    }

    #[test]
    fn nothing_is_left_of_values_that_were_bound_before() {
        let database = ffi::Database::open(None, &[]).unwrap();
        let connection = database.connect().unwrap();
        let plan = |sql| connection.extract(sql).unwrap().prepare(0).unwrap();
        let numbered = plan("SELECT concat_ws(' ', ?::VARCHAR, ?::VARCHAR)");
        assert_eq!(answer(&numbered, &[("1", "a"), ("2", "b")], false).unwrap(), "a b");
        // Numbers are no names: whatever columns are called, they stand in their order.
        assert_eq!(answer(&numbered, &[("1", "c"), ("1", "d")], false).unwrap(), "c d");
        assert_eq!(answer(&numbered, &[("2", "e"), ("1", "f")], false).unwrap(), "e f");
        assert_eq!(answer(&numbered, &[("2", "e"), ("1", "f")], true).unwrap(), "f e");
        let error = answer(&numbered, &[("1", "g")], false).unwrap_err().to_string();
        assert!(error.contains("2 parameters, and 1 value came"), "{error}");
        let error = numbered.execute().err().unwrap();
        assert!(error.message.contains("Values were not provided"), "{}", error.message);

        let named = plan("SELECT concat_ws(' ', $low::VARCHAR, $high::VARCHAR)");
        let [low, high] = [("low", "l"), ("HIGH", "h")];
        assert_eq!(answer(&named, &[high, low], false).unwrap(), "l h");
        assert_eq!(answer(&named, &[("x", "l"), ("y", "h")], false).unwrap(), "l h");
        for twice in [[low, low], [high, high]] {
            let error = answer(&named, &twice, false).unwrap_err();
            assert!(matches!(&error, Error::SchemaMismatch(text) if text.contains("twice")), "{error}");
        }
        assert!(answer(&named, &[low, ("y", "h")], true).is_err());
    }
}
