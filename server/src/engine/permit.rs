//! Waiting for room, but not for ever. Every queue of the engine is a semaphore that is taken this way.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Error, Result};

/// Takes `count` permits, or fails with `busy` when they are not free in time.
///
/// # Errors
/// `busy`; [`Error::Stopping`] once the semaphore is closed.
pub(super) async fn take(
    semaphore: &Arc<Semaphore>,
    count: u32,
    wait: Duration,
    busy: impl FnOnce() -> Error,
) -> Result<OwnedSemaphorePermit> {
    match tokio::time::timeout(wait, Arc::clone(semaphore).acquire_many_owned(count)).await {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(_)) => Err(Error::Stopping),
        Err(_) => Err(busy()),
    }
}
