//! Cutting a file into units of so many rows, the same each time it is read.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures::{Stream, StreamExt};
use merganser::Error;

/// The units of one file. However the file's own batches are cut, each unit but the last has the same number of
/// rows; a file without rows is one unit without rows, so that it can make the table.
pub(super) struct Units<S> {
    schema: SchemaRef,
    batches: S,
    rows: usize,
    rest: Option<RecordBatch>,
    begun: bool,
}

impl<S> Units<S>
where
    S: Stream<Item = Result<RecordBatch, Error>> + Unpin,
{
    pub(super) fn new(schema: SchemaRef, batches: S, rows: u32) -> Self {
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        Self { schema, batches, rows, rest: None, begun: false }
    }

    /// The next unit; none at the end of the file.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<RecordBatch>>, Error> {
        let mut unit = Vec::new();
        let mut wanted = self.rows;
        while wanted > 0 {
            let Some(batch) = self.batch().await? else { break };
            let taken = wanted.min(batch.num_rows());
            if taken < batch.num_rows() {
                self.rest = Some(batch.slice(taken, batch.num_rows() - taken));
            }
            if taken > 0 {
                unit.push(batch.slice(0, taken));
            }
            wanted -= taken;
        }
        if unit.is_empty() && !self.begun {
            unit.push(RecordBatch::new_empty(self.schema.clone()));
        }
        self.begun = true;
        Ok((!unit.is_empty()).then_some(unit))
    }

    async fn batch(&mut self) -> Result<Option<RecordBatch>, Error> {
        match self.rest.take() {
            Some(rest) => Ok(Some(rest)),
            None => self.batches.next().await.transpose(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array};
    use futures::stream;

    use super::*;

    fn batch(rows: usize) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from_value(7, rows));
        RecordBatch::try_from_iter([("a", column)]).unwrap()
    }

    async fn cut(batches: &[usize]) -> Vec<usize> {
        let batches = stream::iter(batches.iter().map(|rows| Ok(batch(*rows))).collect::<Vec<_>>());
        let mut units = Units::new(batch(0).schema(), batches, 10);
        let mut cut = Vec::new();
        while let Some(unit) = units.next().await.unwrap() {
            cut.push(unit.iter().map(RecordBatch::num_rows).sum());
        }
        cut
    }

    #[tokio::test]
    async fn the_cut_does_not_depend_on_the_batches() {
        for batches in [vec![25], vec![5, 5, 5, 5, 5], vec![1, 0, 23, 1], vec![10, 15]] {
            assert_eq!(cut(&batches).await, [10, 10, 5], "{batches:?}");
        }
        assert_eq!(cut(&[20]).await, [10, 10]);
    }

    #[tokio::test]
    async fn a_file_without_rows_is_a_unit() {
        assert_eq!(cut(&[]).await, [0]);
        assert_eq!(cut(&[0, 0]).await, [0]);
    }
}
