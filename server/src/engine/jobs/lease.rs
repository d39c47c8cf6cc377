//! Which server is at a job: the one whose lease is in the book.
//!
//! A lease is known by the moment at which it ends. Nobody else can have written the same one: who takes over a lease
//! that has ended writes a later one. So the server that holds it needs no name.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;

use super::{
    again::again,
    book::{Book, Page, in_book},
};
use crate::engine::{Result, ffi::Connection};

/// A server that has begun a job and died is believed to be at it for so long.
const HELD: Duration = Duration::from_secs(15 * 60);

/// After so long a run that goes on renews its lease.
pub(super) const RENEWED_AFTER: Duration = Duration::from_secs(5 * 60);

/// A change in the book that others were faster than is tried this many times.
const TRIES: usize = 10;

/// The lease of one job, as far as this server has it.
pub(super) struct Lease {
    job: String,
    book: Arc<Book>,
    /// When it ends. Locked while it is changed in the book, so that the two tell the same.
    until: Mutex<Option<SystemTime>>,
}

impl Lease {
    pub(super) fn new(job: &str, book: Arc<Book>) -> Self {
        Self { job: job.to_owned(), book, until: Mutex::default() }
    }

    /// Takes the lease; false where another server has it, or, for a run by schedule, has just been at the job. One that
    /// this server could not give up is taken again.
    pub(super) fn take(
        &self,
        connection: &Connection,
        now: SystemTime,
        every: Option<Duration>,
    ) -> Result<bool> {
        let mut until = self.until.lock();
        let (ours, new) = (*until, in_book(now + HELD));
        let mut free = true;
        self.change(connection, |page| {
            let held = page.held_until.is_some_and(|until| until > now) && page.held_until != ours;
            // The schedules of two servers are not in step: half a period is soon.
            let recent = every.zip(page.begun_at).is_some_and(|(every, begun)| begun + every / 2 > now);
            free = !held && !recent;
            if free {
                (page.begun_at, page.held_until) = (Some(now), Some(new));
            }
        })?;
        if free {
            *until = Some(new);
        }
        Ok(free)
    }

    /// Lets it last longer, unless it is over.
    pub(super) fn renew(&self, connection: &Connection, now: SystemTime) -> Result<()> {
        let mut until = self.until.lock();
        let Some(ours) = *until else { return Ok(()) };
        let new = in_book(now + HELD);
        let still = self.change_ours(connection, ours, |page| page.held_until = Some(new))?;
        *until = still.then_some(new);
        Ok(())
    }

    /// Ends it, unless another server has taken the job over. After a run that has failed nobody waits for half a period.
    pub(super) fn end(&self, connection: &Connection, failed: bool) -> Result<()> {
        let mut until = self.until.lock();
        let Some(ours) = *until else { return Ok(()) };
        self.change_ours(connection, ours, |page| {
            page.held_until = None;
            if failed {
                page.begun_at = None;
            }
        })?;
        *until = None;
        Ok(())
    }

    /// Changes the row while the lease in it is still this server's; false where it is not.
    fn change_ours(
        &self,
        connection: &Connection,
        ours: SystemTime,
        mut change: impl FnMut(&mut Page),
    ) -> Result<bool> {
        let mut is_ours = true;
        self.change(connection, |page| {
            is_ours = page.held_until == Some(ours);
            if is_ours {
                change(page);
            }
        })?;
        if !is_ours {
            tracing::warn!(job = self.job, "another server has taken over a job that this one is at");
        }
        Ok(is_ours)
    }

    /// Changes the job's row in a transaction of its own, again while other servers are faster. It needs no turn: it
    /// is short, and nobody but jobs writes there.
    fn change(&self, connection: &Connection, mut change: impl FnMut(&mut Page)) -> Result<()> {
        again(TRIES, || self.book.change(connection, &self.job, &mut change))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Options, database::Database};

    const MINUTE: Duration = Duration::from_secs(60);
    const EVERY: Option<Duration> = Some(Duration::from_secs(40 * 60));

    /// Two servers that have the same job, and a connection to the catalog that they share.
    fn two(work: impl FnOnce(&Lease, &Lease, &Connection)) {
        let database = Arc::new(Database::open(&Options::default()).unwrap());
        let connection = database.private_connection().unwrap();
        let server = || {
            let book = Arc::new(Book::of(&database.catalog));
            book.ensure(&connection).unwrap();
            Lease::new("job", book)
        };
        work(&server(), &server(), &connection);
    }

    #[test]
    fn one_that_is_renewed_is_held_for_as_long_as_the_run_takes() {
        two(|one, other, connection| {
            let begun = SystemTime::now();
            assert!(one.take(connection, begun, None).unwrap());
            one.renew(connection, begun + 10 * MINUTE).unwrap();
            assert!(!other.take(connection, begun + 20 * MINUTE, None).unwrap());
            one.end(connection, false).unwrap();
            assert!(!other.take(connection, begun + 19 * MINUTE, EVERY).unwrap(), "just done");
            assert!(other.take(connection, begun + 19 * MINUTE, None).unwrap());
        });
    }

    #[test]
    fn one_that_was_taken_over_is_left_alone() {
        two(|one, other, connection| {
            let begun = SystemTime::now();
            assert!(one.take(connection, begun, None).unwrap());
            let later = begun + 16 * MINUTE;
            assert!(other.take(connection, later, None).unwrap(), "nobody has renewed it");
            one.renew(connection, later).unwrap();
            one.end(connection, true).unwrap();
            assert!(!one.take(connection, later, None).unwrap(), "the other is at it");
            other.end(connection, false).unwrap();
            assert!(one.take(connection, later, None).unwrap());
        });
    }

    #[test]
    fn a_run_that_failed_holds_the_next_one_not_up() {
        two(|one, other, connection| {
            let begun = SystemTime::now();
            assert!(one.take(connection, begun, EVERY).unwrap());
            one.end(connection, true).unwrap();
            assert!(other.take(connection, begun + MINUTE, EVERY).unwrap());
        });
    }

    #[test]
    fn one_that_could_not_be_given_up_is_taken_again() {
        two(|one, other, connection| {
            let begun = SystemTime::now();
            assert!(one.take(connection, begun, None).unwrap());
            assert!(!other.take(connection, begun + MINUTE, None).unwrap());
            assert!(one.take(connection, begun + MINUTE, None).unwrap());
        });
    }
}
