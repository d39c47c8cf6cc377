//! How far the pipelines have come that write to a catalog: a table there, which changes in the transactions of their
//! rows.

use super::table::{Columns, JobTable, number_at, text_at, text_sql};
use crate::engine::{Error, Result, ffi::Connection};

/// The table's name, beside the ledger.
pub(super) const TABLE: &str = "jobs";
/// Its columns. `begun_at` and `held_until` are what the [`runs`](super::runs) table has now; servers of the version
/// before look for them. The last two came later.
pub(super) const COLUMNS: &Columns = &[
    ("job", "VARCHAR"),
    ("changes", "BIGINT"),
    ("begun_at", "BIGINT"),
    ("held_until", "BIGINT"),
    ("watermark", "VARCHAR"),
    ("target", "VARCHAR"),
    ("incremental", "VARCHAR"),
];

/// The row that tells a database from all others. No pipeline has a name with a space.
const IDENTITY: &str = "this database";

/// How far a pipeline has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Watermark {
    /// The last value, as text.
    pub(super) value: String,
    /// In what; not known of what the version before has written.
    pub(super) scope: Option<Scope>,
    /// It is another one once it was written anew, be it with the same value.
    changes: Option<u64>,
}

/// What a watermark is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scope {
    /// The table that the rows go to, without its catalog, which may be attached under another name.
    pub(super) target: String,
    /// The column by which rows are new.
    pub(super) incremental: String,
}

/// The table in one catalog.
pub(super) struct Watermarks(JobTable);

impl Watermarks {
    pub(super) fn of(catalog: &str) -> Self {
        Self(JobTable::of(catalog, TABLE, COLUMNS))
    }

    pub(super) fn table(&self) -> &JobTable {
        &self.0
    }

    /// Makes the table where it is not there yet, and adds the columns that one of the version before lacks.
    pub(super) fn ensure(&self, connection: &Connection) -> Result<()> {
        self.0.ensure(connection, || Ok(String::new()))
    }

    /// How far a pipeline has come; nowhere while the table is not there.
    pub(super) fn read(&self, connection: &Connection, job: &str) -> Result<Option<Watermark>> {
        if !self.0.is_there(connection)? {
            return Ok(None);
        }
        let scope = match self.0.has(connection, "target, incremental")? {
            true => "target, incremental",
            false => "NULL::VARCHAR, NULL::VARCHAR",
        };
        let rows = self.0.rows(connection, &format!("watermark, changes, {scope}"), Some(job))?;
        Ok(rows.iter().filter(|batch| batch.num_rows() > 0).find_map(|batch| {
            let scope = text_at(batch, 2, 0).zip(text_at(batch, 3, 0));
            Some(Watermark {
                value: text_at(batch, 0, 0)?,
                scope: scope.map(|(target, incremental)| Scope { target, incremental }),
                changes: number_at(batch, 1, 0),
            })
        }))
    }

    /// Writes it down, in the transaction that is open.
    pub(super) fn write(
        &self,
        connection: &Connection,
        job: &str,
        watermark: &str,
        scope: &Scope,
    ) -> Result<()> {
        let columns = [
            ("watermark", text_sql(Some(watermark))),
            ("target", text_sql(Some(&scope.target))),
            ("incremental", text_sql(Some(&scope.incremental))),
        ];
        self.0.write(connection, job, &columns)
    }

    /// Takes it back, in the transaction that is open.
    pub(super) fn forget(&self, connection: &Connection, job: &str) -> Result<()> {
        self.0.write(connection, job, &[("watermark", text_sql(None))])
    }

    /// What tells the catalog's database from all others, made once. A copy of the database has the same, as a backup that is
    /// to go on in its place. None of one that is only read, where nobody has made it.
    pub(super) fn identity(&self, connection: &Connection, read_only: bool) -> Result<Option<String>> {
        let known = || Ok(self.read(connection, IDENTITY)?.map(|known| known.value));
        let found = known()?;
        if found.is_some() || read_only {
            return Ok(found);
        }
        self.ensure(connection)?;
        let random = getrandom::u64().map_err(|error| Error::Internal(error.to_string()))?;
        let made = format!("{random:016x}");
        self.transaction(connection, || match known()? {
            Some(_) => Ok(()),
            None => self.0.write(connection, IDENTITY, &[("watermark", text_sql(Some(&made)))]),
        })?;
        known()
    }

    /// A transaction in which it is written down, with the rows, where no writer of a catalog has one.
    pub(super) fn transaction(
        &self,
        connection: &Connection,
        work: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        self.0.transaction(connection, work)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::{Options, database::Database};

    #[test]
    fn one_of_the_version_before_is_read_and_then_gets_its_new_columns() {
        let database = Arc::new(Database::open(&Options::default()).unwrap());
        let connection = database.private_connection().unwrap();
        let before = "CREATE SCHEMA __merganser; CREATE TABLE __merganser.jobs (job VARCHAR, changes BIGINT, \
                      begun_at BIGINT, held_until BIGINT, watermark VARCHAR); \
                      INSERT INTO __merganser.jobs (job, changes, watermark) VALUES ('', 2, NULL), ('p', 2, '7')";
        connection.execute(before).unwrap();
        let watermarks = Watermarks::of(&database.catalog);
        let read = || watermarks.read(&connection, "p").unwrap().unwrap();
        let first = Watermark { value: "7".into(), scope: None, changes: Some(2) };
        assert_eq!(read(), first);
        watermarks.ensure(&connection).unwrap();
        assert_eq!(read(), first);
        let scope = Scope { target: "t".into(), incremental: "id".into() };
        watermarks.transaction(&connection, || watermarks.write(&connection, "p", "7", &scope)).unwrap();
        assert_eq!(read(), Watermark { scope: Some(scope), changes: Some(3), ..first });
        watermarks.ensure(&connection).unwrap();
        assert_eq!(watermarks.read(&connection, "another").unwrap(), None);
    }

    #[test]
    fn a_database_is_told_from_others_by_what_is_made_once() {
        let identity = || {
            let database = Arc::new(Database::open(&Options::default()).unwrap());
            let connection = database.private_connection().unwrap();
            let watermarks = Watermarks::of(&database.catalog);
            assert_eq!(watermarks.identity(&connection, true).unwrap(), None);
            let made = watermarks.identity(&connection, false).unwrap().unwrap();
            for read_only in [false, true] {
                assert_eq!(watermarks.identity(&connection, read_only).unwrap().as_ref(), Some(&made));
            }
            made
        };
        assert_ne!(identity(), identity());
    }
}
