//! The memory of rows that come with a request, from their first byte on until they are no longer needed.

use super::{Budget, Share, Sharer};
use crate::engine::{Engine, Result};

/// What one request holds of the memory for rows on their way in; given back when dropped.
pub struct Room {
    budget: Budget,
    sharer: Sharer,
    share: Option<Share>,
    /// So much of the share is not in use any more.
    spare: usize,
}

impl Engine {
    /// Room for what a request of `sender` brings; none is taken yet.
    pub fn room(&self, sender: u64) -> Room {
        Room { budget: self.shared.budget.clone(), sharer: Sharer::new(sender), share: None, spare: 0 }
    }
}

impl Room {
    /// Takes so many bytes more: first of what is [spare](Room::reuse), then of what is free, for which it waits.
    ///
    /// # Errors
    /// [`Error::QueueFull`](crate::engine::Error::QueueFull) when there is no room in time.
    pub async fn hold(&mut self, bytes: usize) -> Result<()> {
        let reused = self.spare.min(bytes);
        if bytes > reused {
            let more = self.budget.take(self.sharer, bytes - reused).await?;
            more.join(&mut self.share);
        }
        self.spare -= reused;
        Ok(())
    }

    /// Takes rows in the place of their message, waiting for what they need beyond that.
    ///
    /// # Errors
    /// As [`Room::hold`].
    pub async fn take_in(&mut self, message: Option<Share>, bytes: usize) -> Result<()> {
        let Some(mut message) = message else { return self.hold(bytes).await };
        self.budget.grow(&mut message, bytes).await?;
        // What comes without room of its own belongs to the same request.
        self.sharer = message.sharer();
        message.join(&mut self.share);
        Ok(())
    }

    /// Says that so much of what it holds is for what comes next: rows take the place of the text that they were read
    /// from, and nobody else gets in between.
    pub fn reuse(&mut self, bytes: usize) {
        let held = self.share.as_ref().map_or(0, Share::bytes);
        self.spare = self.spare.saturating_add(bytes).min(held);
    }

    /// Gives back what is spare.
    pub fn settle(&mut self) {
        let spare = std::mem::take(&mut self.spare);
        drop(self.share.as_mut().map(|share| share.split(spare)));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::Error;

    fn room(budget: &Budget) -> Room {
        Room { budget: budget.clone(), sharer: Sharer::new(1), share: None, spare: 0 }
    }

    #[tokio::test]
    async fn rows_take_the_place_of_the_text_that_they_were_read_from() {
        let budget = Budget::new(1_000, Duration::ZERO);
        for (rows, spare) in [([100, 50], 50), ([100, 100], 0), ([100, 150], 0), ([0, 0], 200)] {
            let mut room = room(&budget);
            room.hold(120).await.unwrap();
            room.hold(80).await.unwrap();
            assert_eq!(budget.taken(), 200);
            room.reuse(150);
            room.reuse(50);
            let mut all = 0;
            for bytes in rows {
                room.hold(bytes).await.unwrap();
                all += bytes;
                assert_eq!(budget.taken(), all.max(200));
            }
            assert_eq!(room.spare, spare);
            room.settle();
            assert_eq!(budget.taken(), all);
            drop(room);
            assert_eq!(budget.taken(), 0);
        }
    }

    #[tokio::test]
    async fn what_is_refused_changes_nothing() {
        let budget = Budget::new(1_000, Duration::ZERO);
        let mut room = room(&budget);
        room.hold(100).await.unwrap();
        room.reuse(100);
        assert!(matches!(room.hold(700).await, Err(Error::QueueFull)));
        assert_eq!((budget.taken(), room.spare), (100, 100));
        room.settle();
        assert_eq!(budget.taken(), 0);
    }
}
