//! The COMMIT of an upload that has appended on a connection of its own.

use std::time::Instant;

use super::{
    BulkCommit, Part,
    committer::{CONFLICT_TRIES, Committer, OVERTAKEN_TRIES, now},
    doubt::Doubt,
    storage::{Failure, Storage},
};
use crate::{
    engine::{
        Error, Result,
        ingest::Ack,
        ledger::{Ahead, Committed, Draft, Entry, Placed, compare_older},
    },
    metrics,
};

/// What the ledger says of a bulk upload.
enum Found {
    /// It was not committed before; with the entries for what has a key.
    New(Vec<Entry>),
    /// It was committed before.
    Duplicate(Committed),
    /// Of several, one was committed before, or cannot be. They have to be tried one after the other.
    Apart,
}

impl<S: Storage> Committer<S> {
    /// Commits and answers, unless the database has to be opened again first.
    pub(crate) fn commit_bulk(&mut self, bulk: BulkCommit) -> Result<(), Doubt> {
        let span = bulk.span.clone();
        let _entered = span.enter();
        let started = Instant::now();
        match self.try_bulk(&bulk) {
            Ok(Found::New(entries)) => {
                self.record(entries);
                self.acknowledge_bulk(bulk, started);
            }
            Ok(Found::Duplicate(committed)) => {
                for keyed in bulk.parts.iter().filter_map(|part| part.keyed.as_ref()) {
                    self.ledger.lock().count_duplicate(&keyed.key.loader);
                }
                answer(bulk, |part| Ok(Ack::of_duplicate(committed, part.bytes as u64)));
            }
            Ok(Found::Apart) => answer(bulk, |_| Err(Error::NotTogether)),
            Err(failure) if failure.is_in_doubt() => return Err(Doubt::of_bulk(failure.error, bulk)),
            Err(failure) => answer(bulk, |_| Err(failure.error.clone())),
        }
        Ok(())
    }

    fn acknowledge_bulk(&self, bulk: BulkCommit, started: Instant) {
        let (mut rows, mut bytes) = (0, 0);
        for part in &bulk.parts {
            rows += part.rows;
            bytes += part.bytes;
            if let Some(keyed) = &part.keyed {
                self.ledger.lock().note_lag(&keyed.key.loader, part.received.elapsed());
            }
        }
        metrics::bulk_committed(bulk.parts.len(), rows, bytes, started.elapsed());
        let commit = self.commits;
        answer(bulk, |part| {
            let (rows, bytes) = (part.rows as u64, part.bytes as u64);
            Ok(Ack { rows, bytes, commit, committed: true, duplicate: false })
        });
    }

    /// Judges, and commits what is new, again while others are faster.
    fn try_bulk(&mut self, bulk: &BulkCommit) -> Result<Found, Failure> {
        let (mut overtaken, mut conflicts) = (0, 0);
        let mut may_be_behind = self.storage.is_shared();
        loop {
            let entries = match self.find(bulk) {
                Ok(Found::New(entries)) => entries,
                Ok(other) => return Ok(other),
                // The units before it may have reached another server.
                Err(Error::SequenceGap { .. }) if std::mem::take(&mut may_be_behind) => {
                    self.catch_up().map_err(Failure::whole)?;
                    continue;
                }
                Err(error) => return Err(Failure::whole(error)),
            };
            match self.storage.commit_bulk(bulk, &entries) {
                Ok(()) => return Ok(Found::New(entries)),
                Err(failure) if failure.is_overtaken() && overtaken < OVERTAKEN_TRIES => {
                    overtaken += 1;
                    self.catch_up().map_err(Failure::whole)?;
                }
                // What is staged can be brought in again.
                Err(failure)
                    if failure.is_conflict() && bulk.enter.is_some() && conflicts < CONFLICT_TRIES =>
                {
                    conflicts += 1;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    fn find(&mut self, bulk: &BulkCommit) -> Result<Found> {
        let (placed, keyed) = {
            let ledger = self.ledger.lock();
            let mut ahead = Ahead::default();
            let mut draft = Draft::new(&ledger, &mut ahead, self.commits + 1, now());
            let keyed = bulk.parts.iter().filter_map(|part| Some((part.keyed.as_ref()?, part.rows as u64)));
            let mut places = keyed.map(|(keyed, rows)| (draft.place(keyed, &bulk.table, rows), keyed));
            match places.find(|(placed, _)| !matches!(placed, Ok(Placed::Here))) {
                None => {
                    drop(places);
                    return Ok(Found::New(draft.into_entries()));
                }
                Some(_) if bulk.parts.len() > 1 => return Ok(Found::Apart),
                Some((placed, keyed)) => (placed?, keyed),
            }
        };
        let known = match placed {
            Placed::Known(committed) => Some(committed),
            Placed::Here | Placed::Later | Placed::Older => self.storage.look_up(&keyed.key)?,
        };
        let expected = self.ledger.lock().expected(&keyed.key.loader);
        compare_older(keyed, known, expected).map(Found::Duplicate)
    }
}

/// Ends the upload's transaction, where it is still open, before its clients go on.
fn answer(bulk: BulkCommit, outcome: impl Fn(&Part) -> Result<Ack>) {
    let BulkCommit { connection, held, parts, .. } = bulk;
    drop((connection, held));
    for part in parts {
        let outcome = outcome(&part);
        let _ = part.answer.send(outcome);
    }
}
