//! The rows of a group into their tables, in the transaction that is open.

use std::sync::Arc;

use super::{Unit, storage::Failure};
use crate::engine::{
    append::{Imports, Sink, Target},
    ffi::{Connection, DuckError, ScanRegistry},
};

/// Makes what is to be made, then appends the rows of all units.
pub(crate) fn append_units(
    connection: &Connection,
    scans: &Arc<ScanRegistry>,
    imports: &mut Imports,
    units: &[Unit],
) -> Result<(), Failure> {
    let blame = |unit: usize| move |error: DuckError| Failure { error: error.into(), unit: Some(unit) };
    for (index, unit) in units.iter().enumerate() {
        if let Some(create) = &unit.create {
            connection.execute(create).map_err(blame(index))?;
        }
    }
    // One sink takes the rows of all units for one target.
    for target in targets(units) {
        let mine = || units.iter().enumerate().filter(|(_, unit)| unit.target == *target);
        let first = mine().next().map(|(index, _)| index);
        let sink = Sink::open(connection, scans, target)
            .map_err(|error| Failure { error: error.into(), unit: first })?;
        for (index, unit) in mine() {
            for batch in &unit.batches {
                sink.take(imports, batch).map_err(blame(index))?;
            }
        }
        sink.finish().map_err(Failure::whole)?;
    }
    Ok(())
}

/// The distinct targets of units with rows, in the order of their first unit.
fn targets(units: &[Unit]) -> Vec<&Target> {
    let mut targets: Vec<&Target> = Vec::new();
    for unit in units.iter().filter(|unit| unit.rows > 0) {
        if !targets.contains(&&unit.target) {
            targets.push(&unit.target);
        }
    }
    targets
}
