//! Takes groups of uploads from the queue, stages and merges them, and answers.
//!
//! What cannot be committed with the others is told apart before the table is touched. Where a group fails by what may
//! be one member's fault, its halves are tried one after the other.

use std::sync::Arc;

use futures::stream;
use tokio::task::JoinHandle;
use tracing::Instrument;

use super::{Merge, MergeQueue};
use crate::engine::{
    Engine, Error, Result,
    error::Class,
    ingest::{Ack, Pending, bulk::Uploaded, merge::Staged},
    ledger::{Ahead, Draft, Placed},
    writer::{Part, WriterHandle, may_be_of_one},
};

/// Uploads that are to be committed together.
struct Group {
    merges: Vec<Merge>,
    /// Their rows, where they were staged while the group before was merged.
    staged: Option<Result<Option<Staged>>>,
}

impl Group {
    fn of(merges: Vec<Merge>) -> Self {
        Self { merges, staged: None }
    }
}

impl Engine {
    /// Merges group after group until nothing waits. One is staged while the one before it enters.
    pub(super) async fn serve_merges(self) {
        let queue = &self.shared.merges;
        let mut service = Service { queue, is_done: false };
        let mut before: Option<JoinHandle<()>> = None;
        loop {
            if let Some(merges) = queue.next_group() {
                let span = merges[0].span.clone();
                let mut staged = self.stage_group(&merges).instrument(span.clone()).await;
                if let Some(mut before) = before.take() {
                    let settled = async { Ok((&mut before).await.is_ok()) };
                    if let Err(error) = self.shared.database.while_open(settled).await {
                        // What is staged is a part of the instance that has failed, and the group before may be waiting
                        // for the next one.
                        staged = Err(error);
                        let _ = before.await;
                    }
                }
                let group = Group { merges, staged: Some(staged) };
                before = Some(tokio::spawn(self.clone().settle(group).instrument(span)));
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

    /// Merges a group and answers its members, in as many steps as it takes.
    async fn settle(self, group: Group) {
        let Some(writer) = &self.shared.writer else { return };
        let mut groups = vec![group];
        while let Some(Group { merges, staged }) = groups.pop() {
            let members = merges.len();
            match self.tell_apart(writer, merges).await {
                Ok((here, later)) => {
                    groups.extend((!later.is_empty()).then(|| Group::of(later)));
                    // Among what is staged are the rows of those that are no longer in the group.
                    let staged = if here.len() == members { staged } else { None };
                    if !here.is_empty() {
                        groups.extend(self.merge_group(writer, Group { merges: here, staged }).await);
                    }
                }
                Err((merges, error)) => self.refuse(merges, &error).await,
            }
        }
    }

    /// Answers those that need no commit, or can have none. Gives those that can be committed together now, and those
    /// that can be judged only afterwards.
    async fn tell_apart(
        &self,
        writer: &WriterHandle,
        merges: Vec<Merge>,
    ) -> Result<(Vec<Merge>, Vec<Merge>), (Vec<Merge>, Error)> {
        if self.places_of(&merges).iter().all(|place| matches!(place, Ok(Placed::Here))) {
            return Ok((merges, Vec::new()));
        }
        // What they lack may be in the writer's queue.
        if let Err(error) = writer.catch_up().await {
            return Err((merges, error));
        }
        let (mut here, mut later) = (Vec::new(), Vec::new());
        let places = self.places_of(&merges);
        for (merge, place) in merges.into_iter().zip(places) {
            match place {
                Ok(Placed::Here) => here.push(merge),
                Ok(Placed::Later) => later.push(merge),
                Ok(Placed::Known(_) | Placed::Older) => {
                    match self.repeated(merge.keyed.as_ref(), merge.collected.bytes).await.transpose() {
                        Some(outcome) => drop(merge.answer.send(outcome)),
                        None => later.push(merge),
                    }
                }
                Err(error) => drop(merge.answer.send(Err(error))),
            }
        }
        Ok((here, later))
    }

    /// What the ledger says of each, as it is now.
    fn places_of(&self, merges: &[Merge]) -> Vec<Result<Placed>> {
        let ledger = self.shared.ledger.lock();
        let mut ahead = Ahead::default();
        let mut draft = Draft::new(&ledger, &mut ahead, ledger.highest_commit() + 1, 0);
        let place = |merge: &Merge| match &merge.keyed {
            Some(keyed) => draft.place(keyed, &merge.request.table.table, merge.collected.rows as u64),
            None => Ok(Placed::Here),
        };
        merges.iter().map(place).collect()
    }

    /// Merges a group and answers its members. Gives what is still to be tried, the last one first.
    async fn merge_group(&self, writer: &WriterHandle, group: Group) -> Vec<Group> {
        let Group { mut merges, staged } = group;
        let was_ahead = staged.is_some();
        let staged = match staged {
            Some(staged) => staged,
            None => self.stage_group(&merges).await,
        };
        let outcomes = match staged {
            Ok(staged) => self.commit_group(writer, &mut merges, staged).await,
            Err(error) => Err(error),
        };
        match outcomes {
            Ok(outcomes) => {
                let answers = merges.into_iter().zip(outcomes);
                answers.for_each(|(merge, outcome)| drop(merge.answer.send(outcome)));
                Vec::new()
            }
            // Some were committed meanwhile over other connections.
            Err(Error::NotTogether) => vec![Group::of(merges)],
            // The table may be another since the group was staged, ahead of the one before it.
            Err(error) if was_ahead && error.class() == Some(Class::Conflict) => vec![Group::of(merges)],
            Err(error) if merges.len() > 1 && may_be_of_one(&error) => {
                tracing::debug!(%error, uploads = merges.len(), "a group of merges is divided");
                let later = merges.split_off(merges.len() / 2);
                vec![Group::of(later), Group::of(merges)]
            }
            Err(error) => {
                self.refuse(merges, &error).await;
                Vec::new()
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
        let mut nothing_more = stream::empty();
        let staging = self.stage_merge(request, schema, collected, &mut nothing_more);
        self.shared.database.while_open(staging).await.map(Some)
    }

    /// Brings a group into its table and commits it, in one transaction. Gives an outcome for each member.
    async fn commit_group(
        &self,
        writer: &WriterHandle,
        merges: &mut [Merge],
        staged: Option<Staged>,
    ) -> Result<Vec<Result<Ack>>> {
        let (request, schema) = (merges[0].request.clone(), Arc::clone(&merges[0].schema));
        let Some(staged) = staged else {
            let (collected, keyed) = (merges[0].collected.take(), merges[0].keyed.clone());
            let queued = self.queue_append(writer, &request, schema, collected, keyed).await?;
            return Ok(vec![Ok(queued.committed().await?)]);
        };
        // To wait for the turn, and with it what is staged, must not keep a failed instance from being closed.
        let entering = self.enter_group(writer, merges, staged);
        let uploaded = self.shared.database.while_open(entering).await?;
        let (parts, answers): (Vec<Part>, Vec<_>) = merges.iter().map(Merge::part).unzip();
        self.commit_parts(writer, uploaded, &self.full_name(&request), parts).await?;
        let mut outcomes = Vec::new();
        for answer in answers {
            outcomes.push(Pending::queued(answer).committed().await);
        }
        // All or none of it is committed.
        match outcomes.first() {
            Some(Err(error)) if may_be_of_one(error) || matches!(error, Error::NotTogether) => {
                Err(error.clone())
            }
            _ => Ok(outcomes),
        }
    }

    /// Brings a group into its table.
    async fn enter_group(&self, writer: &WriterHandle, merges: &[Merge], staged: Staged) -> Result<Uploaded> {
        let Merge { request, schema, received, .. } = &merges[0];
        self.admit_bulk(writer, merges.iter().any(|merge| merge.keyed.is_some())).await?;
        // What it has waited for the groups before it counts.
        let patience = self.shared.options.wait.saturating_sub(received.elapsed());
        self.enter_merge(request, schema, staged, patience).await
    }

    async fn refuse(&self, merges: Vec<Merge>, error: &Error) {
        for merge in merges {
            if may_be_of_one(error) {
                self.shared.merges.set_apart(merge.request.loader);
            }
            // Its first copy may have been committed meanwhile, and have made the table.
            let known = self.repeated(merge.keyed.as_ref(), merge.collected.bytes).await;
            let outcome = known.and_then(|known| known.ok_or_else(|| error.clone()));
            let _ = merge.answer.send(outcome);
        }
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
            self.queue.break_off();
        }
    }
}
