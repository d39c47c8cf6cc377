//! The rows of writes that ran when their FlightInfo was made (INSERT ... RETURNING and the like). They
//! wait here for their DoGet, which may come twice or never.

use std::{sync::Arc, time::Duration};

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use futures::TryStreamExt;

use super::{expiring::Expiring, new_handle, weight::bytes_kept};
use crate::engine::{BatchStream, Error};

/// Results that are kept at once; each is bounded by what a write may return, 32 MiB.
const CAPACITY: usize = 32;
/// Bytes of all of them.
const BYTES: usize = 128 << 20;
/// A result that nobody fetches is forgotten after this.
pub(crate) const IDLE: Duration = Duration::from_secs(300);

type Kept = (SchemaRef, Vec<RecordBatch>);

/// Kept results by handle.
pub(crate) struct Results {
    kept: Expiring<Kept>,
}

impl Default for Results {
    fn default() -> Self {
        Self::of_bytes(BYTES)
    }
}

impl Results {
    fn of_bytes(bytes: usize) -> Self {
        Self { kept: Expiring::weighing(CAPACITY, bytes, |(_, batches)| bytes_kept(batches), IDLE) }
    }

    /// Keeps the rows of a statement and returns their handle.
    pub(crate) async fn keep(&self, rows: BatchStream) -> Result<Vec<u8>, Error> {
        let schema = rows.schema();
        let batches = rows.try_collect().await?;
        let handle = new_handle().map_err(|error| Error::Internal(error.to_string()))?;
        self.kept.insert(handle.clone(), (schema, batches));
        Ok(handle)
    }

    /// The handle of a result without rows or columns; it takes no space, so it never expires.
    pub(crate) fn keep_empty(&self) -> Vec<u8> {
        Vec::new()
    }

    /// The rows under a handle.
    pub(crate) fn get(&self, handle: &[u8]) -> Option<Kept> {
        if handle.is_empty() {
            return Some((Arc::new(Schema::empty()), Vec::new()));
        }
        self.kept.get(handle)
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, Int64Array};

    use super::*;

    #[tokio::test]
    async fn what_is_kept_is_bounded_in_bytes_too() {
        let results = Results::of_bytes(100_000);
        let mut handles = Vec::new();
        for _ in 0..5 {
            let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..5_000));
            let batch = RecordBatch::try_from_iter([("x", numbers)]).unwrap();
            let rows = BatchStream::spooled(batch.schema(), vec![batch]);
            handles.push(results.keep(rows).await.unwrap());
        }
        let there: Vec<_> = handles.iter().map(|handle| results.get(handle).is_some()).collect();
        assert_eq!(there, [false, false, false, true, true]);
    }
}
