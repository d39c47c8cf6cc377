//! The bytes of rows that may be in the server on their way to the database, all uploads together.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::engine::{Error, Result, permit};

/// The semaphore counts in units of this many bytes, because its permits are 32 bits.
const UNIT: usize = 1024;

/// A share of the budget; given back when dropped.
pub(super) type Share = Option<OwnedSemaphorePermit>;

/// The budget.
pub(crate) struct Budget {
    units: Arc<Semaphore>,
    total: u32,
    wait: Duration,
}

impl Budget {
    pub(crate) fn new(bytes: usize, wait: Duration) -> Self {
        let total = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).max(1);
        Self { units: Arc::new(Semaphore::new(total as usize)), total, wait }
    }

    /// Bytes that are taken, to the kilobyte.
    pub(crate) fn taken(&self) -> usize {
        (self.total as usize - self.units.available_permits()) * UNIT
    }

    /// So many bytes, if they are free just now.
    pub(super) fn try_take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.units).try_acquire_many_owned(self.units_for(bytes)).ok()
    }

    /// A batch larger than the whole budget takes all of it, and so runs alone.
    fn units_for(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.total)
    }

    /// Waits until so many bytes are free, within the bound.
    pub(super) async fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit> {
        permit::take(&self.units, self.units_for(bytes), self.wait, || Error::QueueFull).await
    }
}

/// Splits off the share of so many bytes, or whatever is left of it.
pub(super) fn split(share: &mut Share, bytes: usize) -> Share {
    let share = share.as_mut()?;
    let units = bytes.div_ceil(UNIT).min(share.num_permits());
    share.split(units)
}

/// Adds to a share.
pub(super) fn extend(share: &mut Share, more: OwnedSemaphorePermit) {
    match share {
        Some(share) => share.merge(more),
        None => *share = Some(more),
    }
}
