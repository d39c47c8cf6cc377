//! The writer's second thread: it commits one group, while the writer appends the next.
//!
//! Most of a COMMIT is writing the log and waiting for the disk. Of the groups that are under way one commits, and
//! one at the most waits behind it, which the writer may take back to add to it. So the next COMMIT begins as soon as
//! the one before has returned, without asking the writer, and has all that came meanwhile.

use std::{
    panic,
    sync::Arc,
    thread::{self, JoinHandle},
};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::{
    group::{Group, OpenGroup, Size},
    storage::{Failure, Transaction},
};
use crate::engine::{Error, Result, ledger::SharedLedger};

/// Commits groups in the order in which they are offered, and acknowledges them. After a failure it commits nothing
/// until that was looked at.
pub(super) trait Syncer<T> {
    /// Hands over a group, to be committed once the one before it is. None may be waiting.
    fn offer(&mut self, open: OpenGroup<T>);

    /// Takes back the group that waits, so that it can be added to. One that is complete is waited for.
    fn withdraw(&mut self) -> Option<OpenGroup<T>>;

    /// Waits until nothing is under way any more, or something has failed, which then is looked at. Neither that nor what
    /// waits behind it is the thread's from here on, at once: whatever was waiting still, it would commit.
    fn settle(&mut self) -> Option<Failed<T>>;

    /// Whether nothing is under way and nothing has failed.
    fn is_idle(&self) -> bool;

    /// Whether a failure wants to be looked at.
    fn has_failed(&self) -> bool;
}

/// A group that is not committed, or perhaps is.
pub(super) struct Failed<T> {
    pub(super) group: Group,
    pub(super) failure: Failure,
    /// The one that was appended as if this one were committed.
    pub(super) behind: Option<OpenGroup<T>>,
}

/// The thread, from its owner's side. Dropped, it ends once what was offered is committed.
pub(super) struct SyncThread<T> {
    shared: Arc<Shared<T>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    committing: bool,
    waiting: Option<OpenGroup<T>>,
    failed: Option<Failed<T>>,
    /// The owner wants no more,
    closed: bool,
    /// or the thread is gone.
    ended: bool,
}

impl<T: Transaction + Send + 'static> SyncThread<T> {
    /// Starts the thread. It calls `on_failure` after each failure, and when it panics.
    pub(super) fn start(ledger: SharedLedger, on_failure: impl Fn() + Send + 'static) -> Result<Self> {
        let state = State { committing: false, waiting: None, failed: None, closed: false, ended: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("writer-sync".into())
            .spawn(move || {
                let _ended = Ending { shared: &theirs, on_failure: &on_failure };
                theirs.run(&ledger, &on_failure);
            })
            .map_err(|error| Error::Internal(format!("the writer's second thread cannot start: {error}")))?;
        Ok(Self { shared, thread: Some(thread) })
    }
}

impl<T: Transaction> Shared<T> {
    fn run(&self, ledger: &SharedLedger, on_failure: &impl Fn()) {
        while let Some(OpenGroup { transaction, group }) = self.next() {
            let failed = match transaction.commit() {
                Ok(()) => {
                    group.acknowledge(ledger);
                    None
                }
                Err(failure) => Some(Failed { group, failure, behind: None }),
            };
            let has_failed = failed.is_some();
            let mut state = self.state.lock();
            state.committing = false;
            state.failed = failed;
            drop(state);
            self.changed.notify_all();
            if has_failed {
                on_failure();
            }
        }
    }

    /// The next group to commit; `None` when there will be none.
    fn next(&self) -> Option<OpenGroup<T>> {
        let mut state = self.state.lock();
        loop {
            if state.failed.is_none()
                && let Some(open) = state.waiting.take()
            {
                state.committing = true;
                self.changed.notify_all();
                return Some(open);
            }
            if state.closed {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }
}

impl<T> SyncThread<T> {
    /// Waits while the thread has something to do of this kind. If it panics, so does who waits for it.
    fn wait_while(&mut self, is_busy: impl Fn(&State<T>) -> bool) -> MutexGuard<'_, State<T>> {
        let mut state = self.shared.state.lock();
        while is_busy(&state) {
            if state.ended
                && let Some(Err(reason)) = self.thread.take().map(JoinHandle::join)
            {
                panic::resume_unwind(reason);
            }
            self.shared.changed.wait(&mut state);
        }
        state
    }
}

impl<T> Syncer<T> for SyncThread<T> {
    fn offer(&mut self, open: OpenGroup<T>) {
        self.shared.state.lock().waiting = Some(open);
        self.shared.changed.notify_all();
    }

    fn withdraw(&mut self) -> Option<OpenGroup<T>> {
        let is_complete = |state: &State<T>| {
            state.failed.is_none()
                && state.waiting.as_ref().is_some_and(|open| Size::of(&open.group.units).is_complete())
        };
        self.wait_while(is_complete).waiting.take()
    }

    fn settle(&mut self) -> Option<Failed<T>> {
        let is_busy =
            |state: &State<T>| state.failed.is_none() && (state.committing || state.waiting.is_some());
        let mut state = self.wait_while(is_busy);
        let failed = state.failed.take()?;
        Some(Failed { behind: state.waiting.take(), ..failed })
    }

    fn is_idle(&self) -> bool {
        let state = self.shared.state.lock();
        !state.committing && state.waiting.is_none() && state.failed.is_none()
    }

    fn has_failed(&self) -> bool {
        self.shared.state.lock().failed.is_some()
    }
}

impl<T> Drop for SyncThread<T> {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic has been told of where it happened.
            let _ = thread.join();
        }
    }
}

/// Says that the thread is gone, whatever the reason.
struct Ending<'a, T, F: Fn()> {
    shared: &'a Shared<T>,
    on_failure: &'a F,
}

impl<T, F: Fn()> Drop for Ending<'_, T, F> {
    fn drop(&mut self) {
        self.shared.state.lock().ended = true;
        self.shared.changed.notify_all();
        // An owner at rest would learn of it only with the next group.
        if thread::panicking() {
            (self.on_failure)();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::mpsc,
    };

    use super::*;

    struct Panics;

    impl Transaction for Panics {
        fn commit(self) -> Result<(), Failure> {
            panic!("a test's own")
        }
    }

    #[test]
    fn a_panic_of_the_thread_has_its_owner_look_and_panic_too() {
        let (told, hears) = mpsc::channel();
        let mut syncer = SyncThread::start(SharedLedger::default(), move || told.send(()).unwrap()).unwrap();
        syncer.offer(OpenGroup { transaction: Panics, group: Group::new(1) });
        hears.recv().unwrap();
        let panic = catch_unwind(AssertUnwindSafe(|| syncer.settle().is_some())).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"a test's own"));
    }
}
