//! How many uploads of each loader are queued and have no answer yet.

use std::{
    collections::{HashMap, hash_map::Entry},
    pin::pin,
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::engine::ingest::{IngestRequest, Whose};

/// By whose uploads are counted.
#[derive(Default)]
pub(super) struct Unanswered {
    counts: Mutex<HashMap<Whose, usize>>,
    changed: Notify,
}

/// One upload, as long as it has no answer.
pub(super) struct Place {
    whose: Vec<Whose>,
    unanswered: Arc<Unanswered>,
}

impl Unanswered {
    pub(super) fn add(self: &Arc<Self>, request: &IngestRequest) -> Place {
        let whose: Vec<_> = whose(request).collect();
        let mut counts = self.counts.lock();
        whose.iter().for_each(|whose| *counts.entry(whose.clone()).or_default() += 1);
        Place { whose, unanswered: Arc::clone(self) }
    }

    /// Waits until there is none of those whose upload this is.
    pub(super) async fn none_before(&self, request: &IngestRequest) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if !self.has_some(request) {
                return;
            }
            changed.await;
        }
    }

    fn has_some(&self, request: &IngestRequest) -> bool {
        let counts = self.counts.lock();
        whose(request).any(|whose| counts.contains_key(&whose))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.unanswered.counts.lock();
        for whose in self.whose.drain(..) {
            if let Entry::Occupied(mut count) = counts.entry(whose) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                    self.unanswered.changed.notify_waiters();
                }
            }
        }
    }
}

fn whose(request: &IngestRequest) -> impl Iterator<Item = Whose> {
    Whose::of(request.loader, request.key.as_ref().map(|key| &key.loader))
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;
    use crate::engine::TableRef;

    fn request(connection: u64, key: Option<&str>) -> IngestRequest {
        let table = TableRef { catalog: None, schema: None, table: "t".into() };
        let key = key.map(|key| key.parse().unwrap());
        IngestRequest { key, ..IngestRequest::append(table, connection) }
    }

    #[tokio::test]
    async fn who_has_some_before_waits_whatever_they_came_over() {
        let unanswered: Arc<Unanswered> = Arc::default();
        let places = [unanswered.add(&request(1, Some("a/1/1"))), unanswered.add(&request(1, None))];
        unanswered.none_before(&request(2, Some("b/1/1"))).await;
        unanswered.none_before(&request(2, None)).await;
        for next in [request(1, Some("b/1/1")), request(2, Some("a/1/2"))] {
            let mut waiting = pin!(unanswered.none_before(&next));
            assert!(matches!(futures::poll!(waiting.as_mut()), Poll::Pending));
        }
        let [first, second] = places;
        drop(first);
        unanswered.none_before(&request(2, Some("a/1/2"))).await;
        let after = request(1, None);
        let mut waiting = pin!(unanswered.none_before(&after));
        assert!(matches!(futures::poll!(waiting.as_mut()), Poll::Pending));
        drop(second);
        waiting.await;
        assert!(unanswered.counts.lock().is_empty());
    }
}
