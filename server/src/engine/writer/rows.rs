//! The rows of a group into their tables, in the transaction that is open.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use super::{Unit, storage::Failure};
use crate::engine::{
    Result,
    appends::Timed,
    ffi::{Connection, DuckError, ScanRegistry},
    import::caught,
    insert::{INSERT_ROWS, Inserts, Target},
};

/// What one statement can insert: rows of one schema for one target.
struct Kind<'a> {
    target: &'a Target,
    schema: &'a SchemaRef,
    batches: Vec<&'a RecordBatch>,
    /// The place of the unit that all of them are of, where it is one.
    unit: Option<usize>,
}

/// Makes what is to be made, then inserts the rows of all units.
pub(crate) fn insert_units(
    connection: &Connection,
    scans: &Arc<ScanRegistry>,
    inserts: &mut Inserts,
    timed: &mut Timed<'_>,
    units: &[Unit],
) -> Result<(), Failure> {
    let blame = |unit: usize| move |error: DuckError| Failure { error: error.into(), unit: Some(unit) };
    for (index, unit) in units.iter().enumerate() {
        if let Some(create) = &unit.create {
            connection.execute(create).map_err(blame(index))?;
        }
    }
    for Kind { target, schema, batches, unit } in kinds(units) {
        // Nothing of the transaction depends on a plan yet. A panic later on, when rows may have gone in, ends the writer.
        let insert = || -> Result<()> {
            caught(|| inserts.plan(connection, scans, (target, schema)))??;
            Ok(inserts.insert(connection, scans, (target, schema), batches.into_iter())?)
        };
        timed.append_to(&target.table.to_string(), insert).map_err(|error| Failure { error, unit })?;
    }
    Ok(())
}

/// Whether a single statement does it all, and so can be a transaction of its own.
pub(super) fn is_one_statement(units: &[Unit]) -> bool {
    units.iter().all(|unit| unit.create.is_none())
        && units.iter().map(|unit| unit.rows).sum::<usize>() <= INSERT_ROWS
        && kinds(units).len() <= 1
}

/// The rows of units by their kinds, in the order of the first of each.
fn kinds(units: &[Unit]) -> Vec<Kind<'_>> {
    let mut kinds: Vec<Kind<'_>> = Vec::new();
    for (place, unit) in units.iter().enumerate() {
        for batch in unit.batches.iter().filter(|batch| batch.num_rows() > 0) {
            let (target, schema) = (&unit.target, batch.schema_ref());
            match kinds.iter_mut().find(|kind| kind.target == target && kind.schema == schema) {
                Some(kind) => {
                    kind.batches.push(batch);
                    kind.unit = kind.unit.filter(|one| *one == place);
                }
                None => kinds.push(Kind { target, schema, batches: vec![batch], unit: Some(place) }),
            }
        }
    }
    kinds
}
