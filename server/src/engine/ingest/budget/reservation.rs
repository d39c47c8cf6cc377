//! What one request holds of the memory for rows, from their first byte on until they are no longer needed.

use super::{Budget, Share, Sharer};
use crate::engine::{Engine, Result};

/// What one request holds of the memory for rows on their way in; given back when dropped.
pub struct Reservation {
    budget: Budget,
    sharer: Sharer,
    share: Option<Share>,
    /// So much of the share is not in use any more.
    spare: usize,
}

impl Engine {
    /// For what a request of `sender` brings; nothing is taken yet.
    pub fn reservation(&self, sender: u64) -> Reservation {
        Reservation::of(self.shared.budget.clone(), Sharer::new(sender))
    }
}

impl Reservation {
    fn of(budget: Budget, sharer: Sharer) -> Self {
        Self { budget, sharer, share: None, spare: 0 }
    }

    /// Another one of the same request, which holds nothing.
    pub(in crate::engine::ingest) fn beside(&self) -> Self {
        Self::of(self.budget.clone(), self.sharer)
    }

    /// Takes so many bytes more: first of what is [spare](Reservation::reuse), then of what is free, for which it waits.
    ///
    /// # Errors
    /// [`Error::QueueFull`](crate::engine::Error::QueueFull) when there is no room in time.
    pub async fn hold(&mut self, bytes: usize) -> Result<()> {
        let reused = self.spare.min(bytes);
        if bytes > reused {
            let more = self.budget.take(self.sharer, bytes - reused).await?;
            self.add(more);
        }
        self.spare -= reused;
        Ok(())
    }

    /// The same if it may have them just now; false, and nothing taken, if not.
    fn try_hold(&mut self, bytes: usize) -> bool {
        let reused = self.spare.min(bytes);
        if bytes > reused {
            let Some(more) = self.budget.try_take(self.sharer, bytes - reused) else { return false };
            self.add(more);
        }
        self.spare -= reused;
        true
    }

    /// Takes rows in the place of their message, waiting for what they need beyond that. Rows of which no message has
    /// taken anything wait for all that they need.
    ///
    /// # Errors
    /// As [`Reservation::hold`].
    pub async fn take_in(&mut self, message: Option<Share>, bytes: usize) -> Result<()> {
        let Some(mut message) = message else { return self.hold(bytes).await };
        self.budget.grow(&mut message, bytes).await?;
        self.add(message);
        Ok(())
    }

    /// The same if there is room for them just now; gives back what the message holds if not.
    pub(in crate::engine::ingest) fn try_take_in(
        &mut self,
        message: Option<Share>,
        bytes: usize,
    ) -> Result<(), Option<Share>> {
        let Some(mut message) = message else {
            return if self.try_hold(bytes) { Ok(()) } else { Err(None) };
        };
        if !self.budget.try_grow(&mut message, bytes) {
            return Err(Some(message));
        }
        self.add(message);
        Ok(())
    }

    /// Says that so much of what it holds is for what comes next: rows take the place of the text that they were read
    /// from, and nobody else gets in between.
    pub fn reuse(&mut self, bytes: usize) {
        self.spare = self.spare.saturating_add(bytes).min(self.bytes());
    }

    /// Gives back what is spare.
    pub fn settle(&mut self) {
        let spare = std::mem::take(&mut self.spare);
        drop(self.split(spare));
    }

    /// Splits off so many bytes, or whatever is left.
    pub(in crate::engine::ingest) fn split(&mut self, bytes: usize) -> Self {
        let share = self.share.as_mut().map(|share| share.split(bytes));
        Self { share, ..self.beside() }
    }

    /// Takes all that another one of the same loader holds.
    pub(in crate::engine::ingest) fn merge(&mut self, other: Self) {
        if let Some(share) = other.share {
            share.join(&mut self.share);
        }
    }

    /// All that it holds, to be kept by somebody else.
    pub(in crate::engine::ingest) fn into_share(self) -> Option<Share> {
        self.share
    }

    fn bytes(&self) -> usize {
        self.share.as_ref().map_or(0, Share::bytes)
    }

    fn add(&mut self, share: Share) {
        // What comes without a share of its own belongs to the same request.
        self.sharer = share.sharer();
        share.join(&mut self.share);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::Error;

    fn reservation(budget: &Budget) -> Reservation {
        Reservation::of(budget.clone(), Sharer::new(1))
    }

    #[tokio::test]
    async fn rows_take_the_place_of_the_text_that_they_were_read_from() {
        let budget = Budget::new(1_000, Duration::ZERO);
        for (rows, spare) in [([100, 50], 50), ([100, 100], 0), ([100, 150], 0), ([0, 0], 200)] {
            let mut reserved = reservation(&budget);
            reserved.hold(120).await.unwrap();
            reserved.hold(80).await.unwrap();
            assert_eq!(budget.taken(), 200);
            reserved.reuse(150);
            reserved.reuse(50);
            let mut all = 0;
            for bytes in rows {
                reserved.hold(bytes).await.unwrap();
                all += bytes;
                assert_eq!(budget.taken(), all.max(200));
            }
            assert_eq!(reserved.spare, spare);
            reserved.settle();
            assert_eq!(budget.taken(), all);
            drop(reserved);
            assert_eq!(budget.taken(), 0);
        }
    }

    #[tokio::test]
    async fn what_is_refused_changes_nothing() {
        let budget = Budget::new(1_000, Duration::ZERO);
        let mut reserved = reservation(&budget);
        reserved.hold(100).await.unwrap();
        reserved.reuse(100);
        assert!(matches!(reserved.hold(700).await, Err(Error::QueueFull)));
        assert_eq!((budget.taken(), reserved.spare), (100, 100));
        reserved.settle();
        assert_eq!(budget.taken(), 0);
    }

    #[tokio::test]
    async fn rows_that_find_no_room_leave_their_message_what_it_holds() {
        let budget = Budget::new(1_000, Duration::ZERO);
        let mut reserved = reservation(&budget);
        let _other = budget.try_take(Sharer::new(2), 500).unwrap();
        assert!(matches!(reserved.try_take_in(None, 600), Err(None)));
        let message = budget.try_take(Sharer::new(1), 100).unwrap();
        let Err(Some(message)) = reserved.try_take_in(Some(message), 600) else { panic!("there is no room") };
        assert_eq!((message.bytes(), reserved.bytes(), budget.taken()), (100, 0, 600));
        reserved.try_take_in(Some(message), 110).unwrap_or_else(|_| panic!("it is hardly more"));
        reserved.try_take_in(None, 40).unwrap_or_else(|_| panic!("there is room"));
        assert_eq!((reserved.bytes(), budget.taken()), (140, 640));
        let part = reserved.split(90);
        drop(reserved);
        assert_eq!((part.bytes(), budget.taken()), (90, 590));
    }
}
