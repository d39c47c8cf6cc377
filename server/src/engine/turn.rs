//! Whose turn it is to write, besides the writer: DML, DDL and units that create or replace a table go one
//! at a time, first come first served, so that they never conflict with each other.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, OwnedSemaphorePermit, RwLock, Semaphore};

use super::{Error, Result, permit, wanted::Wanted};

/// The fair queue of writers, and the gate between appends and statements that exclude them.
pub(crate) struct Turn {
    turn: Arc<Semaphore>,
    /// Appends hold it for reading, ALTER and DROP for writing.
    tables: Arc<RwLock<()>>,
    wanted: Wanted,
    wait: Duration,
}

/// The turn, until dropped.
pub(crate) struct TurnPermit {
    _permit: OwnedSemaphorePermit,
}

/// An append under way, until dropped.
pub(crate) type Appending = OwnedRwLockReadGuard<()>;
/// No append is under way, until dropped.
pub(crate) type NoAppends = OwnedRwLockWriteGuard<()>;

impl Turn {
    pub(crate) fn new(wait: Duration) -> Self {
        Self { turn: Arc::new(Semaphore::new(1)), tables: Arc::default(), wanted: Wanted::default(), wait }
    }

    /// Waits for the turn, within the bound.
    pub(crate) async fn take(&self) -> Result<TurnPermit> {
        self.take_within(self.wait).await
    }

    /// Waits for the turn, within a bound of the caller's.
    pub(crate) async fn take_within(&self, wait: Duration) -> Result<TurnPermit> {
        let _waiting = self.wanted.wait();
        let permit = permit::take(&self.turn, 1, wait, || Error::WriteBusy(wait)).await?;
        Ok(TurnPermit { _permit: permit })
    }

    /// True while somebody waits for it.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.by_somebody()
    }

    /// Announces an append; waits while a statement that excludes appends is running.
    pub(crate) async fn appending(&self) -> Result<Appending> {
        tokio::time::timeout(self.wait, Arc::clone(&self.tables).read_owned())
            .await
            .map_err(|_| Error::WriteBusy(self.wait))
    }

    /// Waits until no append is under way, within the bound, and keeps new ones out.
    pub(crate) async fn no_appends(&self) -> Result<NoAppends> {
        self.no_appends_within(self.wait).await
    }

    /// As [`Turn::no_appends`], within a bound of the caller's.
    pub(crate) async fn no_appends_within(&self, wait: Duration) -> Result<NoAppends> {
        tokio::time::timeout(wait, Arc::clone(&self.tables).write_owned())
            .await
            .map_err(|_| Error::WriteBusy(wait))
    }
}
