//! One unit of ingest: collected from its client, fitted to its table, and given to the writer.
//!
//! The order of things keeps promises to others. Rows are collected first, within a byte budget, so that a
//! stalled client holds nothing but its share of memory. Only then is the table looked at and announced as
//! being appended to, which keeps ALTER and DROP away until the commit. See [`fit`] for what may be
//! appended where, [`queue`] for those that are collected whole, and [`bulk`] and [`staged`] for uploads that are too large
//! for that.

mod ack;
mod admission;
mod again;
mod arrived;
mod attached;
mod budget;
mod bulk;
mod collect;
mod collected;
mod columns;
mod entry;
mod fit;
mod from_query;
mod hashing;
mod in_workspace;
mod matching;
mod merge;
mod merge_queue;
mod merge_stage;
mod partitions;
mod pending;
mod pieces;
mod queue;
mod request;
mod staged;
mod whose;

use std::sync::Arc;

use arrow_schema::SchemaRef;
use futures::Stream;

use super::{Engine, Error, Result};
pub use ack::Ack;
use admission::{Admission, check_shared};
pub use arrived::{Arrived, Arriving, Rows};
pub(crate) use budget::{Budget, Sharer};
pub use budget::{Reservation, Share};
pub(crate) use bulk::places as bulk_places;
use collected::Collected;
pub(crate) use collected::bytes_of;
use entry::Entry;
pub(in crate::engine) use from_query::{StagedQuery, Way};
use hashing::Hashing;
use matching::Matching;
pub(crate) use merge_queue::MergeQueue;
pub use partitions::PartitionKey;
pub use pending::Pending;
use pending::Refusals;
pub use request::{IfExists, IfMissing, IngestRequest, Merge, NewColumns, OnConflict};
pub(crate) use whose::Whose;

impl Engine {
    /// Takes an upload and answers when it is committed: all of its rows or none.
    ///
    /// # Errors
    /// What is wrong with the rows ([`Error::SchemaMismatch`], [`Error::BadArrow`], constraint errors of
    /// DuckDB), with the table ([`Error::TableMissing`], [`Error::TableExists`]), or with the moment
    /// ([`Error::QueueFull`], [`Error::WriteBusy`], [`Error::Stalled`], [`Error::Stopping`]); of a key
    /// [`Error::KeyReused`], [`Error::SequenceGap`], [`Error::Fenced`], [`Error::KeyExpired`],
    /// [`Error::KeyNotHere`].
    pub async fn ingest(
        &self,
        request: IngestRequest,
        schema: SchemaRef,
        batches: impl Stream<Item = Result<Arrived>> + Unpin + Send,
    ) -> Result<Ack> {
        self.begin_ingest(request, schema, batches).await?.committed().await
    }

    /// The same, but for the wait for the commit: returns when all rows have come and are queued. Uploads that a
    /// caller begins one after the other are committed in that order.
    ///
    /// # Errors
    /// As [`Engine::ingest`].
    pub async fn begin_ingest(
        &self,
        request: IngestRequest,
        schema: SchemaRef,
        batches: impl Stream<Item = Result<Arrived>> + Unpin + Send,
    ) -> Result<Pending> {
        let refusals = self.refusals(&request);
        match self.begin_uncounted(request, schema, batches).await {
            Ok(pending) => Ok(pending.counted(refusals)),
            Err(error) => {
                refusals.iter().for_each(Refusals::count);
                Err(error)
            }
        }
    }

    fn refusals(&self, request: &IngestRequest) -> Option<Refusals> {
        let loader = Arc::clone(&request.key.as_ref()?.loader);
        let site = self.shared.attached.site(&self.full_name(request).catalog);
        let ledger = Arc::clone(site.map_or(&self.shared.ledger, |site| &site.ledger));
        Some(Refusals { ledger, loader })
    }

    async fn begin_uncounted(
        &self,
        request: IngestRequest,
        schema: SchemaRef,
        batches: impl Stream<Item = Result<Arrived>> + Unpin + Send,
    ) -> Result<Pending> {
        let writer = self.shared.writer.as_ref().ok_or(Error::ReadOnly)?;
        columns::check(&schema)?;
        let name = self.full_name(&request);
        check_shared(&name)?;
        self.check_writable(&name)?;
        self.check_key(&request, &name)?;
        self.check_partitions(&request, &name)?;
        let mut batches = Hashing::new(batches, &request, &name, &schema);
        if let Some(site) = self.shared.attached.site(&name.catalog) {
            return self.begin_attached(site, &request, &name, schema, batches).await;
        }
        let collected = self.collect(request.loader, &mut batches).await?;
        if self.is_bulk(&collected) {
            return self.begin_bulk(writer, &request, schema, collected, batches).await;
        }
        let keyed = batches.finish(&request);
        let bytes = collected.bytes;
        if let Some(ack) = self.repeated(keyed.as_ref(), bytes).await? {
            return Ok(Pending::answered(ack));
        }
        match self.queue(writer, &request, schema, collected, keyed.clone()).await {
            // Its first copy may have been committed meanwhile, and have made the table.
            Err(error) => match self.repeated(keyed.as_ref(), bytes).await? {
                Some(ack) => Ok(Pending::answered(ack)),
                None => Err(error),
            },
            queued => queued,
        }
    }
}
