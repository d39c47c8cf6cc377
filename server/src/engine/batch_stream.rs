//! A bounded stream of record batches from a query's thread. Dropping it stops the query.

use std::{
    pin::Pin,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures::Stream;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{
    Error,
    delivery::cancelled,
    error::Class,
    ffi::Interrupt,
    outlet::Outlet,
    overdue::{Holds, Late, OVERDUE_AFTER, Overdue},
};

/// An interrupt is repeated so often.
const INTERRUPT_AGAIN: Duration = Duration::from_millis(20);

/// The rows of one statement.
pub struct BatchStream {
    schema: SchemaRef,
    // Dropped before the way of the rows: a statement that finds nobody there must know why.
    cancel: CancelOnDrop,
    batches: Source,
}

enum Source {
    Running(Outlet),
    Spooled(std::vec::IntoIter<RecordBatch>),
}

impl BatchStream {
    pub(crate) fn running(schema: SchemaRef, batches: Outlet, cancel: CancelOnDrop) -> Self {
        Self { schema, batches: Source::Running(batches), cancel }
    }

    /// A result that is complete already.
    pub(crate) fn spooled(schema: SchemaRef, batches: Vec<RecordBatch>) -> Self {
        Self { schema, batches: Source::Spooled(batches.into_iter()), cancel: CancelOnDrop::default() }
    }

    /// The schema of every batch.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

impl Stream for BatchStream {
    type Item = Result<RecordBatch, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.batches {
            Source::Running(batches) => match ready!(batches.poll_next(context)) {
                Some(batch) => Poll::Ready(Some(Ok(batch))),
                // The end of the channel is the end of the rows only if nothing failed: a query that was
                // stopped while its client stalled must not look complete.
                None => Poll::Ready(self.cancel.0.take_failure().map(Err)),
            },
            Source::Spooled(batches) => Poll::Ready(batches.next().map(Ok)),
        }
    }
}

/// Shared by a query's thread and whoever may stop it.
#[derive(Clone, Default)]
pub(crate) struct Cancel {
    state: Arc<CancelState>,
}

/// A [`Cancel`] that may be gone.
pub(crate) struct WeakCancel(Weak<CancelState>);

impl WeakCancel {
    pub(crate) fn upgrade(&self) -> Option<Cancel> {
        self.0.upgrade().map(|state| Cancel { state })
    }
}

#[derive(Default)]
struct CancelState {
    cancelled: CancellationToken,
    /// Why it was stopped, where its client has to be told more than that it was.
    reason: Mutex<Option<Error>>,
    /// An interrupt would cost more than this statement.
    gentle: AtomicBool,
    /// Why the rows ended early.
    failure: Mutex<Option<Error>>,
    /// Present while the statement runs: an interrupt after its end would hit the connection's next one.
    running: Mutex<Option<Interrupt>>,
    /// Where it is counted if it goes on after its stop.
    watched: OnceLock<(Arc<Overdue>, Holds)>,
    /// Present from the moment when it is overdue, until it ends.
    late: Mutex<Option<Late>>,
    /// Cancelled at that moment.
    overdue: CancellationToken,
}

impl Cancel {
    /// Stops the statement, or keeps it from starting. A gentle one notices when it has its next rows.
    pub(crate) fn cancel(&self) {
        self.state.cancelled.cancel();
        if !self.state.gentle.load(Ordering::SeqCst) {
            self.interrupt();
        }
    }

    /// Stops the statement at once, whatever it costs.
    pub(crate) fn stop(&self) {
        self.state.cancelled.cancel();
        self.interrupt();
    }

    /// From now on cancelling interrupts only what has not ended `grace` later: an interrupt makes DuckDB
    /// abort the transaction that the statement belongs to.
    pub(crate) fn be_gentle(&self, grace: Duration) {
        self.state.gentle.store(true, Ordering::SeqCst);
        let (cancelled, weak) = (self.token(), self.downgrade());
        tokio::spawn(async move {
            cancelled.cancelled().await;
            tokio::time::sleep(grace).await;
            if let Some(cancel) = weak.upgrade() {
                cancel.interrupt();
            }
        });
    }

    /// Interrupts what runs until it has ended: DuckDB forgets an interrupt that comes just before it begins.
    fn interrupt(&self) {
        let again = self.downgrade();
        if !self.interrupt_once() {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            let stopped = Instant::now();
            runtime.spawn(async move {
                loop {
                    tokio::time::sleep(INTERRUPT_AGAIN).await;
                    match again.upgrade() {
                        Some(cancel) if cancel.interrupt_once() => cancel.look_how_late(stopped),
                        _ => return,
                    }
                }
            });
        }
    }

    /// From now on it is counted among those that are overdue, if it comes to that.
    pub(super) fn watch(&self, overdue: &Arc<Overdue>, holds: Holds) {
        let _ = self.state.watched.set((Arc::clone(overdue), holds));
    }

    fn look_how_late(&self, stopped: Instant) {
        let Some((overdue, holds)) = self.state.watched.get() else { return };
        let running = self.state.running.lock();
        if running.is_none() || stopped.elapsed() < OVERDUE_AFTER {
            return;
        }
        let mut late = self.state.late.lock();
        late.get_or_insert_with(|| overdue.add(*holds)).look();
        self.state.overdue.cancel();
    }

    /// What `work` gives, or why it was stopped once it is overdue: then it goes on, and nobody waits for it.
    pub(super) async fn unless_overdue<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        tokio::select! {
            biased;
            done = work => done,
            () = self.state.overdue.cancelled() => Err(self.explain(cancelled())),
        }
    }

    /// False when nothing runs.
    fn interrupt_once(&self) -> bool {
        let running = self.state.running.lock();
        if let Some(interrupt) = &*running {
            interrupt.interrupt();
        }
        running.is_some()
    }

    /// Stops the statement at once, for a reason that its client is told.
    pub(crate) fn stop_because(&self, reason: Error) {
        self.state.reason.lock().get_or_insert(reason);
        self.stop();
    }

    /// The reason of the stop in place of the news that the statement was interrupted. Where nobody stopped
    /// it, it has failed: a thread that fails interrupts the others, and DuckDB 1.5 looks at the interrupt
    /// before it looks for the error, if that thread fails between two fetches of a result.
    pub(crate) fn explain(&self, error: Error) -> Error {
        match error.class() {
            Some(Class::Interrupted) if !self.is_cancelled() => Error::CauseLost,
            Some(Class::Interrupted) => self.state.reason.lock().clone().unwrap_or(error),
            _ => error,
        }
    }

    /// How far the statement is, from 0 to 1, where it runs and DuckDB knows.
    pub(crate) fn progress(&self) -> Option<f64> {
        self.state.running.lock().as_ref()?.progress()
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.state.cancelled.is_cancelled()
    }

    /// Cancelled when the statement is to stop, or when its stream is dropped.
    pub(crate) fn token(&self) -> CancellationToken {
        self.state.cancelled.clone()
    }

    /// Resolves when the statement is to stop.
    pub(crate) async fn cancelled(&self) {
        self.state.cancelled.cancelled().await;
    }

    /// Tells the stream why its rows end here.
    pub(crate) fn fail(&self, error: Error) {
        *self.state.failure.lock() = Some(error);
    }

    fn take_failure(&self) -> Option<Error> {
        self.state.failure.lock().take()
    }

    /// A handle that keeps nothing alive: a clock must not hold what it watches.
    pub(crate) fn downgrade(&self) -> WeakCancel {
        WeakCancel(Arc::downgrade(&self.state))
    }

    /// Runs `work`, which `interrupt` can stop; does not begin when it is to stop already. What must not be
    /// interrupted, such as a ROLLBACK, stays outside.
    pub(crate) fn while_running<T>(
        &self,
        interrupt: Interrupt,
        work: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        *self.state.running.lock() = Some(interrupt);
        let _running = Running { cancel: self };
        if self.is_cancelled() {
            return Err(cancelled());
        }
        work()
    }
}

/// A statement under way.
struct Running<'a> {
    cancel: &'a Cancel,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut running = self.cancel.state.running.lock();
        *running = None;
        *self.cancel.state.late.lock() = None;
    }
}

/// Cancels when dropped; harmless once the statement has ended.
#[derive(Default)]
pub(crate) struct CancelOnDrop(pub(crate) Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
