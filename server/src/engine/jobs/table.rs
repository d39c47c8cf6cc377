//! A table in which the servers that share a catalog tell each other of their jobs: a row a job.
//!
//! Whoever changes a row also counts on in the first one, so that two servers that do so at once conflict, whatever
//! the catalog: DuckLake lets inserts of the same row pass.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arrow_array::{Array, RecordBatch, cast::AsArray, types::Int64Type};
use parking_lot::Mutex;

use crate::{
    engine::{
        Error, Result,
        catalog::FullName,
        clock::micros,
        error::Class,
        ffi::{Connection, DuckError},
        lake::PinnedSchemas,
        ledger::inline_sql,
    },
    sql::{INTERNAL_PREFIX, literal, quote},
};

/// The row that everybody counts on in.
const FIRST: &str = "";
/// The name of a row's job.
const JOB: &str = "job";

/// So often a table is made at most, where others do the same.
const TRIES: u32 = 5;

/// The columns of a table with their types, the job's name and the count of changes first.
pub(super) type Columns = [(&'static str, &'static str)];

/// One such table. Times in it are microseconds since 1970.
pub(super) struct JobTable {
    name: FullName,
    columns: &'static Columns,
    /// This server's transactions that change it come one after the other, so that no two of them conflict.
    changing: Mutex<()>,
}

impl JobTable {
    pub(super) fn of(catalog: &str, table: &str, columns: &'static Columns) -> Self {
        let name = FullName { catalog: catalog.into(), schema: INTERNAL_PREFIX.into(), table: table.into() };
        Self { name, columns, changing: Mutex::default() }
    }

    /// Its name.
    pub(super) fn name(&self) -> &FullName {
        &self.name
    }

    /// Makes the table where it is not there yet, in a transaction of its own, in which the SQL of `fill` follows; adds the
    /// columns that one of the version before lacks. Another server may do the same.
    pub(super) fn ensure(&self, connection: &Connection, fill: impl Fn() -> Result<String>) -> Result<()> {
        // Without the lock, or else jobs that begin would wait while the rows of a pipeline enter.
        if self.is_whole(connection)? {
            return Ok(());
        }
        let _changing = self.changing.lock();
        let mut tries = 0;
        while !self.is_whole(connection)? {
            tries += 1;
            match self.make(connection, &fill) {
                // PostgreSQL refuses the second of two schemas or tables of one name with all kinds of texts, also where it has
                // IF NOT EXISTS: the schema of another server is there then, but perhaps not this table of it.
                Err(error) if tries == TRIES => return Err(error),
                Err(error) => {
                    tracing::debug!(tries, %error, "a table of jobs could not be made, perhaps because of another server")
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }

    fn make(&self, connection: &Connection, fill: impl Fn() -> Result<String>) -> Result<()> {
        let is_there = self.is_there(connection)?;
        let sql = if is_there { self.widening(connection)? } else { self.creation(&fill()?) };
        let mut pinned = PinnedSchemas::default();
        pinned.pin(connection, &self.name.catalog);
        if let Err(error) = connection.execute(&format!("BEGIN TRANSACTION; {sql} COMMIT")) {
            let _ = connection.execute("ROLLBACK");
            return Err(error.into());
        }
        if !is_there {
            // In any catalog but a lake this fails, and there it is not needed.
            let _ = connection.execute(&inline_sql(&self.name));
        }
        Ok(())
    }

    /// The statements that make it.
    fn creation(&self, fill: &str) -> String {
        let columns: Vec<_> = self.columns.iter().map(|(name, sql)| format!("{name} {sql}")).collect();
        let table = self.name.sql();
        format!(
            "CREATE SCHEMA IF NOT EXISTS {}.{}; CREATE TABLE {table} ({}); \
             INSERT INTO {table} ({JOB}, changes) VALUES ({}, 0); {fill}",
            quote(&self.name.catalog),
            quote(&self.name.schema),
            columns.join(", "),
            literal(FIRST),
        )
    }

    /// The statements that add what it lacks.
    fn widening(&self, connection: &Connection) -> Result<String> {
        let mut sql = String::new();
        for (name, data_type) in self.columns {
            if !self.has(connection, name)? {
                sql += &format!("ALTER TABLE {} ADD COLUMN {name} {data_type}; ", self.name.sql());
            }
        }
        Ok(sql)
    }

    /// Whether it has all its columns.
    fn is_whole(&self, connection: &Connection) -> Result<bool> {
        let columns: Vec<_> = self.columns.iter().map(|(name, _)| *name).collect();
        self.has(connection, &columns.join(", "))
    }

    /// Whether it has been made.
    pub(super) fn is_there(&self, connection: &Connection) -> Result<bool> {
        self.has(connection, "*")
    }

    /// Whether it has been made with these columns, as SQL.
    pub(super) fn has(&self, connection: &Connection, columns: &str) -> Result<bool> {
        match connection.execute(&format!("SELECT {columns} FROM {} LIMIT 0", self.name.sql())) {
            Ok(_) => Ok(true),
            Err(DuckError { class: Class::NotFound | Class::Binder, .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The rows of all jobs, or of one.
    pub(super) fn rows(
        &self,
        connection: &Connection,
        columns: &str,
        job: Option<&str>,
    ) -> Result<Vec<RecordBatch>> {
        let which = match job {
            Some(job) => format!("= {}", literal(job)),
            None => format!("<> {}", literal(FIRST)),
        };
        let sql = format!("SELECT {columns} FROM {} WHERE {JOB} {which}", self.name.sql());
        let mut rows = connection.extract(&sql)?.prepare(0)?.execute()?;
        let mut batches = Vec::new();
        while let Some(batch) = rows.next()? {
            batches.push(batch);
        }
        Ok(batches)
    }

    /// A transaction that changes the table, among other things.
    pub(super) fn transaction(
        &self,
        connection: &Connection,
        work: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let _changing = self.changing.lock();
        connection.execute("BEGIN TRANSACTION")?;
        let ended = work().and_then(|()| Ok(connection.execute("COMMIT").map(|_| ())?));
        if ended.is_err() {
            // Where COMMIT failed there is no transaction left.
            let _ = connection.execute("ROLLBACK");
        }
        ended
    }

    /// Writes columns of a job's row, the values as SQL, in the transaction that is open.
    pub(super) fn write(
        &self,
        connection: &Connection,
        job: &str,
        values: &[(&'static str, String)],
    ) -> Result<()> {
        let (table, job) = (self.name.sql(), literal(job));
        let counted = connection
            .execute(&format!("UPDATE {table} SET changes = changes + 1 WHERE {JOB} = {}", literal(FIRST)))?;
        if counted != 1 {
            return Err(Error::Internal(format!("{} has no first row", self.name)));
        }
        let set: Vec<_> = values.iter().map(|(column, value)| format!("{column} = {value}")).collect();
        let updated = connection.execute(&format!(
            "UPDATE {table} SET changes = changes + 1, {} WHERE {JOB} = {job}",
            set.join(", ")
        ))?;
        if updated == 0 {
            let (columns, values): (Vec<_>, Vec<_>) =
                values.iter().map(|(column, value)| (*column, value.as_str())).unzip();
            connection.execute(&format!(
                "INSERT INTO {table} ({JOB}, changes, {}) VALUES ({job}, 1, {})",
                columns.join(", "),
                values.join(", ")
            ))?;
        }
        Ok(())
    }
}

/// A moment as it comes back from the table.
pub(super) fn as_stored(moment: SystemTime) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(micros(moment).unsigned_abs())
}

/// A moment as SQL.
pub(super) fn moment_sql(moment: Option<SystemTime>) -> String {
    number_sql(moment.map(micros))
}

/// A number as SQL.
pub(super) fn number_sql(number: Option<i64>) -> String {
    number.map_or("NULL".into(), |number| number.to_string())
}

/// A text as SQL.
pub(super) fn text_sql(text: Option<&str>) -> String {
    text.map_or("NULL".into(), literal)
}

/// A number of a row.
pub(super) fn number_at(batch: &RecordBatch, column: usize, row: usize) -> Option<u64> {
    let column: &Arc<dyn Array> = batch.column(column);
    let column = column.as_primitive::<Int64Type>();
    column.is_valid(row).then(|| column.value(row)).and_then(|number| u64::try_from(number).ok())
}

/// A moment of a row.
pub(super) fn moment_at(batch: &RecordBatch, column: usize, row: usize) -> Option<SystemTime> {
    Some(UNIX_EPOCH + Duration::from_micros(number_at(batch, column, row)?))
}

/// A text of a row.
pub(super) fn text_at(batch: &RecordBatch, column: usize, row: usize) -> Option<String> {
    let column = batch.column(column).as_string::<i32>();
    column.is_valid(row).then(|| column.value(row).to_owned())
}
