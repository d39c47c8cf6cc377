//! The time by which jobs are run: the system's, or one that a test moves.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::watch;

/// Tells the time and waits for a moment. Clones are the same clock.
#[derive(Debug, Clone)]
pub struct JobClock {
    /// When it was made, by itself and by a clock that nobody sets.
    made: (SystemTime, Instant),
    moved: Option<Arc<watch::Sender<SystemTime>>>,
}

impl Default for JobClock {
    fn default() -> Self {
        Self { made: (SystemTime::now(), Instant::now()), moved: None }
    }
}

impl JobClock {
    /// One that stands at the present until [`JobClock::advance`] moves it.
    pub fn standing() -> Self {
        Self::standing_at(SystemTime::now())
    }

    /// One that stands at another moment.
    pub fn standing_at(moment: SystemTime) -> Self {
        Self { made: (moment, Instant::now()), moved: Some(Arc::new(watch::Sender::new(moment))) }
    }

    /// Moves a clock that stands; the system's goes by itself.
    pub fn advance(&self, by: Duration) {
        if let Some(moved) = &self.moved {
            moved.send_modify(|now| *now += by);
        }
    }

    pub(super) fn now(&self) -> SystemTime {
        self.moved.as_ref().map_or_else(SystemTime::now, |moved| *moved.borrow())
    }

    /// The time of day, by which things age: one that stands goes on in this, from where it was put last, as one that
    /// somebody has set.
    pub(super) fn time_of_day(&self) -> SystemTime {
        self.moved.as_ref().map_or_else(SystemTime::now, |moved| *moved.borrow() + self.made.1.elapsed())
    }

    /// What the time of day would be if nobody had set it since this clock was made.
    pub(super) fn unset(&self) -> SystemTime {
        self.made.0 + self.made.1.elapsed()
    }

    /// Waits until a moment has come.
    pub(super) async fn reach(&self, moment: SystemTime) {
        match &self.moved {
            None => tokio::time::sleep(moment.duration_since(SystemTime::now()).unwrap_or_default()).await,
            // It is never closed while this clock is there.
            Some(moved) => drop(moved.subscribe().wait_for(|now| *now >= moment).await),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_clock_that_stands_reaches_a_moment_when_it_is_moved() {
        let clock = JobClock::standing();
        let in_an_hour = clock.now() + Duration::from_secs(3600);
        let mut reaching = Box::pin(clock.reach(in_an_hour));
        assert!((&mut reaching).now_or_never().is_none());
        clock.advance(Duration::from_secs(3599));
        assert!((&mut reaching).now_or_never().is_none());
        clock.advance(Duration::from_secs(1));
        reaching.await;
    }
    #[test]
    fn one_that_was_moved_still_tells_what_it_would_be_without() {
        let clock = JobClock::standing();
        let hour = Duration::from_secs(3600);
        clock.advance(hour);
        let unset = clock.unset();
        assert!(clock.time_of_day() >= unset + hour);
        assert!(unset < clock.now());
    }
}
