//! Uploads whose rows are matched by key, committed together.
//!
//! To look for a thousand keys in a table takes about as long as to look for eight thousand, and each merge waits for
//! the turn and for a COMMIT. So while one group of uploads is merged, the next is staged, and those behind it gather;
//! [`service`] does that. Uploads are staged together where they say the same of the same table with rows of the same
//! schema: then the last row of a key (or the first, where rows that are there are kept) is what is left if they come
//! one after the other, too. The uploads of one loader keep their order.

mod service;
mod unanswered;

use std::{
    collections::{HashSet, VecDeque},
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use arrow_schema::SchemaRef;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use self::unanswered::{Place, Unanswered};
use super::{Ack, Budget, Collected, IfExists, IngestRequest, Pending, Share, Sharer};
use crate::engine::{
    Engine, Error, Result,
    ledger::Keyed,
    permit,
    writer::{Apart, Part, Size},
};

/// What may wait here is the memory for uploads divided by this.
const BUDGET_PART: usize = 4;

/// The uploads that wait, and whether somebody serves them.
pub(crate) struct MergeQueue {
    state: Mutex<State>,
    /// Loaders share them as they share the memory.
    places: Budget,
    /// A part of the memory for uploads, in KiB: while the turn is held, what only adds rows goes on with the rest.
    room: Arc<Semaphore>,
    kilobytes: usize,
    /// Another upload waits.
    came: Notify,
    unanswered: Arc<Unanswered>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Merge>,
    apart: Apart,
    is_served: bool,
}

/// An upload that has arrived.
struct Merge {
    request: IngestRequest,
    schema: SchemaRef,
    collected: Collected,
    keyed: Option<Keyed>,
    received: Instant,
    answer: oneshot::Sender<Result<Ack>>,
    span: tracing::Span,
    #[expect(dead_code, reason = "it is there to be dropped")]
    held: (Share, OwnedSemaphorePermit, Place),
}

impl MergeQueue {
    /// An empty one, for so many uploads, which wait for a place for so long, and a part of so many bytes.
    pub(crate) fn new(places: usize, budget_bytes: usize, wait: Duration) -> Self {
        let kilobytes = (budget_bytes / BUDGET_PART / 1024).max(1);
        let (places, room) = (Budget::new(places, wait), Arc::new(Semaphore::new(kilobytes)));
        let (state, came, unanswered) = (Mutex::default(), Notify::new(), Arc::default());
        Self { state, places, room, kilobytes, came, unanswered }
    }

    /// Uploads that wait, or that are being merged.
    pub(crate) fn queued(&self) -> usize {
        self.places.taken()
    }

    /// Queues an upload; true when there is nobody yet to serve it.
    fn push(&self, merge: Merge) -> bool {
        let mut state = self.state.lock();
        state.waiting.push_back(merge);
        self.came.notify_one();
        !mem::replace(&mut state.is_served, true)
    }

    /// Takes the first that waits, with all that can be merged together with it.
    fn next_group(&self) -> Option<Vec<Merge>> {
        let State { waiting, apart, .. } = &mut *self.state.lock();
        // Whose client has gone wants it no more.
        waiting.retain(|merge| !merge.answer.is_closed());
        let first = waiting.pop_front()?;
        let is_alone = apart.has(first.request.loader);
        let mut size = Size::default();
        size.add(first.collected.rows, first.collected.bytes);
        let mut group = vec![first];
        let mut passed = Passed::default();
        while !is_alone && let Some(next) = waiting.pop_front() {
            let joins = group[0].goes_with(&next) && !apart.has(next.request.loader);
            if !joins || passed.has_some_before(&next) {
                passed.add(next);
                continue;
            }
            size.add(next.collected.rows, next.collected.bytes);
            if size.is_complete() {
                waiting.push_front(next);
                break;
            }
            group.push(next);
        }
        passed.merges.into_iter().rev().for_each(|merge| waiting.push_front(merge));
        Some(group)
    }

    /// Has the next uploads of a loader merged alone, for a while.
    fn set_apart(&self, loader: u64) {
        self.state.lock().apart.set(loader);
    }

    /// Ends the service, unless something has come; from then on the next upload begins another.
    fn is_done(&self) -> bool {
        let mut state = self.state.lock();
        state.is_served = !state.waiting.is_empty();
        !state.is_served
    }

    /// Ends a service that cannot go on. Of what waits nothing is written.
    fn break_off(&self) {
        let mut state = self.state.lock();
        state.is_served = false;
        for merge in state.waiting.drain(..) {
            let _ = merge.answer.send(Err(Error::Stopping));
        }
    }
}

/// Uploads that stay in the queue while others behind them leave it.
#[derive(Default)]
struct Passed {
    merges: Vec<Merge>,
    connections: HashSet<u64>,
    loaders: HashSet<Arc<str>>,
}

impl Passed {
    fn add(&mut self, merge: Merge) {
        self.connections.insert(merge.request.loader);
        self.loaders.extend(merge.loader().cloned());
        self.merges.push(merge);
    }

    /// Whether one of them has to be committed before another upload.
    fn has_some_before(&self, merge: &Merge) -> bool {
        self.connections.contains(&merge.request.loader)
            || merge.loader().is_some_and(|loader| self.loaders.contains(loader))
    }
}

impl Engine {
    /// Gives an upload that is complete to those who merge.
    pub(super) async fn queue_merge(
        &self,
        request: &IngestRequest,
        schema: SchemaRef,
        collected: Collected,
        keyed: Option<Keyed>,
    ) -> Result<Pending> {
        let queue = &self.shared.merges;
        let wait = self.shared.options.wait;
        let place = queue.places.take(Sharer::new(request.loader), 1).await?;
        let kilobytes = (collected.bytes / 1024).min(queue.kilobytes) as u32;
        let room = permit::take(&queue.room, kilobytes, wait, || Error::QueueFull).await?;
        let (answer, answered) = oneshot::channel();
        let (received, span) = (Instant::now(), tracing::Span::current());
        let held = (place, room, queue.unanswered.add(request));
        let merge =
            Merge { request: request.clone(), schema, collected, keyed, received, answer, span, held };
        if queue.push(merge) {
            tokio::spawn(self.clone().serve_merges());
        }
        Ok(Pending::queued(answered))
    }

    /// Waits until a loader's uploads that were queued before are answered.
    pub(super) async fn merges_before(&self, request: &IngestRequest) {
        self.shared.merges.unanswered.none_before(request).await;
    }
}

impl Merge {
    fn goes_with(&self, other: &Self) -> bool {
        let asks = |merge: &Self| {
            let IngestRequest { if_missing, if_exists, new_columns, .. } = merge.request;
            (if_missing, if_exists, new_columns)
        };
        self.request.if_exists == IfExists::Append
            && !self.is_empty()
            && !other.is_empty()
            && asks(self) == asks(other)
            && self.request.table == other.request.table
            && self.request.names == other.request.names
            && self.request.merge == other.request.merge
            && self.schema == other.schema
    }

    /// What the writer has to know of it, and where the answer comes.
    fn part(&self) -> (Part, oneshot::Receiver<Result<Ack>>) {
        let Collected { rows, bytes, .. } = self.collected;
        let (answer, answered) = oneshot::channel();
        let part =
            Part { rows, bytes, loader: None, keyed: self.keyed.clone(), received: self.received, answer };
        (part, answered)
    }

    /// The name that it is known by in the ledger.
    fn loader(&self) -> Option<&Arc<str>> {
        self.keyed.as_ref().map(|keyed| &keyed.key.loader)
    }

    /// Without rows it has nothing to match, and is committed for its key or its table alone.
    fn is_empty(&self) -> bool {
        self.collected.rows == 0
    }
}
