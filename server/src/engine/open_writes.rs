//! The write transactions that are open beside the writer's own, for any of which a checkpoint may have to wait.
//! DuckDB lets those pass that have only appended, so that uploads into a table that is there are not among them;
//! what a transaction has done besides is not known from outside.
//!
//! While the write-ahead log is under its hard limit they only have a name here, so that the log can tell
//! what stands in a checkpoint's way. At the limit no new one is admitted, and the oldest is ended, then the
//! next oldest, until a checkpoint succeeds.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Error, Result,
    activity::{self, State},
    batch_stream::Cancel,
};

/// One that was ended and is still there after so long (an interrupt is no deadline) does not keep the next
/// oldest from being ended.
const ENDING: Duration = Duration::from_secs(2);

/// What kind of write it is, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A statement or script outside a transaction.
    Statement,
    /// An explicit transaction.
    Transaction,
    /// An upload that makes its table while it arrives.
    Upload,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Statement => "statement",
            Self::Transaction => "transaction",
            Self::Upload => "upload",
        })
    }
}

/// All of them, oldest first.
pub(crate) struct OpenWrites {
    /// Whether a new one may begin.
    admits: watch::Sender<bool>,
    open: Mutex<Open>,
    wait: Duration,
}

#[derive(Default)]
struct Open {
    last: u64,
    writes: BTreeMap<u64, Entry>,
}

struct Entry {
    kind: Kind,
    since: Instant,
    ended: CancellationToken,
    ended_at: Option<Instant>,
}

/// One of them, until dropped.
pub(crate) struct OpenWrite {
    all: Arc<OpenWrites>,
    number: u64,
    ended: CancellationToken,
    gone: CancellationToken,
}

impl OpenWrites {
    /// None yet. A new one waits for its admission for `wait` at the most.
    pub(crate) fn new(wait: Duration) -> Self {
        Self { admits: watch::Sender::new(true), open: Mutex::default(), wait }
    }

    /// Waits until new writes are admitted.
    ///
    /// # Errors
    /// [`Error::WalFull`] when they are not in time.
    pub(crate) async fn admitted(&self) -> Result<()> {
        let mut admits = self.admits.subscribe();
        if *admits.borrow() {
            return Ok(());
        }
        let _waiting = activity::enter(State::WaitsForLog);
        match tokio::time::timeout(self.wait, admits.wait_for(|admits| *admits)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::Stopping),
            Err(_) => Err(Error::WalFull),
        }
    }

    /// Admits new writes, or no longer; tells whether that is news.
    pub(crate) fn admit(&self, admits: bool) -> bool {
        self.admits.send_if_modified(|before| std::mem::replace(before, admits) != admits)
    }

    /// One more is open from now on.
    pub(crate) fn open(self: &Arc<Self>, kind: Kind) -> OpenWrite {
        let ended = CancellationToken::new();
        let mut open = self.open.lock();
        open.last += 1;
        let number = open.last;
        let entry = Entry { kind, since: Instant::now(), ended: ended.clone(), ended_at: None };
        open.writes.insert(number, entry);
        OpenWrite { all: Arc::clone(self), number, ended, gone: CancellationToken::new() }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.open.lock().writes.len()
    }

    /// How many there are, and the oldest.
    pub(crate) fn oldest(&self) -> Option<(usize, Kind, Duration)> {
        let open = self.open.lock();
        let oldest = open.writes.values().next()?;
        Some((open.writes.len(), oldest.kind, oldest.since.elapsed()))
    }

    /// Ends the oldest one, unless one that was ended just before still has to go; tells which it was.
    pub(crate) fn end_oldest(&self) -> Option<(Kind, Duration)> {
        let mut open = self.open.lock();
        let going = |entry: &Entry| entry.ended_at.is_some_and(|at| at.elapsed() < ENDING);
        if open.writes.values().any(going) {
            return None;
        }
        let oldest = open.writes.values_mut().find(|entry| entry.ended_at.is_none())?;
        oldest.ended_at = Some(Instant::now());
        oldest.ended.cancel();
        Some((oldest.kind, oldest.since.elapsed()))
    }
}

impl OpenWrite {
    /// Which it is; no other ever has the same number.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Cancelled when it has to end.
    pub(crate) fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// Cancelled when it is open no more.
    pub(crate) fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// What `work` gives, unless the write has to end before; then `work` is dropped. It is for uploads, which nobody
    /// has begun a transaction for: they are sent again as they were.
    ///
    /// # Errors
    /// Those of `work`; [`Error::WalFull`].
    pub(crate) async fn unless_ended<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            done = work => done,
            () = self.ended.cancelled() => Err(Error::WalFull),
        }
    }

    /// Stops a statement when the write has to end.
    pub(crate) fn stops(&self, cancel: &Cancel) {
        let (has_to, over, cancel) = (self.ended(), cancel.token(), cancel.downgrade());
        tokio::spawn(async move {
            tokio::select! {
                () = has_to.cancelled() => {}
                () = over.cancelled() => return,
            }
            if let Some(cancel) = cancel.upgrade() {
                cancel.stop_because(ended());
            }
        });
    }
}

impl Drop for OpenWrite {
    fn drop(&mut self) {
        self.all.open.lock().writes.remove(&self.number);
        self.gone.cancel();
    }
}

/// Why a write was ended.
pub(crate) fn ended() -> Error {
    Error::TransactionLost(
        "the write-ahead log has reached its limit and could not be checkpointed before this ended, so it was rolled back; begin again"
            .into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_not_admitted_in_time_is_told_so() {
        let writes = OpenWrites::new(Duration::ZERO);
        writes.admitted().await.unwrap();
        assert!(writes.admit(false) && !writes.admit(false));
        assert!(matches!(writes.admitted().await, Err(Error::WalFull)));
    }

    #[tokio::test]
    async fn who_waits_is_admitted_once_there_is_room() {
        let writes = OpenWrites::new(Duration::from_secs(3600));
        writes.admit(false);
        let (admitted, _) = tokio::join!(writes.admitted(), async { writes.admit(true) });
        admitted.unwrap();
    }

    #[tokio::test]
    async fn the_oldest_goes_first_and_the_next_once_it_is_gone() {
        let writes = Arc::new(OpenWrites::new(Duration::ZERO));
        assert!(writes.end_oldest().is_none() && writes.oldest().is_none());
        let first = writes.open(Kind::Upload);
        let second = writes.open(Kind::Transaction);
        assert_eq!(writes.oldest().unwrap().1, Kind::Upload);
        assert_eq!(writes.end_oldest().unwrap().0, Kind::Upload);
        assert!(first.ended().is_cancelled() && !second.ended().is_cancelled());
        assert!(writes.end_oldest().is_none(), "the first is still going");
        let forever = first.unless_ended(std::future::pending::<Result<()>>());
        assert!(matches!(forever.await, Err(Error::WalFull)));
        drop(first);
        assert_eq!(writes.end_oldest().unwrap().0, Kind::Transaction);
        drop(second);
        assert!(writes.oldest().is_none());
    }
}
