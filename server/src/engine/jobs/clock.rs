//! The time by which jobs are run: the system's, or one that a test moves.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::sync::watch;

/// Tells the time and waits for a moment. Clones are the same clock.
#[derive(Debug, Clone, Default)]
pub struct JobClock(Option<Arc<watch::Sender<SystemTime>>>);

impl JobClock {
    /// One that stands at the present until [`JobClock::advance`] moves it.
    pub fn standing() -> Self {
        Self(Some(Arc::new(watch::Sender::new(SystemTime::now()))))
    }

    /// Moves a clock that stands; the system's goes by itself.
    pub fn advance(&self, by: Duration) {
        if let Some(moved) = &self.0 {
            moved.send_modify(|now| *now += by);
        }
    }

    pub(super) fn now(&self) -> SystemTime {
        self.0.as_ref().map_or_else(SystemTime::now, |moved| *moved.borrow())
    }

    /// Waits until a moment has come.
    pub(super) async fn reach(&self, moment: SystemTime) {
        match &self.0 {
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
}
