//! The COMMIT of an upload that has appended on a connection of its own.

use std::{sync::Arc, time::Instant};

use super::{
    BulkCommit,
    actor::commit_error,
    committer::{Committer, now},
    doubt::{Doubt, Doubtful},
    duck::DuckStorage,
    storage::{Failure, Storage},
};
use crate::{
    engine::{
        Error, Result,
        append::Imports,
        ingest::Ack,
        ledger::{Ahead, Committed, Draft, Entry, Placed, compare_older},
    },
    metrics,
};

/// What the ledger says of a bulk upload.
enum Found {
    /// It is to be committed, with this entry where it has a key.
    New(Option<Entry>),
    /// It was committed before.
    Duplicate(Committed),
}

impl Committer<DuckStorage> {
    /// Takes the ledger as it is on disk; for a database that was opened again.
    pub(super) fn read_ledger(&mut self) -> Result<()> {
        let DuckStorage { ledger: table, own, .. } = &self.storage;
        table.look_again(&own.connection)?;
        let mut fresh = table.load(&own.connection)?;
        let mut ledger = self.ledger.lock();
        fresh.keep_counts_of(&ledger);
        *ledger = fresh;
        // What was in doubt may have been committed, under the number that would come next.
        self.commits = self.commits.max(ledger.highest_commit());
        Ok(())
    }

    /// Commits and answers, unless the database has to be opened again first.
    pub(super) fn commit_bulk(&mut self, bulk: BulkCommit) -> Result<(), Doubt> {
        let span = bulk.span.clone();
        let _entered = span.enter();
        let entry = match self.find(&bulk) {
            Ok(Found::New(entry)) => entry,
            Ok(Found::Duplicate(committed)) => {
                if let Some(keyed) = &bulk.keyed {
                    self.ledger.lock().count_duplicate(&keyed.key.loader);
                }
                answer(bulk, |bytes| Ok(Ack::of_duplicate(committed, bytes)));
                return Ok(());
            }
            Err(error) => {
                self.refuse_bulk(bulk, error);
                return Ok(());
            }
        };
        let started = Instant::now();
        match self.commit_on(&bulk, entry.as_slice()) {
            Ok(()) => {
                metrics::bulk_committed(bulk.rows, bulk.bytes, started.elapsed());
                self.record(entry.into_iter().collect());
                if let Some(keyed) = &bulk.keyed {
                    self.ledger.lock().note_lag(&keyed.key.loader, bulk.received.elapsed());
                }
                let (rows, commit) = (bulk.rows as u64, self.commits);
                answer(bulk, |bytes| Ok(Ack { rows, bytes, commit, committed: true, duplicate: false }));
                Ok(())
            }
            Err(failure) if failure.is_in_doubt() => {
                Err(Doubt { error: failure.error, in_doubt: vec![Doubtful::from(bulk)], untried: Vec::new() })
            }
            Err(failure) => {
                self.refuse_bulk(bulk, failure.error);
                Ok(())
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

    fn commit_on(&mut self, bulk: &BulkCommit, entries: &[Entry]) -> Result<(), Failure> {
        let DuckStorage { database, ledger, clock, .. } = &self.storage;
        if !entries.is_empty() {
            // The connection is the upload's own, so the writer's imports are of no use.
            ledger
                .append(&bulk.connection, &database.scans, &mut Imports::default(), entries)
                .map_err(Failure::whole)?;
        }
        let clock = Arc::clone(clock);
        let _writing = clock.writing();
        let committed = bulk.connection.execute("COMMIT");
        if bulk.creates {
            clock.schema_changed();
        }
        committed.map(|_| ()).map_err(|error| Failure::whole(commit_error(error.into())))
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
