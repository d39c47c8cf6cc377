//! The COMMIT of an upload that has appended on a connection of its own.

use std::time::Instant;

use super::{
    BulkCommit,
    committer::{CONFLICT_TRIES, Committer, OVERTAKEN_TRIES, now},
    doubt::{Doubt, Doubtful},
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
    /// It was not committed before; with the entry for it where it has a key.
    New(Option<Entry>),
    /// It was committed before.
    Duplicate(Committed),
}

impl<S: Storage> Committer<S> {
    /// Commits and answers, unless the database has to be opened again first.
    pub(crate) fn commit_bulk(&mut self, bulk: BulkCommit) -> Result<(), Doubt> {
        let span = bulk.span.clone();
        let _entered = span.enter();
        let started = Instant::now();
        match self.try_bulk(&bulk) {
            Ok(Found::New(entry)) => {
                metrics::bulk_committed(bulk.rows, bulk.bytes, started.elapsed());
                self.record(entry.into_iter().collect());
                if let Some(keyed) = &bulk.keyed {
                    self.ledger.lock().note_lag(&keyed.key.loader, bulk.received.elapsed());
                }
                let (rows, commit) = (bulk.rows as u64, self.commits);
                answer(bulk, |bytes| Ok(Ack { rows, bytes, commit, committed: true, duplicate: false }));
            }
            Ok(Found::Duplicate(committed)) => {
                if let Some(keyed) = &bulk.keyed {
                    self.ledger.lock().count_duplicate(&keyed.key.loader);
                }
                answer(bulk, |bytes| Ok(Ack::of_duplicate(committed, bytes)));
            }
            Err(failure) if failure.is_in_doubt() => {
                let in_doubt = vec![Doubtful::from(bulk)];
                return Err(Doubt { error: failure.error, in_doubt, untried: Vec::new() });
            }
            Err(failure) => self.refuse_bulk(bulk, failure.error),
        }
        Ok(())
    }

    /// Judges, and commits what is new, again while others are faster.
    fn try_bulk(&mut self, bulk: &BulkCommit) -> Result<Found, Failure> {
        let (mut overtaken, mut conflicts) = (0, 0);
        let mut may_be_behind = self.storage.is_shared();
        loop {
            let entry = match self.find(bulk) {
                Ok(Found::New(entry)) => entry,
                Ok(Found::Duplicate(committed)) => return Ok(Found::Duplicate(committed)),
                // The units before it may have reached another server.
                Err(Error::SequenceGap { .. }) if std::mem::take(&mut may_be_behind) => {
                    self.catch_up().map_err(Failure::whole)?;
                    continue;
                }
                Err(error) => return Err(Failure::whole(error)),
            };
            match self.storage.commit_bulk(bulk, entry.as_slice()) {
                Ok(()) => return Ok(Found::New(entry)),
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
        let Some(keyed) = &bulk.keyed else { return Ok(Found::New(None)) };
        let known = {
            let ledger = self.ledger.lock();
            let mut ahead = Ahead::default();
            let mut draft = Draft::new(&ledger, &mut ahead, self.commits + 1, now());
            match draft.place(keyed, &bulk.table, bulk.rows as u64)? {
                Placed::Here | Placed::Later => {
                    return Ok(Found::New(draft.into_entries().pop()));
                }
                Placed::Known(committed) => Some(committed),
                Placed::Older => None,
            }
        };
        let known = match known {
            Some(committed) => Some(committed),
            None => self.storage.look_up(&keyed.key)?,
        };
        let expected = self.ledger.lock().expected(&keyed.key.loader);
        compare_older(keyed, known, expected).map(Found::Duplicate)
    }

    fn refuse_bulk(&self, bulk: BulkCommit, error: Error) {
        if let Some(keyed) = &bulk.keyed {
            self.ledger.lock().count_failure(&keyed.key.loader);
        }
        answer(bulk, |_| Err(error));
    }
}

/// Ends the upload's transaction, where it is still open, before its client goes on.
fn answer(bulk: BulkCommit, outcome: impl FnOnce(u64) -> Result<Ack>) {
    let BulkCommit { connection, bytes, answer, held, .. } = bulk;
    drop(connection);
    drop(held);
    let _ = answer.send(outcome(bytes as u64));
}
