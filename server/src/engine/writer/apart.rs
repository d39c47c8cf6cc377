//! Loaders that commit alone for a while.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// A loader whose upload failed commits alone for this long, so that a broken one does not undo the groups of others.
const APART: Duration = Duration::from_secs(10);

/// Those whose uploads have just failed.
#[derive(Default)]
pub(crate) struct Apart(HashMap<u64, Instant>);

impl Apart {
    /// Sets one apart.
    pub(crate) fn set(&mut self, loader: u64) {
        let now = Instant::now();
        self.0.retain(|_, until| *until > now);
        self.0.insert(loader, now + APART);
    }

    /// Whether one is apart.
    pub(crate) fn has(&self, loader: u64) -> bool {
        self.0.get(&loader).is_some_and(|until| *until > Instant::now())
    }

    /// As if the time were over.
    #[cfg(test)]
    pub(super) fn end(&mut self) {
        self.0.clear();
    }
}
