//! What servers that share a catalog must know of each other's jobs: a table in the catalog.
//!
//! A row a job tells when it was last begun and until when somebody is at it, and of a pipeline how far it has come.
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
        ledger::inline_sql,
    },
    sql::{INTERNAL_PREFIX, literal, quote},
};

/// The table's name, beside the ledger.
pub(crate) const TABLE: &str = "jobs";
/// Its columns.
pub(crate) const COLUMNS: [(&str, &str); 5] = [
    ("job", "VARCHAR"),
    ("changes", "BIGINT"),
    ("begun_at", "BIGINT"),
    ("held_until", "BIGINT"),
    ("watermark", "VARCHAR"),
];
/// The row that everybody counts on in.
const FIRST: &str = "";

/// The table in one catalog. Times are microseconds since 1970.
pub(super) struct Book {
    table: FullName,
    /// This server's transactions that change it come one after the other, so that no two of them conflict.
    changing: Mutex<()>,
}

/// What it says of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) begun_at: Option<SystemTime>,
    /// Somebody is at it until then, unless it is dead.
    pub(super) held_until: Option<SystemTime>,
    /// How far a pipeline has come, as text.
    pub(super) watermark: Option<String>,
}

impl Book {
    pub(super) fn of(catalog: &str) -> Self {
        Self {
            table: FullName { catalog: catalog.into(), schema: INTERNAL_PREFIX.into(), table: TABLE.into() },
            changing: Mutex::default(),
        }
    }

    /// The name of the catalog.
    pub(super) fn catalog(&self) -> &str {
        &self.table.catalog
    }

    /// Makes the table where it is not there yet, in a transaction of its own. Another server may do the same.
    pub(super) fn ensure(&self, connection: &Connection) -> Result<()> {
        let _changing = self.changing.lock();
        if self.is_there(connection)? {
            return Ok(());
        }
        let columns: Vec<_> = COLUMNS.map(|(name, sql)| format!("{name} {sql}")).into();
        let table = self.table.sql();
        let made = connection.execute(&format!(
            "BEGIN TRANSACTION; CREATE SCHEMA IF NOT EXISTS {}.{}; CREATE TABLE {table} ({}); \
             INSERT INTO {table} (job, changes) VALUES ({}, 0); COMMIT",
            quote(&self.table.catalog),
            quote(&self.table.schema),
            columns.join(", "),
            literal(FIRST),
        ));
        let Err(error) = made else {
            // In any catalog but a lake this fails, and there it is not needed.
            let _ = connection.execute(&inline_sql(&self.table));
            return Ok(());
        };
        let _ = connection.execute("ROLLBACK");
        match self.is_there(connection)? {
            true => Ok(()),
            false => Err(error.into()),
        }
    }

    fn is_there(&self, connection: &Connection) -> Result<bool> {
        match connection.execute(&format!("FROM {} LIMIT 0", self.table.sql())) {
            Ok(_) => Ok(true),
            Err(DuckError { class: Class::NotFound | Class::Binder, .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a job's row.
    pub(super) fn read(&self, connection: &Connection, job: &str) -> Result<Page> {
        let sql = format!(
            "SELECT begun_at, held_until, watermark FROM {} WHERE job = {}",
            self.table.sql(),
            literal(job)
        );
        let mut rows = connection.extract(&sql)?.prepare(0)?.execute()?;
        let mut page = Page::default();
        while let Some(batch) = rows.next()? {
            if batch.num_rows() > 0 {
                page = Page {
                    begun_at: moment(&batch, 0),
                    held_until: moment(&batch, 1),
                    watermark: batch.column(2).as_string::<i32>().iter().next().flatten().map(str::to_owned),
                };
            }
        }
        Ok(page)
    }

    /// Changes a job's row in a transaction of its own, which writes nothing where nothing changes.
    pub(super) fn change(
        &self,
        connection: &Connection,
        job: &str,
        change: impl FnOnce(&mut Page),
    ) -> Result<()> {
        self.transaction(connection, || {
            let before = self.read(connection, job)?;
            let mut page = before.clone();
            change(&mut page);
            if page == before { Ok(()) } else { self.write(connection, job, &page) }
        })
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

    /// Writes a job's row, in the transaction that is open.
    pub(super) fn write(&self, connection: &Connection, job: &str, page: &Page) -> Result<()> {
        let (table, job) = (self.table.sql(), literal(job));
        let counted = connection
            .execute(&format!("UPDATE {table} SET changes = changes + 1 WHERE job = {}", literal(FIRST)))?;
        if counted != 1 {
            return Err(Error::Internal(format!("{} has no first row", self.table)));
        }
        let time = |at: Option<SystemTime>| at.map_or("NULL".into(), |at| micros(at).to_string());
        let watermark = page.watermark.as_deref().map_or("NULL".into(), literal);
        let (begun, held) = (time(page.begun_at), time(page.held_until));
        let updated = connection.execute(&format!(
            "UPDATE {table} SET changes = changes + 1, begun_at = {begun}, held_until = {held}, \
             watermark = {watermark} WHERE job = {job}"
        ))?;
        if updated == 0 {
            connection.execute(&format!(
                "INSERT INTO {table} (job, changes, begun_at, held_until, watermark) \
                 VALUES ({job}, 1, {begun}, {held}, {watermark})"
            ))?;
        }
        Ok(())
    }
}

/// A moment as it comes back from the table.
pub(super) fn in_book(moment: SystemTime) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(micros(moment).unsigned_abs())
}

fn moment(batch: &RecordBatch, column: usize) -> Option<SystemTime> {
    let column: &Arc<dyn Array> = batch.column(column);
    let micros = column.as_primitive::<Int64Type>().iter().next().flatten()?;
    Some(UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).ok()?))
}
