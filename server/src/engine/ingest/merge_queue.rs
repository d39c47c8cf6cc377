//! Uploads whose rows are matched by key, committed together.
//!
//! To look for a thousand keys in a table takes about as long as to look for eight thousand, and each merge waits for
//! the turn and for a COMMIT. So while one group of uploads is merged, the next is staged, and those behind it gather.
//! Uploads are staged together where they say the same of the same table with rows of the same schema: then the last row
//! of a key (or the first, where rows that are there are kept) is what is left if they come one after the other, too.
//! The uploads of one loader keep their order. Where a group fails by what may be one member's fault, its halves are
//! tried one after the other.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    mem,
    pin::pin,
    sync::Arc,
    time::Instant,
};

use arrow_schema::SchemaRef;
use futures::stream;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot},
    task::JoinHandle,
};

use super::{Ack, Collected, IfExists, IngestRequest, Pending, bulk, merge::Staged};
use tracing::Instrument;

use crate::engine::{
    Engine, Error, Result,
    error::Class,
    ledger::Keyed,
    permit,
    writer::{Part, Size},
};

/// What may wait here is the memory for uploads divided by this.
const BUDGET_PART: usize = 4;

/// The uploads that wait, and whether somebody serves them.
pub(crate) struct MergeQueue {
    state: Mutex<State>,
    places: Arc<Semaphore>,
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
    place: (OwnedSemaphorePermit, OwnedSemaphorePermit, Place),
}

/// How many uploads of each loader have no answer yet.
#[derive(Default)]
struct Unanswered {
    loaders: Mutex<HashMap<u64, usize>>,
    changed: Notify,
}

/// One of them.
struct Place {
    loader: u64,
    unanswered: Arc<Unanswered>,
}

impl Unanswered {
    fn add(self: &Arc<Self>, loader: u64) -> Place {
        *self.loaders.lock().entry(loader).or_default() += 1;
        Place { loader, unanswered: Arc::clone(self) }
    }

    async fn none_of(&self, loader: u64) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if !self.loaders.lock().contains_key(&loader) {
                return;
            }
            changed.await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut loaders = self.unanswered.loaders.lock();
        if let Entry::Occupied(mut count) = loaders.entry(self.loader) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
                self.unanswered.changed.notify_waiters();
            }
        }
    }
}

impl MergeQueue {
    /// An empty one, for so many uploads, and a part of so many bytes.
    pub(crate) fn new(places: usize, budget_bytes: usize) -> Self {
        let kilobytes = (budget_bytes / BUDGET_PART / 1024).max(1);
        let (places, room) = (Arc::new(Semaphore::new(places)), Arc::new(Semaphore::new(kilobytes)));
        let (state, came, unanswered) = (Mutex::default(), Notify::new(), Arc::default());
        Self { state, places, room, kilobytes, came, unanswered }
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
        let waiting = &mut self.state.lock().waiting;
        // Whose client has gone wants it no more.
        waiting.retain(|merge| !merge.answer.is_closed());
        let first = waiting.pop_front()?;
        let mut size = Size::default();
        size.add(first.collected.rows, first.collected.bytes);
        let mut group = vec![first];
        let mut passed: Vec<Merge> = Vec::new();
        while let Some(next) = waiting.pop_front() {
            size.add(next.collected.rows, next.collected.bytes);
            if size.is_complete() {
                waiting.push_front(next);
                break;
            }
            let keeps_order = !passed.iter().any(|passed| passed.is_of_loader_of(&next));
            match keeps_order && group[0].goes_with(&next) {
                true => group.push(next),
                false => passed.push(next),
            }
        }
        passed.into_iter().rev().for_each(|passed| waiting.push_front(passed));
        Some(group)
    }

    /// Ends the service, unless something has come; from then on the next upload begins another.
    fn is_done(&self) -> bool {
        let mut state = self.state.lock();
        state.is_served = !state.waiting.is_empty();
        !state.is_served
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
        let place = permit::take(&queue.places, 1, wait, || Error::QueueFull).await?;
        let kilobytes = (collected.bytes / 1024).min(queue.kilobytes) as u32;
        let room = permit::take(&queue.room, kilobytes, wait, || Error::QueueFull).await?;
        let (answer, answered) = oneshot::channel();
        let (received, span) = (Instant::now(), tracing::Span::current());
        let place = (place, room, queue.unanswered.add(request.loader));
        let merge =
            Merge { request: request.clone(), schema, collected, keyed, received, answer, span, place };
        if queue.push(merge) {
            tokio::spawn(self.clone().serve_merges());
        }
        Ok(Pending::queued(answered))
    }

    /// Waits until a loader's uploads that were queued before are answered.
    pub(super) async fn merges_before(&self, request: &IngestRequest) {
        self.shared.merges.unanswered.none_of(request.loader).await;
    }

    /// Merges group after group until nothing waits. One is staged while the one before it enters.
    async fn serve_merges(self) {
        let queue = &self.shared.merges;
        let mut service = Service { queue, is_done: false };
        let mut before: Option<JoinHandle<()>> = None;
        loop {
            if let Some(merges) = queue.next_group() {
                let staged = self.stage_group(&merges).await;
                if let Some(before) = before.take() {
                    let _ = before.await;
                }
                let span = merges[0].span.clone();
                before = Some(tokio::spawn(self.clone().settle(merges, staged).instrument(span)));
            } else if let Some(running) = &mut before {
                tokio::select! {
                    _ = running => before = None,
                    () = queue.came.notified() => {}
                }
            } else {
                service.is_done = queue.is_done();
                if service.is_done {
                    return;
                }
            }
        }
    }

    /// Merges a group and answers its members; where it fails, one half after the other.
    async fn settle(self, merges: Vec<Merge>, staged: Result<Option<Staged>>) {
        let mut groups = vec![(merges, Some(staged))];
        while let Some((mut merges, staged)) = groups.pop() {
            let was_ahead = staged.is_some();
            let staged = match staged {
                Some(staged) => staged,
                None => self.stage_group(&merges).await,
            };
            let outcomes = match staged {
                Ok(staged) => self.commit_group(&mut merges, staged).await,
                Err(error) => Err(error),
            };
            match outcomes {
                Ok(outcomes) => {
                    let answers = merges.into_iter().zip(outcomes);
                    answers.for_each(|(merge, outcome)| drop(merge.answer.send(outcome)));
                }
                // The table may be another since the group was staged, ahead of the one before it.
                Err(error) if was_ahead && error.class() == Some(Class::Conflict) => {
                    groups.push((merges, None));
                }
                Err(error) if merges.len() > 1 && may_be_of_one(&error) => {
                    tracing::debug!(%error, uploads = merges.len(), "a group of merges is divided");
                    let later = merges.split_off(merges.len() / 2);
                    groups.extend([(later, None), (merges, None)]);
                }
                Err(error) => self.refuse(merges, &error).await,
            }
        }
    }

    /// Puts the rows of a group into a temporary table, if it has any.
    async fn stage_group(&self, merges: &[Merge]) -> Result<Option<Staged>> {
        let Merge { request, schema, .. } = &merges[0];
        if merges[0].is_empty() {
            return Ok(None);
        }
        let mut collected = merges[0].collected.copy();
        merges[1..].iter().for_each(|merge| collected.extend(merge.collected.copy()));
        let staged = self.stage_merge(request, schema, collected, &mut stream::empty()).await?;
        Ok(Some(staged))
    }

    /// Brings a group into its table and commits it, in one transaction. Gives an outcome for each member.
    async fn commit_group(&self, merges: &mut [Merge], staged: Option<Staged>) -> Result<Vec<Result<Ack>>> {
        let writer = self.shared.writer.as_ref().ok_or(Error::ReadOnly)?;
        let (request, schema) = (merges[0].request.clone(), Arc::clone(&merges[0].schema));
        let Some(staged) = staged else {
            let (collected, keyed) = (merges[0].collected.take(), merges[0].keyed.clone());
            let queued = self.queue_append(writer, &request, schema, collected, keyed).await?;
            return Ok(vec![Ok(queued.committed().await?)]);
        };
        self.admit_bulk(writer, merges.iter().any(|merge| merge.keyed.is_some())).await?;
        // What it has waited for the groups before it counts.
        let patience = self.shared.options.wait.saturating_sub(merges[0].received.elapsed());
        let uploaded = self.enter_merge(&request, &schema, staged, patience).await?;
        let (parts, answers): (Vec<_>, Vec<_>) = merges.iter().map(Merge::part).unzip();
        bulk::commit_parts(writer, uploaded, &self.full_name(&request), parts).await?;
        let mut outcomes = Vec::new();
        for answer in answers {
            outcomes.push(Pending::queued(answer).committed().await);
        }
        // All or none of it is committed.
        match outcomes.first() {
            Some(Err(error)) if may_be_of_one(error) => Err(error.clone()),
            _ => Ok(outcomes),
        }
    }

    async fn refuse(&self, merges: Vec<Merge>, error: &Error) {
        for merge in merges {
            // Its first copy may have been committed meanwhile, and have made the table.
            let known = self.repeated(merge.keyed.as_ref(), merge.collected.bytes).await;
            let outcome = known.and_then(|known| known.ok_or_else(|| error.clone()));
            let _ = merge.answer.send(outcome);
        }
    }
}

/// Whether a group may fail so because of one of its members.
fn may_be_of_one(error: &Error) -> bool {
    match error {
        Error::SchemaMismatch(_) | Error::BadArrow(_) | Error::Internal(_) | Error::NotTogether => true,
        Error::Duck { class, .. } => {
            !matches!(class, Class::Fatal | Class::Down | Class::DiskFull | Class::Interrupted)
        }
        _ => false,
    }
}

/// Should the service break off, those that wait learn of it, and the next upload begins another.
struct Service<'a> {
    queue: &'a MergeQueue,
    is_done: bool,
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            let mut state = self.queue.state.lock();
            state.waiting.clear();
            state.is_served = false;
        }
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
        (Part { rows, bytes, keyed: self.keyed.clone(), received: self.received, answer }, answered)
    }

    fn is_of_loader_of(&self, other: &Self) -> bool {
        let name = |merge: &Self| merge.keyed.as_ref().map(|keyed| Arc::clone(&keyed.key.loader));
        self.request.loader == other.request.loader
            || name(self).is_some_and(|mine| Some(mine) == name(other))
    }

    /// Without rows it has nothing to match, and is committed for its key or its table alone.
    fn is_empty(&self) -> bool {
        self.collected.rows == 0
    }
}
