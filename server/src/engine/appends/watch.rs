//! Interrupts what appends for too long.
//!
//! The threads that append are busy appending, so one thread looks at the time for all of them. It sleeps until the
//! first deadline there is, and is woken for an earlier one only, so that thousands of appends in a second cost it nothing.
//! An interrupt comes while its append is registered, under one lock, and never afterwards: what follows on that connection
//! may be a COMMIT.

use std::{
    collections::HashMap,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use crate::engine::{Error, Result, ffi::Interrupt};

/// An interrupt is repeated so often: DuckDB forgets one that comes just before a statement begins.
const INTERRUPT_AGAIN: Duration = Duration::from_millis(20);
/// What goes on for so long after its interrupt does not hear it.
const DEAF_AFTER: Duration = Duration::from_secs(10);

/// The appends that are under way. Dropped, it ends its thread.
pub(super) struct Watch {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    running: HashMap<u64, Running>,
    numbers: u64,
    /// When all are to have ended.
    end: Option<Instant>,
    /// When the thread looks again by itself.
    looks_at: Option<Instant>,
    closed: bool,
}

struct Running {
    interrupt: Interrupt,
    deadline: Option<Instant>,
    interrupted: Option<Instant>,
    /// It goes on all the same.
    is_deaf: bool,
}

/// One append that is under way. Dropped, it cannot be interrupted any more.
pub(super) struct Watched<'a> {
    watch: &'a Watch,
    number: u64,
}

impl Watch {
    pub(super) fn start() -> Result<Self> {
        let shared = Arc::<Shared>::default();
        let theirs = Arc::clone(&shared);
        thread::Builder::new().name("append-watch".into()).spawn(move || theirs.run()).map_err(|error| {
            Error::Internal(format!("the thread that limits appends cannot start: {error}"))
        })?;
        Ok(Self { shared })
    }

    /// From here on the connection of `interrupt` is interrupted at the deadline.
    pub(super) fn add(&self, interrupt: Interrupt, deadline: Option<Instant>) -> Watched<'_> {
        let mut state = self.shared.state.lock();
        state.numbers += 1;
        let number = state.numbers;
        let running = Running { interrupt, deadline, interrupted: None, is_deaf: false };
        let deadline = running.deadline(state.end);
        state.running.insert(number, running);
        if deadline.is_some_and(|deadline| state.looks_at.is_none_or(|looks_at| deadline < looks_at)) {
            self.shared.changed.notify_one();
        }
        Watched { watch: self, number }
    }

    /// What goes on, or begins, is interrupted at this moment at the latest.
    pub(super) fn end_at(&self, end: Instant) {
        self.shared.state.lock().end = Some(end);
        self.shared.changed.notify_one();
    }

    /// Whether nothing may begin any more.
    pub(super) fn has_ended(&self) -> bool {
        self.shared.state.lock().end.is_some_and(|end| end <= Instant::now())
    }

    /// Whether one has gone on for long after its interrupt.
    pub(super) fn has_deaf(&self) -> bool {
        self.shared.state.lock().running.values().any(|running| running.is_deaf)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.changed.notify_one();
    }
}

impl Watched<'_> {
    /// Ends the append, and tells whether it was interrupted.
    pub(super) fn was_interrupted(self) -> bool {
        let state = self.watch.shared.state.lock();
        state.running.get(&self.number).is_some_and(|running| running.interrupted.is_some())
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.watch.shared.state.lock().running.remove(&self.number);
    }
}

impl Shared {
    fn run(&self) {
        let mut state = self.state.lock();
        while !state.closed {
            state.looks_at = state.interrupt_late(Instant::now());
            match state.looks_at {
                Some(time) => drop(self.changed.wait_until(&mut state, time)),
                None => self.changed.wait(&mut state),
            }
        }
    }
}

impl State {
    /// Interrupts those whose time is over; tells when to look again.
    fn interrupt_late(&mut self, now: Instant) -> Option<Instant> {
        let end = self.end;
        self.running.values_mut().filter_map(|running| running.look(now, end)).min()
    }
}

impl Running {
    fn deadline(&self, end: Option<Instant>) -> Option<Instant> {
        self.deadline.into_iter().chain(end).min()
    }

    fn look(&mut self, now: Instant, end: Option<Instant>) -> Option<Instant> {
        let deadline = self.deadline(end)?;
        if now < deadline {
            return Some(deadline);
        }
        let since = *self.interrupted.get_or_insert(now);
        self.interrupt.interrupt();
        if now - since >= DEAF_AFTER && !std::mem::replace(&mut self.is_deaf, true) {
            tracing::warn!(
                "rows are still being appended although that was stopped: DuckDB does not hear it"
            );
        }
        Some(now + INTERRUPT_AGAIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Class, Options, database::Database};

    /// Goes on for hours.
    const LONG: &str =
        "SELECT count(*) FROM range(1000000000) a, range(1000000000) b WHERE a.range + b.range < 0";

    #[test]
    fn what_is_registered_is_interrupted_at_its_time_and_nothing_afterwards() {
        let database = Arc::new(Database::open(&Options::default()).unwrap());
        let (watch, connection) = (Watch::start().unwrap(), database.private_connection().unwrap());
        // The thread has nothing to wait for, and must be woken.
        for limit in [Duration::from_millis(50), Duration::ZERO] {
            let watched = watch.add(connection.interrupt(), Some(Instant::now() + limit));
            let error = connection.execute(LONG).unwrap_err();
            assert_eq!(error.class, Class::Interrupted);
            assert!(watched.was_interrupted());
            connection.execute("SELECT 1").unwrap();
        }
        assert!(watch.shared.state.lock().running.is_empty() && !watch.has_deaf());
        // An earlier deadline than the one that it sleeps for.
        let other = database.private_connection().unwrap();
        let patient = watch.add(other.interrupt(), Some(Instant::now() + Duration::from_secs(3600)));
        let watched = watch.add(connection.interrupt(), Some(Instant::now() + Duration::from_millis(50)));
        assert_eq!(connection.execute(LONG).unwrap_err().class, Class::Interrupted);
        assert!(watched.was_interrupted() && !patient.was_interrupted());
    }

    #[test]
    fn what_goes_on_for_long_after_its_interrupt_is_deaf_until_it_ends() {
        let database = Arc::new(Database::open(&Options::default()).unwrap());
        let (watch, connection) = (Watch::start().unwrap(), database.private_connection().unwrap());
        let (watched, now) = (watch.add(connection.interrupt(), None), Instant::now());
        for (time, is_deaf) in [(now, false), (now + DEAF_AFTER / 2, false), (now + DEAF_AFTER, true)] {
            let mut state = watch.shared.state.lock();
            state.running.values_mut().for_each(|running| running.deadline = Some(now));
            assert_eq!(state.interrupt_late(time), Some(time + INTERRUPT_AGAIN));
            drop(state);
            assert_eq!(watch.has_deaf(), is_deaf, "{:?} later", time - now);
        }
        drop(watched);
        assert!(!watch.has_deaf());
    }

    #[test]
    fn an_end_is_for_those_without_a_limit_too_and_for_those_that_begin_later() {
        let database = Arc::new(Database::open(&Options::default()).unwrap());
        let (watch, connection) = (Watch::start().unwrap(), database.private_connection().unwrap());
        assert!(!watch.has_ended());
        let first = watch.add(connection.interrupt(), None);
        watch.end_at(Instant::now() + Duration::from_millis(50));
        assert_eq!(connection.execute(LONG).unwrap_err().class, Class::Interrupted);
        assert!(first.was_interrupted() && watch.has_ended());
        let second = watch.add(connection.interrupt(), None);
        assert_eq!(connection.execute(LONG).unwrap_err().class, Class::Interrupted);
        assert!(second.was_interrupted());
    }
}
