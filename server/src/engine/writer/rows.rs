//! The rows of a group into their tables, in the transaction that is open.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use super::{Unit, storage::Failure};
use crate::engine::{
    ffi::{Connection, DuckError, ScanRegistry},
    insert::{INSERT_ROWS, Inserts, Target},
};

/// What one statement can insert: rows of one schema for one target.
type Kind<'a> = (&'a Target, &'a SchemaRef);

/// Makes what is to be made, then inserts the rows of all units.
pub(crate) fn insert_units(
    connection: &Connection,
    scans: &Arc<ScanRegistry>,
    inserts: &mut Inserts,
    units: &[Unit],
) -> Result<(), Failure> {
    let blame = |unit: usize| move |error: DuckError| Failure { error: error.into(), unit: Some(unit) };
    for (index, unit) in units.iter().enumerate() {
        if let Some(create) = &unit.create {
            connection.execute(create).map_err(blame(index))?;
        }
    }
    for kind in kinds(units) {
        let mine = batches(units).filter(|(_, unit, batch)| kind_of(unit, batch) == kind);
        let mut whose = mine.clone().map(|(index, ..)| index);
        let first = whose.next();
        let alone = first.filter(|first| whose.all(|index| index == *first));
        inserts
            .insert(connection, scans, kind, mine.map(|(.., batch)| batch))
            .map_err(|error| Failure { error: error.into(), unit: alone })?;
    }
    Ok(())
}

/// Whether a single statement does it all, and so can be a transaction of its own.
pub(super) fn is_one_statement(units: &[Unit]) -> bool {
    units.iter().all(|unit| unit.create.is_none())
        && units.iter().map(|unit| unit.rows).sum::<usize>() <= INSERT_ROWS
        && kinds(units).len() <= 1
}

/// The kinds of rows that units have, in the order of their first.
fn kinds(units: &[Unit]) -> Vec<Kind<'_>> {
    let mut kinds = Vec::new();
    for (_, unit, batch) in batches(units) {
        let kind = kind_of(unit, batch);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds
}

/// The batches with rows, with their unit and its place.
fn batches(units: &[Unit]) -> impl Iterator<Item = (usize, &Unit, &RecordBatch)> + Clone {
    let with_rows = |batch: &&RecordBatch| batch.num_rows() > 0;
    units.iter().enumerate().flat_map(move |(index, unit)| {
        unit.batches.iter().filter(with_rows).map(move |batch| (index, unit, batch))
    })
}

fn kind_of<'a>(unit: &'a Unit, batch: &'a RecordBatch) -> Kind<'a> {
    (&unit.target, batch.schema_ref())
}
