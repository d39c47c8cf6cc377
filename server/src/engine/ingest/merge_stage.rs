//! A temporary table that holds the rows of an upload until they enter their table, so that they can be
//! compared with each other and with what is there. It lives on one connection, spills to disk like any
//! temporary table, and nobody else sees it.
//!
//! Rows that match are updated, and all others inserted, by statements of their own. One MERGE would do both,
//! but not in slices, which an insert into a visible table needs (see [`crate::engine::insert`]) and an update
//! does not.

use std::sync::Arc;

use super::{
    Matching, OnConflict,
    fit::{Fit, mismatch},
};
use crate::{
    engine::{
        Error, Result,
        answers::{count, numbers},
        append::Sink,
        catalog::FullName,
        ffi::{Connection, ScanRegistry},
        insert::{INSERT_ROWS, Target},
    },
    sql::{INTERNAL_PREFIX, quote},
};

/// The staged rows of one upload. Its columns are `c0`, `c1` and so on, in the upload's order.
pub(super) struct MergeStage {
    table: FullName,
    fit: Fit,
    matching: Option<Matching>,
}

/// What is done with the rows, decided when they are complete.
pub(super) struct Entering<'a> {
    pub(super) name: &'a FullName,
    /// How they fit the table as it is now.
    pub(super) fit: &'a Fit,
    pub(super) matching: Option<&'a Matching>,
    /// The statements that create, replace or widen the table first.
    pub(super) create: Option<&'a str>,
    /// The table has rows to be matched.
    pub(super) is_there: bool,
}

impl MergeStage {
    /// Makes the temporary table, with the types of the target's columns as they are now.
    pub(super) fn open(
        connection: &Connection,
        name: &FullName,
        fit: Fit,
        matching: Option<Matching>,
    ) -> Result<Self> {
        let table = FullName::temporary(&format!("{INTERNAL_PREFIX}stage"));
        let columns = fit.columns().iter().zip(fit.sql_types()).zip(fit.new_columns()).enumerate();
        let columns: Vec<_> = columns
            .map(|(at, ((column, sql_type), new))| match new {
                true => format!("NULL::{sql_type} AS c{at}"),
                false => format!("{} AS c{at}", quote(column)),
            })
            .collect();
        let from = match fit.new_columns().contains(&false) {
            true => format!("FROM {}", name.sql()),
            false => String::new(),
        };
        connection.execute(&format!(
            "CREATE OR REPLACE TEMPORARY TABLE {} AS SELECT {} {from} LIMIT 0",
            quote(&table.table),
            columns.join(", ")
        ))?;
        Ok(Self { table, fit, matching })
    }

    /// Takes the rows of a query with the upload's columns.
    pub(super) fn fill_from(&self, connection: &Connection, query: &str) -> Result<()> {
        connection.execute(&format!("INSERT INTO {} {query}", self.table.sql()))?;
        Ok(())
    }

    /// The table as SQL.
    pub(super) fn sql(&self) -> String {
        self.table.sql()
    }

    /// How many rows are staged.
    pub(super) fn count(&self, connection: &Connection) -> Result<u64> {
        count(connection, &format!("SELECT system.main.count(*) FROM {}", self.table.sql()))
    }

    /// Drops the rows that are in the table already, with all their values, where rows are matched by key.
    pub(super) fn drop_known(&self, connection: &Connection, name: &FullName) -> Result<()> {
        if self.matching.is_none() {
            return Ok(());
        }
        let columns = self.fit.columns().iter().enumerate();
        let same: Vec<_> = columns
            .map(|(at, column)| format!("target.{} IS NOT DISTINCT FROM staged.c{at}", quote(column)))
            .collect();
        connection.execute(&format!(
            "DELETE FROM {} AS staged USING {} AS target WHERE {}",
            self.table.sql(),
            name.sql(),
            same.join(" AND ")
        ))?;
        Ok(())
    }

    /// Takes the rows of the upload.
    pub(super) fn sink<'a>(
        &self,
        connection: &'a Connection,
        scans: &'a Arc<ScanRegistry>,
    ) -> Result<Sink<'a>> {
        let columns = (0..self.fit.columns().len()).map(|at| format!("c{at}")).collect();
        let target = Target { table: self.table.clone(), columns, casts: self.fit.casts() };
        Ok(Sink::open(connection, scans, &target)?)
    }

    pub(super) fn fit(&self) -> &Fit {
        &self.fit
    }

    /// Whether its rows are matched by key.
    pub(super) fn is_matched(&self) -> bool {
        self.matching.is_some()
    }

    /// Leaves one row of each key, as if the rows came one after the other: the last where rows are updated, the
    /// first where they are ignored.
    pub(super) fn settle(&self, connection: &Connection) -> Result<()> {
        let Some(matching) = &self.matching else { return Ok(()) };
        let keys: Vec<_> = matching.keys.iter().map(|at| format!("c{at}")).collect();
        let table = self.table.sql();
        let valued: Vec<_> = keys.iter().map(|key| format!("system.main.count({key})")).collect();
        let counts = format!("SELECT system.main.count(*), {} FROM {table}", valued.join(", "));
        let counts = numbers(connection, &counts)?;
        if let Some(at) = counts[1..].iter().position(|count| *count != counts[0]) {
            let column = &self.fit.columns()[matching.keys[at]];
            return Err(mismatch(column, "it is a key by which rows are matched, and a row has NULL there"));
        }
        let which = match matching.on_conflict {
            OnConflict::Update => "system.main.max",
            OnConflict::Ignore => "system.main.min",
        };
        let keys = keys.join(", ");
        connection.execute(&format!(
            "DELETE FROM {table} WHERE rowid NOT IN (SELECT {which}(rowid) FROM {table} GROUP BY {keys})"
        ))?;
        Ok(())
    }

    /// Brings the rows into the table, in the transaction that is open.
    pub(super) fn enter(&self, connection: &Connection, entering: &Entering<'_>) -> Result<()> {
        if !Matching::are_alike(entering.matching, self.matching.as_ref()) {
            return Err(Error::conflict("the primary key of the table was changed while the upload arrived"));
        }
        if let Some(create) = entering.create {
            connection.execute(create)?;
        }
        if let Some(matching) = entering.matching.filter(|_| entering.is_there) {
            self.update(connection, entering, matching)?;
        }
        self.insert(connection, entering)
    }

    /// The same where nobody else can have changed the table meanwhile.
    pub(super) fn enter_as_staged(
        &self,
        connection: &Connection,
        name: &FullName,
        create: Option<&str>,
        is_there: bool,
    ) -> Result<()> {
        let matching = self.matching.as_ref();
        self.enter(connection, &Entering { name, fit: &self.fit, matching, create, is_there })
    }

    /// The same for a table of files, which shows nothing before COMMIT and is the better for few statements, since
    /// each of them writes files.
    pub(super) fn enter_at_once(
        &self,
        connection: &Connection,
        name: &FullName,
        create: Option<&str>,
    ) -> Result<()> {
        if let Some(create) = create {
            connection.execute(create)?;
        }
        let (columns, values) = self.listed(&self.fit);
        let (into, stage) = (name.sql(), self.table.sql());
        let statement = match &self.matching {
            None => format!("INSERT INTO {into} ({columns}) SELECT {values} FROM {stage} AS staged"),
            Some(matching) => {
                let (matches, changes) = self.compared(&self.fit, matching);
                let update =
                    changes.map_or(String::new(), |set| format!("WHEN MATCHED THEN UPDATE SET {set}"));
                format!(
                    "MERGE INTO {into} AS target USING {stage} AS staged ON {matches} {update} \
                     WHEN NOT MATCHED THEN INSERT ({columns}) VALUES ({values})"
                )
            }
        };
        connection.execute(&statement)?;
        Ok(())
    }

    /// Ends it where the connection goes on.
    pub(super) fn close(self, connection: &Connection) -> Result<()> {
        connection.execute(&format!("DROP TABLE {}", self.table.sql()))?;
        Ok(())
    }

    /// Updates the rows that match, and keeps only those that do not; or lets those that match go, and keeps all to be
    /// inserted, which takes DuckDB an eighth of the time (1,000 rows into 100,000).
    fn update(&self, connection: &Connection, entering: &Entering<'_>, matching: &Matching) -> Result<()> {
        let (matches, changes) = self.compared(entering.fit, matching);
        let (target, stage) = (entering.name.sql(), self.table.sql());
        if let Some(set) = changes {
            let joined = format!("{target} AS target, {stage} AS staged WHERE {matches}");
            if matching.replaces && is_one_to_one(connection, &joined)? {
                connection.execute(&format!(
                    "DELETE FROM {target} AS target USING {stage} AS staged WHERE {matches}"
                ))?;
                return Ok(());
            }
            connection.execute(&format!(
                "UPDATE {target} AS target SET {set} FROM {stage} AS staged WHERE {matches}"
            ))?;
        }
        connection
            .execute(&format!("DELETE FROM {stage} AS staged USING {target} AS target WHERE {matches}"))?;
        Ok(())
    }

    /// When a row of the target and a staged one have the same key, and what changes then; `None` where nothing does.
    fn compared(&self, fit: &Fit, matching: &Matching) -> (String, Option<String>) {
        let columns = fit.columns();
        let equals = |at: usize| format!("{} = {}", quote(&columns[at]), self.value(at, fit));
        let matches: Vec<_> = matching.keys.iter().map(|&at| format!("target.{}", equals(at))).collect();
        let changes: Vec<_> =
            (0..columns.len()).filter(|at| !matching.keys.contains(at)).map(equals).collect();
        let changes =
            (matching.on_conflict == OnConflict::Update && !changes.is_empty()).then(|| changes.join(", "));
        (matches.join(" AND "), changes)
    }

    /// The columns that are filled, and what they are filled with.
    fn listed(&self, fit: &Fit) -> (String, String) {
        let columns: Vec<_> = fit.columns().iter().map(|column| quote(column)).collect();
        let values: Vec<_> = (0..columns.len()).map(|at| self.value(at, fit)).collect();
        (columns.join(", "), values.join(", "))
    }

    /// Inserts what is staged, a slice at a time.
    fn insert(&self, connection: &Connection, entering: &Entering<'_>) -> Result<()> {
        let stage = self.table.sql();
        let ends = numbers(
            connection,
            &format!("SELECT system.main.min(rowid), system.main.max(rowid) FROM {stage}"),
        )?;
        let [Some(first), Some(last)] = ends[..] else { return Ok(()) };
        let (columns, values) = self.listed(entering.fit);
        let insert =
            format!("INSERT INTO {} ({columns}) SELECT {values} FROM {stage} AS staged", entering.name.sql());
        for start in (first..=last).step_by(INSERT_ROWS) {
            let end = start + INSERT_ROWS as i64;
            connection.execute(&format!("{insert} WHERE rowid >= {start} AND rowid < {end}"))?;
        }
        Ok(())
    }

    /// A staged value as the table takes it; its type may be another than when the upload began.
    fn value(&self, at: usize, fit: &Fit) -> String {
        let sql_type = &fit.sql_types()[at];
        match *sql_type == self.fit.sql_types()[at] {
            true => format!("staged.c{at}"),
            false => format!("CAST(staged.c{at} AS {sql_type})"),
        }
    }
}

/// Whether no two rows of a table match the same staged one.
fn is_one_to_one(connection: &Connection, joined: &str) -> Result<bool> {
    let counts =
        format!("SELECT system.main.count(*), system.main.count(DISTINCT staged.rowid) FROM {joined}");
    let counts = numbers(connection, &counts)?;
    Ok(counts[0] == counts[1])
}
