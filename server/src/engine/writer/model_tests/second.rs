//! The second thread.

use std::{sync::Arc, thread};

use super::model::OpenTransaction;
use crate::engine::{
    ledger::SharedLedger,
    writer::{
        group::{OpenGroup, Size},
        storage::Transaction,
        syncer::{Failed, SyncThread, Syncer},
    },
};

/// The second thread, whose COMMIT lasts until the test says so, or the writer waits for it.
pub(super) struct SlowSyncer {
    ledger: SharedLedger,
    committing: Option<OpenGroup<OpenTransaction>>,
    waiting: Option<OpenGroup<OpenTransaction>>,
    failed: Option<Failed<OpenTransaction>>,
}

/// The second thread as a test has it.
pub(super) trait Second: Syncer<OpenTransaction> {
    fn of(ledger: &SharedLedger) -> Self;

    /// Ends the COMMIT that runs, unless it ends by itself.
    fn land(&mut self);

    /// The process dies; a COMMIT that runs may still be done.
    fn die(self, durable: bool);
}

impl Second for SyncThread<OpenTransaction> {
    fn of(ledger: &SharedLedger) -> Self {
        // After a failure it lets the writer go first, so that it comes to look for more at any moment after that.
        let linger = || (0..fastrand::u32(..20)).for_each(|_| thread::yield_now());
        Self::start(Arc::clone(ledger), linger).unwrap()
    }

    fn land(&mut self) {
        thread::yield_now();
    }

    fn die(self, _: bool) {}
}

impl Second for SlowSyncer {
    fn of(ledger: &SharedLedger) -> Self {
        Self { ledger: Arc::clone(ledger), committing: None, waiting: None, failed: None }
    }

    fn die(mut self, durable: bool) {
        if durable && let Some(open) = self.committing.take() {
            let _ = open.transaction.commit();
        }
    }

    fn land(&mut self) {
        let Some(OpenGroup { transaction, group }) = self.committing.take() else { return };
        match transaction.commit() {
            Ok(()) => {
                group.acknowledge(&self.ledger);
                self.committing = self.waiting.take();
            }
            Err(failure) => self.failed = Some(Failed { group, failure, behind: None }),
        }
    }
}

impl Syncer<OpenTransaction> for SlowSyncer {
    fn offer(&mut self, open: OpenGroup<OpenTransaction>) {
        assert!(self.waiting.is_none(), "two groups wait");
        if self.committing.is_none() && self.failed.is_none() {
            self.committing = Some(open);
        } else {
            self.waiting = Some(open);
        }
    }

    fn withdraw(&mut self) -> Option<OpenGroup<OpenTransaction>> {
        while self.failed.is_none()
            && self.waiting.as_ref().is_some_and(|open| Size::of(&open.group.units).is_complete())
        {
            self.land();
        }
        self.waiting.take()
    }

    fn settle(&mut self) -> Option<Failed<OpenTransaction>> {
        while self.committing.is_some() {
            self.land();
        }
        let failed = self.failed.take()?;
        Some(Failed { behind: self.waiting.take(), ..failed })
    }

    fn is_idle(&self) -> bool {
        self.committing.is_none() && self.failed.is_none()
    }

    fn has_failed(&self) -> bool {
        self.failed.is_some()
    }
}
