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
    connection.execute("BEGIN TRANSACTION").map_err(whole)?;
    if let Err(failure) = append_all(connection, scans, imports, group) {
        // A failed ROLLBACK leaves no transaction either: DuckDB has ended it.
        let _ = connection.execute("ROLLBACK");
        return Err(failure);
    }
    if let Err(error) = connection.execute("COMMIT") {
        let _ = connection.execute("ROLLBACK");
        return Err(Failure { error: commit_error(error), unit: None });
    }
    Ok(())
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
