//! The rows of writes that ran when their FlightInfo was made (INSERT ... RETURNING and the like). They
//! wait here for their DoGet, which may come twice or never.

use std::{sync::Arc, time::Duration};

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use futures::TryStreamExt;

use super::{expiring::Expiring, new_handle};
use crate::engine::{BatchStream, Error};

/// Results that are kept at once; each is bounded by what a write may return, 32 MiB.
const CAPACITY: usize = 32;
/// A result that nobody fetches is forgotten after this.
pub(crate) const IDLE: Duration = Duration::from_secs(300);

type Kept = (SchemaRef, Vec<RecordBatch>);

/// Kept results by handle.
pub(crate) struct Results {
    kept: Expiring<Kept>,
}

impl Default for Results {
    fn default() -> Self {
        Self { kept: Expiring::new(CAPACITY, IDLE) }
    }
}

impl Results {
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
