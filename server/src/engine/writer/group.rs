//! One transaction of the writer.

use std::sync::Arc;

use arrow_schema::SchemaRef;

use super::{Target, Unit, actor::commit_error};
use crate::engine::{
    Error, Result,
    error::Class,
    ffi::{Appender, ArrowImport, Connection, DuckError, slices},
};

/// Schemas of which the import is remembered. Loaders repeat theirs with every unit.
const REMEMBERED_IMPORTS: usize = 16;

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

/// Imports by schema, the last used first.
#[derive(Default)]
pub(super) struct Imports {
    known: Vec<(SchemaRef, Arc<ArrowImport>)>,
}

impl Imports {
    fn of(&mut self, connection: &Connection, schema: &SchemaRef) -> Result<Arc<ArrowImport>, DuckError> {
        if let Some(at) = self.known.iter().position(|(known, _)| known == schema) {
            self.known[..=at].rotate_right(1);
        } else {
            let import = Arc::new(ArrowImport::new(connection, schema)?);
            self.known.truncate(REMEMBERED_IMPORTS - 1);
            self.known.insert(0, (Arc::clone(schema), import));
        }
        Ok(Arc::clone(&self.known[0].1))
    }
}

/// Appends every unit and commits; after any failure nothing of the group is in the database.
///
/// The order on failure matters: the appender goes first (an appender that lives flushes its rows), then
/// ROLLBACK; and COMMIT is never called after an error, because DuckDB answers it with success.
pub(super) fn commit(connection: &Connection, imports: &mut Imports, group: &[Unit]) -> Result<(), Failure> {
    let whole = |error: DuckError| Failure { error: error.into(), unit: None };
    connection.execute("BEGIN TRANSACTION").map_err(whole)?;
    if let Err(failure) = append_all(connection, imports, group) {
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

fn append_all(connection: &Connection, imports: &mut Imports, group: &[Unit]) -> Result<(), Failure> {
    for (index, unit) in group.iter().enumerate() {
        if let Some(create) = &unit.create {
            connection.execute(create).map_err(|error| Failure { error: error.into(), unit: Some(index) })?;
        }
    }
    for target in targets(group) {
        append_to(connection, imports, target, group)?;
    }
    Ok(())
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

/// One appender takes the rows of all units for one target.
fn append_to(
    connection: &Connection,
    imports: &mut Imports,
    target: &Target,
    group: &[Unit],
) -> Result<(), Failure> {
    let table = &target.table;
    let name = (table.catalog.as_str(), table.schema.as_str(), table.table.as_str());
    let whole = |error: DuckError| Failure { error: error.into(), unit: None };
    let appender = Appender::open(connection, name, Some(&target.columns)).map_err(whole)?;
    for (index, unit) in group.iter().enumerate().filter(|(_, unit)| unit.target == *target) {
        append_unit(connection, imports, &appender, unit)
            .map_err(|error| Failure { error: error.into(), unit: Some(index) })?;
    }
    appender.flush().map_err(whole)
}

fn append_unit(
    connection: &Connection,
    imports: &mut Imports,
    appender: &Appender,
    unit: &Unit,
) -> Result<(), DuckError> {
    for batch in &unit.batches {
        let import = imports.of(connection, batch.schema_ref())?;
        for slice in slices(batch) {
            appender.append(&import.chunk(&slice)?)?;
        }
    }
    Ok(())
}
