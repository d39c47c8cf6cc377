//! The bytes of rows that may be in the server on their way to the database, and who may have how many.
//!
//! A loader may hold as much as it leaves free for all others together: the first one half, the next half of what
//! is left, and so on. So nobody has to know how many others there are, and a few that stall with all they could
//! get keep no small one waiting. A batch larger than its loader's share passes when the loader holds nothing else.
//!
//! Within the share of a loader the same goes for its uploads, as a process that loads by many threads over one
//! connection has them: one that is not alone may hold as much as it leaves of the loader's share for the others. Its
//! first batch has the loader's share as its only bound, as has an upload that is alone. The oldest may go on to what is
//! collected of one upload, whatever the others hold, so that one of them always completes.
//!
//! [`quotas`] decide that, a [`Share`] is what was given, and a [`Reservation`] all that one request has of it.
//!
//! The places in the queues of uploads are shared by the same rule: each is a byte of a budget of their own.

mod quotas;
mod reservation;
mod share;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use self::quotas::{Quotas, Waiting, collectable};
pub use self::{reservation::Reservation, share::Share};
use crate::engine::{Error, Result};

/// The budget; all clones are the same one.
#[derive(Clone)]
pub(crate) struct Budget {
    pool: Arc<Pool>,
    wait: Duration,
}

struct Pool {
    total: usize,
    state: Mutex<Quotas>,
}

/// Who holds a share: an upload of a loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sharer {
    loader: u64,
    upload: u64,
}

impl Sharer {
    /// An upload that has just begun.
    pub(in crate::engine) fn new(loader: u64) -> Self {
        static UPLOADS: AtomicU64 = AtomicU64::new(0);
        Self { loader, upload: UPLOADS.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Budget {
    /// A budget of so many bytes, for which an upload waits for so long.
    pub(crate) fn new(bytes: usize, wait: Duration) -> Self {
        let total = bytes.max(1);
        Self { pool: Arc::new(Pool { total, state: Mutex::new(Quotas::of(total)) }), wait }
    }

    /// Bytes that are taken.
    pub(crate) fn taken(&self) -> usize {
        self.pool.total - self.pool.state.lock().free
    }

    /// How many bytes an upload may collect and still be sure of room for one more batch of a usual size.
    pub(super) fn collectable(&self) -> usize {
        collectable(self.pool.total)
    }

    /// So many bytes for an upload, if it may have them just now.
    pub(super) fn try_take(&self, sharer: Sharer, bytes: usize) -> Option<Share> {
        let bytes = self.bounded(bytes);
        self.pool.state.lock().take(sharer, 0, bytes).then(|| self.share(sharer, bytes))
    }

    /// Waits until an upload may have so many bytes, within the bound.
    pub(crate) async fn take(&self, sharer: Sharer, bytes: usize) -> Result<Share> {
        self.take_beside(sharer, 0, self.bounded(bytes)).await
    }

    /// Makes a share larger if it may be just now; see [`Budget::grow`].
    pub(super) fn try_grow(&self, share: &mut Share, bytes: usize) -> bool {
        let more = self.missing(share, bytes);
        let may = more == 0 || self.pool.state.lock().take(share.sharer, share.bytes, more);
        if may {
            share.bytes += more;
        }
        may
    }

    /// Waits until a share may be so large, within the bound. Whether it may is judged as if it held nothing yet, so that
    /// what was let in as a message is not refused as its rows.
    pub(super) async fn grow(&self, share: &mut Share, bytes: usize) -> Result<()> {
        let more = self.missing(share, bytes);
        if more > 0 {
            share.merge(self.take_beside(share.sharer, share.bytes, more).await?);
        }
        Ok(())
    }

    /// What a share lacks to be so large. Rows refer to the message that they came in, and hardly ever are larger: an
    /// eighth is what the arrays are counted with, and not worth to wait for while the message is held.
    fn missing(&self, share: &Share, bytes: usize) -> usize {
        match bytes <= share.bytes + share.bytes / 8 {
            true => 0,
            false => self.bounded(bytes).saturating_sub(share.bytes),
        }
    }

    /// Waits for so many bytes more than an upload holds for the same.
    async fn take_beside(&self, sharer: Sharer, held: usize, bytes: usize) -> Result<Share> {
        let given = {
            let mut state = self.pool.state.lock();
            if state.take(sharer, held, bytes) {
                return Ok(self.share(sharer, bytes));
            }
            let (give, given) = oneshot::channel();
            state.waiting.retain(|waiting| !waiting.give.is_closed());
            state.waiting.push_back(Waiting { sharer, held, bytes, give });
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

    fn share(&self, sharer: Sharer, bytes: usize) -> Share {
        Share { pool: Arc::clone(&self.pool), sharer, bytes }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn budget(bytes: usize) -> Budget {
        Budget::new(bytes, Duration::from_secs(3600))
    }

    /// The only upload of a loader.
    fn of(loader: u64) -> Sharer {
        Sharer { loader, upload: loader }
    }

    #[test]
    fn one_loader_has_half_and_all_leave_something() {
        let budget = budget(1_000);
        let mut held = Vec::new();
        let mut greedy = |loader| {
            let before = budget.taken();
            held.extend(std::iter::from_fn(|| budget.try_take(of(loader), 1)));
            budget.taken() - before
        };
        assert_eq!(greedy(1), 500);
        assert_eq!(greedy(2), 250);
        for loader in 3..9 {
            greedy(loader);
        }
        assert!(budget.try_take(of(100), 1).is_some(), "{} are taken", budget.taken());
        drop(held);
        assert_eq!(budget.taken(), 0);
        assert!(budget.pool.state.lock().held.is_empty());
    }

    #[test]
    fn a_batch_larger_than_a_share_passes_alone() {
        let budget = budget(1_000);
        let all = budget.try_take(of(1), 5_000).unwrap();
        assert_eq!(budget.taken(), 1_000);
        assert!(budget.try_take(of(2), 1).is_none());
        drop(all);
        let small = budget.try_take(of(1), 1).unwrap();
        assert!(budget.try_take(of(1), 900).is_none(), "it holds something");
        assert!(budget.try_take(of(2), 900).is_some());
        drop(small);
    }

    #[tokio::test]
    async fn who_waits_is_served_when_room_comes_and_the_small_overtake() {
        let budget = budget(1_000);
        let held = budget.try_take(of(1), 500).unwrap();
        let mut own = Box::pin(budget.take(of(1), 100));
        let mut large = Box::pin(budget.take(of(2), 850));
        assert!((&mut own).now_or_never().is_none() && (&mut large).now_or_never().is_none());
        let small = budget.take(of(3), 100).await.unwrap();
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
        let held = budget.try_take(of(1), 1_000).unwrap();
        let gone = Box::pin(budget.take(of(2), 1_000));
        assert!(tokio::time::timeout(Duration::ZERO, gone).await.is_err());
        drop(held);
        assert_eq!(budget.taken(), 0);
        let impatient = Budget::new(10, Duration::ZERO);
        let _all = impatient.try_take(of(1), 10).unwrap();
        assert!(matches!(impatient.take(of(2), 1).await, Err(Error::QueueFull)));
    }

    #[test]
    fn a_share_is_split_and_merged() {
        let budget = budget(1_000);
        let mut share = budget.try_take(of(1), 400).unwrap();
        let part = share.split(150);
        drop(share.split(1_000));
        assert_eq!(budget.taken(), 150);
        share.merge(part);
        drop(share);
        assert_eq!(budget.taken(), 0);
    }

    #[tokio::test]
    async fn a_share_grows_as_if_it_were_asked_for_at_once() {
        let budget = budget(1_000);
        // Alone it may have all, however it comes to that, and an eighth is not asked for.
        let mut share = budget.try_take(of(1), 600).unwrap();
        assert!(budget.try_grow(&mut share, 675) && budget.taken() == 600);
        assert!(budget.try_grow(&mut share, 900) && budget.taken() == 900);
        assert!(budget.try_grow(&mut share, 5_000) && budget.taken() == 1_000);
        drop(share);
        assert_eq!(budget.taken(), 0);

        let other = budget.try_take(of(2), 500).unwrap();
        let mut share = budget.try_take(of(1), 300).unwrap();
        assert!(!budget.try_grow(&mut share, 600) && share.bytes == 300 && budget.taken() == 800);
        {
            let mut growing = Box::pin(budget.grow(&mut share, 600));
            assert!((&mut growing).now_or_never().is_none());
            drop(other);
            growing.await.unwrap();
        }
        assert_eq!((share.bytes, budget.taken()), (600, 600));
        drop(share);
        assert!(budget.pool.state.lock().held.is_empty());
    }

    #[tokio::test]
    async fn a_share_that_stops_growing_stays_as_it_was() {
        let budget = Budget::new(1_000, Duration::ZERO);
        let other = budget.try_take(of(2), 500).unwrap();
        let mut share = budget.try_take(of(1), 300).unwrap();
        assert!(matches!(budget.grow(&mut share, 600).await, Err(Error::QueueFull)));
        drop(other);
        assert_eq!((share.bytes, budget.taken()), (300, 300));
    }

    #[test]
    fn uploads_of_one_loader_leave_each_other_something() {
        let budget = budget(1_000);
        let mut held = Vec::new();
        let mut greedy = |sharer| {
            let before = budget.taken();
            held.extend(std::iter::from_fn(|| budget.try_take(sharer, 1)));
            budget.taken() - before
        };
        let first = Sharer::new(1);
        let alone = budget.try_take(first, 250).unwrap();
        // What is left of the loader's 500 is halved again and again.
        let others = [0; 5].map(|_| greedy(Sharer::new(1)));
        assert_eq!(others, [125, 62, 31, 16, 8]);
        assert_eq!(greedy(first), 8, "it is the oldest, and has what is left");
        drop(alone);
        assert!(greedy(first) > 100);
        assert_eq!(budget.taken(), 500);
        // Other loaders have their own.
        assert_eq!(greedy(of(2)), 250);
        drop(held);
        assert_eq!(budget.taken(), 0);
        assert!(budget.pool.state.lock().held.is_empty());
    }

    #[test]
    fn equal_uploads_of_one_loader_all_come_to_their_end() {
        let budget = budget(64);
        let mut uploads: Vec<_> = (0..4).map(|_| (Sharer::new(1), Vec::new())).collect();
        while !uploads.is_empty() {
            let before = budget.taken();
            for (sharer, shares) in &mut uploads {
                shares.extend(budget.try_take(*sharer, 1));
            }
            let waiting = uploads.len();
            uploads.retain(|(_, shares)| shares.len() < 7);
            assert!(budget.taken() > before || uploads.len() < waiting, "all wait for each other");
        }
    }

    #[test]
    fn the_first_batch_of_an_upload_has_the_share_of_its_loader() {
        let budget = budget(1_000);
        let _first = budget.try_take(Sharer::new(1), 200).unwrap();
        let second = Sharer::new(1);
        assert!(budget.try_take(second, 301).is_none());
        let _batch = budget.try_take(second, 300).unwrap();
        assert!(budget.try_take(Sharer::new(1), 1).is_none(), "the loader has all that it may have");
    }

    #[test]
    fn a_share_that_is_merged_counts_for_the_other_upload() {
        let budget = budget(1_000);
        let mut share = budget.try_take(of(1), 100).unwrap();
        share.merge(budget.try_take(of(2), 50).unwrap());
        share.merge(budget.try_take(Sharer::new(1), 20).unwrap());
        assert_eq!(budget.taken(), 170);
        assert_eq!(budget.pool.state.lock().held.len(), 1);
        drop(share);
        assert_eq!(budget.taken(), 0);
        assert!(budget.pool.state.lock().held.is_empty());
    }
}
