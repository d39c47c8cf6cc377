//! The rows of a file as DuckDB takes them, in pieces.

use std::{collections::HashSet, sync::Arc};

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow_select::take::take;

use super::{ArrowFile, Batches, Fault, ReadAt};
use crate::engine::{
    check_expansion, check_names,
    import::{import, member, needs_import},
};

/// Rows that are brought into DuckDB's types at a time. A batch may have any number.
const PIECE_ROWS: usize = 1 << 16;

/// Rows in the types that DuckDB imports.
pub(crate) struct Pieces<R> {
    batches: Batches<R>,
    /// The columns as the file has them,
    from: Vec<FieldRef>,
    /// and as they leave.
    to: SchemaRef,
    batch: Option<RecordBatch>,
    /// Rows of the batch that have left.
    given: usize,
}

impl<R: ReadAt> ArrowFile<R> {
    /// The columns, in the types that DuckDB imports.
    pub(crate) fn columns(&self) -> Result<Schema, Fault> {
        check_names(&self.schema).map_err(|error| Fault::Malformed(error.to_string()))?;
        let mut names = HashSet::new();
        match self.schema.fields().iter().find(|field| !names.insert(field.name().to_lowercase())) {
            Some(twice) => Err(Fault::Malformed(format!("two columns are called {:?}", twice.name()))),
            None if names.is_empty() => Err(Fault::Malformed("it has no columns".into())),
            None => {
                Ok(Schema::new(self.schema.fields().iter().map(|field| entering(field)).collect::<Vec<_>>()))
            }
        }
    }

    /// The rows of those columns that have the indexes `read`, ascending, if the file has the columns of `expected`.
    pub(crate) fn pieces(self, expected: &Schema, read: Vec<usize>) -> Result<Pieces<R>, Fault> {
        check_same(expected, &self.columns()?)?;
        let from = read.iter().map(|&index| Arc::clone(&self.schema.fields()[index])).collect();
        let to = Arc::new(expected.project(&read)?);
        Ok(Pieces { batches: self.batches(read)?, from, to, batch: None, given: 0 })
    }
}

impl<R: ReadAt> Pieces<R> {
    /// The next rows; `None` after the last.
    pub(crate) fn next(&mut self) -> Result<Option<RecordBatch>, Fault> {
        loop {
            if let Some(batch) = self.batch.as_ref().filter(|batch| self.given < batch.num_rows()) {
                let rows = PIECE_ROWS.min(batch.num_rows() - self.given);
                let piece = self.entered(&batch.slice(self.given, rows))?;
                self.given += rows;
                return Ok(Some(piece));
            }
            self.given = 0;
            self.batch = self.batches.next()?;
            if self.batch.is_none() {
                return Ok(None);
            }
        }
    }

    fn entered(&self, rows: &RecordBatch) -> Result<RecordBatch, Fault> {
        let compact: Vec<_> = rows.columns().iter().map(compacted).collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let rows = RecordBatch::try_new_with_options(rows.schema(), compact, &options)?;
        check_expansion(&rows).map_err(|error| Fault::NoPlace(error.to_string()))?;
        let columns = self.from.iter().zip(rows.columns()).zip(self.to.fields());
        let columns =
            columns.map(|((from, column), to)| enter(from, column, to)).collect::<Result<_, _>>()?;
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.to), columns, &options)?)
    }
}

/// The field as DuckDB imports it. NULLs that are nothing else are of the type that an upload would make of them.
fn entering(field: &Field) -> FieldRef {
    let field = member(field).as_ref().clone().with_nullable(true);
    Arc::new(match field.data_type() {
        DataType::Null => field.with_data_type(DataType::Int32),
        _ => field,
    })
}

fn enter(from: &Field, column: &ArrayRef, to: &Field) -> Result<ArrayRef, Fault> {
    if column.data_type() == to.data_type() && !needs_import(from) {
        return Ok(Arc::clone(column));
    }
    let what = format!("column {:?}", to.name());
    import(&what, column, to).map_err(|error| Fault::NoPlace(error.to_string()))
}

/// A slice of lists still has the items of all rows, and those would be looked at with each piece.
fn compacted(column: &ArrayRef) -> Result<ArrayRef, Fault> {
    if !column.data_type().is_nested() {
        return Ok(Arc::clone(column));
    }
    Ok(take(column, &UInt64Array::from_iter_values(0..column.len() as u64), None)?)
}

fn check_same(expected: &Schema, found: &Schema) -> Result<(), Fault> {
    let names =
        |schema: &Schema| schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    if names(expected) != names(found) {
        return Err(Fault::OtherColumns(format!(
            "{}, and not {}",
            names(found).join(", "),
            names(expected).join(", ")
        )));
    }
    let differs = |(expected, found): &(&FieldRef, &FieldRef)| expected.data_type() != found.data_type();
    match expected.fields().iter().zip(found.fields()).find(differs) {
        Some((expected, found)) => Err(Fault::OtherColumns(format!(
            "{} is {}, and not {}",
            found.name(),
            found.data_type(),
            expected.data_type()
        ))),
        None => Ok(()),
    }
}
