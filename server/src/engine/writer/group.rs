//! One transaction of the writer.

use std::sync::Arc;

use super::{Unit, actor::commit_error};
use crate::engine::{
    Error, Result,
    append::{Imports, Sink, Target},
    error::Class,
    ffi::{Connection, DuckError, ScanRegistry},
};

/// Why a group was not committed.
pub(super) struct Failure {
    pub(super) error: Error,
    /// The member that is to blame, where the failure tells.
    pub(super) unit: Option<usize>,
}

impl Failure {
    pub(super) fn is(&self, class: Class) -> bool {
        self.error.class() == Some(class)
    }
}

/// A group of more rows than this is not left to a single flush: the appender flushes by itself at 204,800
/// rows, which would commit a part.
const ONE_FLUSH_ROWS: usize = 150_000;

/// Appends every unit and commits; after any failure nothing of the group is in the database.
///
/// The order on failure matters: the appender goes first (an appender that lives flushes its rows), then
/// ROLLBACK; and COMMIT is never called after an error, because DuckDB answers it with success.
pub(super) fn commit(
    connection: &Connection,
    scans: &Arc<ScanRegistry>,
    imports: &mut Imports,
    group: &[Unit],
) -> Result<(), Failure> {
    if is_one_flush(group) {
        return append_all(connection, scans, imports, group).map_err(|failure| Failure {
            error: if failure.unit.is_none() { commit_error(failure.error) } else { failure.error },
            ..failure
        });
    }
    connection.execute("BEGIN TRANSACTION").map_err(whole)?;
    if let Err(failure) = append_all(connection, scans, imports, group) {
        // A failed ROLLBACK leaves no transaction either: DuckDB has ended it.
        let _ = connection.execute("ROLLBACK");
        return Err(failure);
    }
    if let Err(error) = connection.execute("COMMIT") {
        let _ = connection.execute("ROLLBACK");
        return Err(Failure { error: commit_error(error.into()), unit: None });
    }
    Ok(())
}

/// Outside a transaction, flushing an appender is one of its own: it appends and commits without passing
/// through DuckDB's parser and scheduler, in which this thread would wait spinning (a third of a small
/// group's time). That serves the usual group: all rows for one table, of its own types.
fn is_one_flush(group: &[Unit]) -> bool {
    let rows: usize = group.iter().map(|unit| unit.rows).sum();
    let first = &group[0].target;
    rows <= ONE_FLUSH_ROWS
        && !first.casts
        && group.iter().all(|unit| unit.create.is_none() && unit.target == *first)
}

fn append_all(
    connection: &Connection,
    scans: &Arc<ScanRegistry>,
    imports: &mut Imports,
    group: &[Unit],
) -> Result<(), Failure> {
    let blame = |unit: usize| move |error: DuckError| Failure { error: error.into(), unit: Some(unit) };
    for (index, unit) in group.iter().enumerate() {
        if let Some(create) = &unit.create {
            connection.execute(create).map_err(blame(index))?;
        }
    }
    // One sink takes the rows of all units for one target.
    for target in targets(group) {
        let sink = Sink::open(connection, scans, target).map_err(whole)?;
        for (index, unit) in group.iter().enumerate().filter(|(_, unit)| unit.target == *target) {
            for batch in &unit.batches {
                sink.take(imports, batch).map_err(blame(index))?;
            }
        }
        sink.finish().map_err(whole)?;
    }
    Ok(())
}

/// A failure that no member can be blamed for yet.
fn whole(error: DuckError) -> Failure {
    Failure { error: error.into(), unit: None }
}

/// The distinct targets, in the order of their first unit.
fn targets(group: &[Unit]) -> Vec<&Target> {
    let mut targets: Vec<&Target> = Vec::new();
    for unit in group {
        if !targets.contains(&&unit.target) {
            targets.push(&unit.target);
        }
    }
    targets
}
