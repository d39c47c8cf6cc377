//! Which server is at a job: the one whose lease is in the table of runs.
//!
//! A lease is known by the moment at which it ends, which is drawn to a microsecond, so that two servers hardly write the
//! same one, even by the same clock. So the server that holds it needs no name.
//!
//! In a file that no other process can have open at the same time, a lease was left behind by one that is dead, or is this
//! server's own, and holds nobody up.
//!
//! In a lake each change of that table is a snapshot. So a run looks first, and takes the lease only once it has something
//! to write.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{
    retry::retry_conflicts,
    runs::{RunRecord, Runs},
    status::LastRun,
    table::as_stored,
};
use crate::engine::{Result, ffi::Connection};

/// The clocks of two servers may differ by so much. What lies further ahead was written by one that was wrong, and would
/// stop a job for as long as it was.
pub(super) const SKEW: Duration = Duration::from_secs(5 * 60);

/// A server that has begun a job and died is believed to be at it for so long.
const HELD: Duration = Duration::from_secs(15 * 60);

/// The end of a lease is put off by less than this, to be nobody else's.
const DRAWN_MICROS: u64 = 1_000_000;

/// After so long a run that goes on renews its lease.
pub(super) const RENEWED_AFTER: Duration = Duration::from_secs(5 * 60);

/// A change in the table of runs that others were faster than is tried this many times.
const TRIES: u32 = 10;

/// The lease of one job, as far as this server has it.
pub(super) struct Lease {
    job: String,
    runs: Arc<Runs>,
    stop: CancellationToken,
    /// When it ends; more than one moment where an answer was lost, so that any of them may be in the table; none
    /// where this server does not have it. Locked while it is changed there, so that the two tell the same.
    ends: Mutex<Vec<SystemTime>>,
}

impl Lease {
    /// That of a job. Once `stop` is cancelled, a change that others were faster than is not tried again.
    pub(super) fn new(job: &str, runs: Arc<Runs>, stop: CancellationToken) -> Self {
        Self { job: job.to_owned(), runs, stop, ends: Mutex::default() }
    }

    /// Whether the lease could be taken now, by a look that writes nothing.
    pub(super) fn is_free(
        &self,
        connection: &Connection,
        now: SystemTime,
        every: Option<Duration>,
    ) -> Result<bool> {
        let ends = self.ends.lock();
        Ok(self.may_take(&self.runs.look(connection, &self.job)?, &ends, now, every))
    }

    /// Takes the lease; false where another server has it, or, for a run by schedule, has just been at the job. One that
    /// this server could not give up is taken again.
    pub(super) fn take(
        &self,
        connection: &Connection,
        now: SystemTime,
        every: Option<Duration>,
    ) -> Result<bool> {
        self.ensure(connection)?;
        self.take_until(connection, now, every, ending(now))
    }

    fn take_until(
        &self,
        connection: &Connection,
        now: SystemTime,
        every: Option<Duration>,
        new: SystemTime,
    ) -> Result<bool> {
        let mut ends = self.ends.lock();
        let mut free = true;
        let changed = self.change(connection, |record| {
            // Where the answer to a COMMIT was lost, this is another try, and the lease is there.
            free = record.held_until == Some(new) || self.may_take(record, &ends, now, every);
            if free {
                (record.begun_at, record.held_until) = (Some(now), Some(new));
            }
        });
        if free {
            note(&mut ends, new, changed.is_ok());
        }
        changed.map(|()| free)
    }

    /// Lets it last longer, unless it is over.
    pub(super) fn renew(&self, connection: &Connection, now: SystemTime) -> Result<()> {
        let mut ends = self.ends.lock();
        if ends.is_empty() {
            return Ok(());
        }
        let new = ending(now);
        // From here on it may be there.
        ends.push(new);
        if self.change_ours(connection, &ends, |record| record.held_until = Some(new))? {
            note(&mut ends, new, true);
        } else {
            ends.clear();
        }
        Ok(())
    }

    /// Ends it and tells of the run, unless another server has taken the job over. After a run that has failed nobody waits
    /// for half a period.
    pub(super) fn end(&self, connection: &Connection, last: &LastRun) -> Result<()> {
        let mut ends = self.ends.lock();
        if ends.is_empty() {
            return Ok(());
        }
        self.change_ours(connection, &ends, |record| {
            record.held_until = None;
            if last.has_failed() {
                record.begun_at = None;
            }
            record.last = Some(last.as_stored());
        })?;
        ends.clear();
        Ok(())
    }

    /// Tells of a run that has taken no lease, where it ended otherwise than the one of which the catalog tells: the first
    /// of runs that fail with the same error, and the first that goes well again. Of all others nothing is written.
    pub(super) fn tell(&self, connection: &Connection, last: &LastRun) -> Result<()> {
        let is_news = |record: &RunRecord| last.is_news_after(record.last.as_ref());
        if !is_news(&self.runs.look(connection, &self.job)?) {
            return Ok(());
        }
        self.ensure(connection)?;
        self.change(connection, |record| {
            if is_news(record) {
                record.last = Some(last.as_stored());
            }
        })
    }

    /// Whether the lease in this record may be taken by this server, whose own ends at one of these moments.
    fn may_take(
        &self,
        record: &RunRecord,
        ours: &[SystemTime],
        now: SystemTime,
        every: Option<Duration>,
    ) -> bool {
        let longest = now + HELD + Duration::from_micros(DRAWN_MICROS) + SKEW;
        let is_held = |until: SystemTime| until > now && until <= longest && !ours.contains(&until);
        let held = self.runs.is_shared() && record.held_until.is_some_and(is_held);
        // The schedules of two servers are not in step: half a period is soon.
        let recent = every
            .zip(record.begun_at)
            .is_some_and(|(every, begun)| begun + every / 2 > now && begun <= now + SKEW);
        !held && !recent
    }

    /// Changes the row while the lease in it is still this server's; false where it is not.
    fn change_ours(
        &self,
        connection: &Connection,
        ours: &[SystemTime],
        mut change: impl FnMut(&mut RunRecord),
    ) -> Result<bool> {
        let mut is_ours = true;
        self.change(connection, |record| {
            is_ours = record.held_until.is_some_and(|until| ours.contains(&until));
            if is_ours {
                change(record);
            }
        })?;
        if !is_ours {
            tracing::warn!(job = self.job, "another server has taken over a job that this one is at");
        }
        Ok(is_ours)
    }

    /// Makes the table of runs where it is not there yet, again while others make something beside it, such as the ledger.
    fn ensure(&self, connection: &Connection) -> Result<()> {
        retry_conflicts(&self.stop, TRIES, || self.runs.ensure(connection))
    }

    /// Changes the job's row in a transaction of its own, again while other servers are faster. It needs no turn: it
    /// is short, and nobody but jobs writes there.
    fn change(&self, connection: &Connection, mut change: impl FnMut(&mut RunRecord)) -> Result<()> {
        retry_conflicts(&self.stop, TRIES, || self.runs.change(connection, &self.job, &mut change))
    }
}

/// When a lease ends that begins now.
fn ending(now: SystemTime) -> SystemTime {
    as_stored(now + HELD + Duration::from_micros(fastrand::u64(..DRAWN_MICROS)))
}

/// Notes an end that is in the table, or that may be there besides the others.
fn note(ends: &mut Vec<SystemTime>, new: SystemTime, is_there: bool) {
    if is_there {
        ends.clear();
    }
    ends.push(new);
}

#[cfg(test)]
mod tests {
    use super::{
        super::watermarks::{Scope, Watermarks},
        *,
    };
    use crate::engine::{Options, database::Database};

    const MINUTE: Duration = Duration::from_secs(60);
    const EVERY: Option<Duration> = Some(Duration::from_secs(40 * 60));

    fn runs(database: &Database) -> Runs {
        Runs::of(&database.catalog, true, Arc::new(Watermarks::of(&database.catalog)))
    }

    fn run(begun: SystemTime, outcome: &str) -> LastRun {
        let (outcome, detail) = (outcome.to_owned(), "it's over".to_owned());
        LastRun { begun: as_stored(begun), took: MINUTE, outcome, detail, changed: 3 }
    }

    /// Two servers that have the same job, and a connection to the catalog that they share.
    fn two(work: impl FnOnce(&Lease, &Lease, &Connection)) {
        let database = Arc::new(Database::open(&Options::default()).unwrap());
        let connection = database.private_connection().unwrap();
        let server = || {
            let runs = runs(&database);
            runs.ensure(&connection).unwrap();
            Lease::new("job", Arc::new(runs), CancellationToken::new())
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
            one.end(connection, &run(begun, "done")).unwrap();
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
            one.end(connection, &run(begun, "failed")).unwrap();
            assert!(!one.take(connection, later, None).unwrap(), "the other is at it");
            other.end(connection, &run(begun, "done")).unwrap();
            assert!(one.take(connection, later, None).unwrap());
        });
    }

    #[test]
    fn one_that_a_dead_process_left_in_a_file_of_this_one_alone_holds_nobody_up() {
        let database = Arc::new(Database::open(&Options::default()).unwrap());
        let connection = database.private_connection().unwrap();
        let (begun, catalog) = (SystemTime::now(), &database.catalog);
        let process = || {
            let runs = Runs::of(catalog, false, Arc::new(Watermarks::of(catalog)));
            Lease::new("job", Arc::new(runs), CancellationToken::new())
        };
        let (dead, next) = (process(), process());
        assert!(dead.take(&connection, begun, None).unwrap());
        assert!(next.is_free(&connection, begun + MINUTE, None).unwrap());
        assert!(next.take(&connection, begun + MINUTE, None).unwrap());
        next.end(&connection, &run(begun + MINUTE, "done")).unwrap();
        assert!(!process().take(&connection, begun + 2 * MINUTE, EVERY).unwrap(), "just done");
    }

    #[test]
    fn one_of_a_clock_that_was_far_ahead_holds_nobody_up() {
        two(|one, other, connection| {
            let now = SystemTime::now();
            assert!(one.take(connection, now + SKEW, EVERY).unwrap());
            assert!(!other.take(connection, now, None).unwrap(), "clocks may differ a little");
            assert!(!other.take(connection, now, EVERY).unwrap());
            assert!(one.take(connection, now + SKEW + MINUTE, None).unwrap());
            assert!(other.take(connection, now, EVERY).unwrap());
        });
    }

    #[test]
    fn a_run_of_a_clock_that_was_far_ahead_holds_the_next_one_not_up() {
        two(|one, other, connection| {
            let (now, ahead) = (SystemTime::now(), SystemTime::now() + 1000 * MINUTE);
            assert!(one.take(connection, ahead, EVERY).unwrap());
            one.end(connection, &run(ahead, "done")).unwrap();
            assert!(other.take(connection, now, EVERY).unwrap());
        });
    }

    #[test]
    fn a_run_that_failed_holds_the_next_one_not_up() {
        two(|one, other, connection| {
            let begun = SystemTime::now();
            assert!(one.take(connection, begun, EVERY).unwrap());
            one.end(connection, &run(begun, "failed")).unwrap();
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

    #[test]
    fn one_that_was_taken_without_an_answer_is_taken_again() {
        two(|one, unaware, connection| {
            let begun = SystemTime::now();
            let until = ending(begun);
            assert!(one.take_until(connection, begun, EVERY, until).unwrap());
            assert!(!unaware.take(connection, begun, EVERY).unwrap());
            assert!(unaware.take_until(connection, begun, EVERY, until).unwrap());
            unaware.end(connection, &run(begun, "done")).unwrap();
        });
    }

    #[test]
    fn one_is_renewed_while_the_rows_of_its_run_enter() {
        let database = Arc::new(Database::open(&Options::default()).unwrap());
        let [running, renewing] = [(); 2].map(|()| database.private_connection().unwrap());
        let watermarks = Arc::new(Watermarks::of(&database.catalog));
        let runs = Arc::new(Runs::of(&database.catalog, true, Arc::clone(&watermarks)));
        runs.ensure(&running).unwrap();
        let server = || Lease::new("job", Arc::clone(&runs), CancellationToken::new());
        let (one, other, begun) = (server(), server(), SystemTime::now());
        assert!(one.take(&running, begun, None).unwrap());
        let scope = Scope { target: "t".into(), incremental: "id".into() };
        // The transaction of the rows is open, and has changed the watermarks.
        watermarks
            .transaction(&running, || {
                watermarks.write(&running, "job", "1", &scope)?;
                one.renew(&renewing, begun + 10 * MINUTE)?;
                assert!(!other.take(&renewing, begun + 20 * MINUTE, None)?, "it is renewed");
                watermarks.write(&running, "job", "2", &scope)
            })
            .unwrap();
        assert_eq!(watermarks.read(&renewing, "job").unwrap().unwrap().value, "2");
        one.end(&renewing, &run(begun, "done")).unwrap();
    }

    #[test]
    fn what_the_last_run_came_to_is_there_for_everybody() {
        let database = Arc::new(Database::open(&Options::default()).unwrap());
        let connection = database.private_connection().unwrap();
        let [one, other] = [(); 2].map(|()| Arc::new(runs(&database)));
        assert_eq!(other.last_runs(&connection).unwrap(), [], "nobody has made the tables");
        one.ensure(&connection).unwrap();
        let (lease, begun) = (Lease::new("job", one, CancellationToken::new()), SystemTime::now());
        for (later, outcome) in [(0, "done"), (1, "failed")] {
            let begun = begun + later * MINUTE;
            assert!(lease.take(&connection, begun, None).unwrap());
            lease.end(&connection, &run(begun, outcome)).unwrap();
            assert_eq!(other.last_runs(&connection).unwrap(), [("job".into(), run(begun, outcome))]);
        }
    }

    #[test]
    fn runs_without_a_lease_are_told_once_for_all_that_end_alike() {
        let database = Arc::new(Database::open(&Options::default()).unwrap());
        let connection = database.private_connection().unwrap();
        let (runs, begun) = (Arc::new(runs(&database)), SystemTime::now());
        let lease = Lease::new("job", Arc::clone(&runs), CancellationToken::new());
        lease.tell(&connection, &run(begun, "done")).unwrap();
        assert_eq!(runs.last_runs(&connection).unwrap(), []);
        assert_eq!(runs.look(&connection, "job").unwrap(), RunRecord::default());
        // The minute of the run that is told after each.
        let ended = [("failed", 1), ("failed", 1), ("done", 3), ("done", 3), ("failed", 5)];
        for (minute, (outcome, told)) in (1..).zip(ended) {
            lease.tell(&connection, &run(begun + minute * MINUTE, outcome)).unwrap();
            let told_outcome = if told == 3 { "done" } else { "failed" };
            let expected = run(begun + told * MINUTE, told_outcome);
            assert_eq!(runs.last_runs(&connection).unwrap(), [("job".into(), expected)]);
        }
        let other = LastRun { detail: "another error".into(), ..run(begun + 6 * MINUTE, "failed") };
        lease.tell(&connection, &other).unwrap();
        lease.tell(&connection, &run(begun + 2 * MINUTE, "done")).unwrap();
        assert_eq!(runs.last_runs(&connection).unwrap(), [("job".into(), other)], "that one was before it");
    }

    #[test]
    fn a_lease_beside_the_watermarks_of_the_version_before_holds() {
        let database = Arc::new(Database::open(&Options::default()).unwrap());
        let connection = database.private_connection().unwrap();
        let now = SystemTime::now();
        let until = as_stored(now + MINUTE).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros();
        let watermarks = Watermarks::of(&database.catalog);
        watermarks.ensure(&connection).unwrap();
        let row = format!("('job', 1, 5, {until}, '7', NULL, NULL)");
        connection.execute(&format!("INSERT INTO __merganser.jobs VALUES {row}")).unwrap();
        let runs = Arc::new(runs(&database));
        runs.ensure(&connection).unwrap();
        let lease = Lease::new("job", runs, CancellationToken::new());
        assert!(!lease.take(&connection, now, None).unwrap());
        assert!(lease.take(&connection, now + 2 * MINUTE, None).unwrap());
        assert_eq!(watermarks.read(&connection, "job").unwrap().unwrap().value, "7");
    }
}
