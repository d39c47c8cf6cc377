//! The bytes of rows that may be in the server on their way to the database, and who may have how many.
//!
//! A loader may hold as much as it leaves free for all others together: the first one half, the next half of what
//! is left, and so on. So nobody has to know how many others there are, and a few that stall with all they could
//! get keep no small one waiting. A batch larger than its loader's share passes when the loader holds nothing else.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::engine::{Error, Result};

/// The budget.
pub(crate) struct Budget {
    pool: Arc<Pool>,
    wait: Duration,
}

struct Pool {
    total: usize,
    state: Mutex<State>,
}

struct State {
    free: usize,
    /// What each loader holds; nobody is here who holds nothing.
    held: HashMap<u64, usize>,
    /// Those who wait, first come first. One that fits overtakes those that do not: a large batch must not stop
    /// everybody.
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    loader: u64,
    bytes: usize,
    give: oneshot::Sender<Share>,
}

/// A part of the budget; given back when dropped.
pub(crate) struct Share {
    pool: Arc<Pool>,
    loader: u64,
    bytes: usize,
}

impl Budget {
    /// A budget of so many bytes, for which an upload waits for so long.
    pub(crate) fn new(bytes: usize, wait: Duration) -> Self {
        let total = bytes.max(1);
        let state = State { free: total, held: HashMap::new(), waiting: VecDeque::new() };
        Self { pool: Arc::new(Pool { total, state: Mutex::new(state) }), wait }
    }

    /// Bytes that are taken.
    pub(crate) fn taken(&self) -> usize {
        self.pool.total - self.pool.state.lock().free
    }

    /// How many bytes an upload may collect and still be sure of room for one more batch of a usual size.
    pub(super) fn collectable(&self) -> usize {
        self.pool.total / 3
    }

    /// So many bytes for a loader, if it may have them just now.
    pub(super) fn try_take(&self, loader: u64, bytes: usize) -> Option<Share> {
        let bytes = self.bounded(bytes);
        self.pool.state.lock().take(loader, bytes).then(|| self.share(loader, bytes))
    }

    /// Waits until a loader may have so many bytes, within the bound.
    pub(crate) async fn take(&self, loader: u64, bytes: usize) -> Result<Share> {
        let bytes = self.bounded(bytes);
        let given = {
            let mut state = self.pool.state.lock();
            if state.take(loader, bytes) {
                return Ok(self.share(loader, bytes));
            }
            let (give, given) = oneshot::channel();
            state.waiting.retain(|waiting| !waiting.give.is_closed());
            state.waiting.push_back(Waiting { loader, bytes, give });
            given
        };
        match tokio::time::timeout(self.wait, given).await {
            Ok(Ok(share)) => Ok(share),
            _ => Err(Error::QueueFull),
        }
    }

    /// A batch larger than the whole budget takes all of it.
    fn bounded(&self, bytes: usize) -> usize {
        bytes.min(self.pool.total)
    }

    fn share(&self, loader: u64, bytes: usize) -> Share {
        Share { pool: Arc::clone(&self.pool), loader, bytes }
    }
}

impl State {
    /// Takes so many bytes for a loader; false when it may not have them.
    fn take(&mut self, loader: u64, bytes: usize) -> bool {
        let held = self.held.get(&loader).copied().unwrap_or(0);
        if bytes > self.free || (held > 0 && held + bytes > self.free - bytes) {
            return false;
        }
        self.free -= bytes;
        if bytes > 0 {
            self.held.insert(loader, held + bytes);
        }
        true
    }

    fn give_back(&mut self, loader: u64, bytes: usize) {
        self.free += bytes;
        if let Some(held) = self.held.get_mut(&loader) {
            *held -= bytes;
            if *held == 0 {
                self.held.remove(&loader);
            }
        }
    }

    /// Takes for those who wait what they may have now.
    fn serve(&mut self) -> Vec<Waiting> {
        let mut served = Vec::new();
        for waiting in std::mem::take(&mut self.waiting) {
            if waiting.give.is_closed() {
                continue;
            }
            if self.take(waiting.loader, waiting.bytes) {
                served.push(waiting);
            } else {
                self.waiting.push_back(waiting);
            }
        }
        served
    }
}

impl Share {
    /// Splits off so many bytes, or whatever is left.
    pub(super) fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { pool: Arc::clone(&self.pool), loader: self.loader, bytes }
    }

    /// Adds another share of the same loader.
    pub(super) fn merge(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let served = {
            let mut state = self.pool.state.lock();
            state.give_back(self.loader, self.bytes);
            state.serve()
        };
        // Outside of the lock: whoever has stopped waiting meanwhile drops the share, and so gives it on.
        for Waiting { loader, bytes, give } in served {
            let _ = give.send(Self { pool: Arc::clone(&self.pool), loader, bytes });
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn budget(bytes: usize) -> Budget {
        Budget::new(bytes, Duration::from_secs(3600))
    }

    #[test]
    fn one_loader_has_half_and_all_leave_something() {
        let budget = budget(1_000);
        let mut held = Vec::new();
        let mut greedy = |loader| {
            let before = budget.taken();
            held.extend(std::iter::from_fn(|| budget.try_take(loader, 1)));
            budget.taken() - before
        };
        assert_eq!(greedy(1), 500);
        assert_eq!(greedy(2), 250);
        for loader in 3..9 {
            greedy(loader);
        }
        assert!(budget.try_take(100, 1).is_some(), "{} are taken", budget.taken());
        drop(held);
        assert_eq!(budget.taken(), 0);
        assert!(budget.pool.state.lock().held.is_empty());
    }

    #[test]
    fn a_batch_larger_than_a_share_passes_alone() {
        let budget = budget(1_000);
        let all = budget.try_take(1, 5_000).unwrap();
        assert_eq!(budget.taken(), 1_000);
        assert!(budget.try_take(2, 1).is_none());
        drop(all);
        let small = budget.try_take(1, 1).unwrap();
        assert!(budget.try_take(1, 900).is_none(), "it holds something");
        assert!(budget.try_take(2, 900).is_some());
        drop(small);
    }

    #[tokio::test]
    async fn who_waits_is_served_when_room_comes_and_the_small_overtake() {
        let budget = budget(1_000);
        let held = budget.try_take(1, 500).unwrap();
        let mut own = Box::pin(budget.take(1, 100));
        let mut large = Box::pin(budget.take(2, 850));
        assert!((&mut own).now_or_never().is_none() && (&mut large).now_or_never().is_none());
        let small = budget.take(3, 100).await.unwrap();
        assert!((&mut large).now_or_never().is_none());
        drop(held);
        let own = own.await.unwrap();
        assert!((&mut large).now_or_never().is_none());
        drop((small, own));
        assert_eq!(large.await.unwrap().bytes, 850);
    }

    #[tokio::test]
    async fn who_has_gone_takes_nothing() {
        let budget = budget(1_000);
        let held = budget.try_take(1, 1_000).unwrap();
        let gone = Box::pin(budget.take(2, 1_000));
        assert!(tokio::time::timeout(Duration::ZERO, gone).await.is_err());
        drop(held);
        assert_eq!(budget.taken(), 0);
        let impatient = Budget::new(10, Duration::ZERO);
        let _all = impatient.try_take(1, 10).unwrap();
        assert!(matches!(impatient.take(2, 1).await, Err(Error::QueueFull)));
    }

    #[test]
    fn a_share_is_split_and_merged() {
        let budget = budget(1_000);
        let mut share = budget.try_take(1, 400).unwrap();
        let part = share.split(150);
        drop(share.split(1_000));
        assert_eq!(budget.taken(), 150);
        share.merge(part);
        drop(share);
        assert_eq!(budget.taken(), 0);
    }
}
