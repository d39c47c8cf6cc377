//! What is being written on this machine, so that no two exports write the same at once. DuckDB calls a file that is not
//! complete by the target's name alone: two of them would write into one file, and one would rename it under the other.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

use super::{local::UNFINISHED, spared::folded};
use crate::engine::{Error, Result};

/// The files and folders that are being written.
#[derive(Debug, Default)]
pub(super) struct Targets {
    taken: Mutex<Vec<PathBuf>>,
    freed: Condvar,
}

/// That nobody else writes to some of them, until it is dropped.
pub(in crate::engine) struct Writing {
    targets: Arc<Targets>,
    places: Vec<PathBuf>,
}

impl Targets {
    /// Waits until nobody writes to one of these places, into a folder that is one, or around one, and takes them all. So
    /// nobody who waits keeps anything from others.
    ///
    /// # Errors
    /// [`Error::ExportBusy`] where that is not so within the bound.
    pub(super) fn take(self: &Arc<Self>, places: &[PathBuf], wait: Duration) -> Result<Writing> {
        let places: Vec<_> = places.iter().map(|place| complete(place)).collect();
        let mut taken = self.taken.lock();
        let overlaps = |taken: &mut Vec<PathBuf>| {
            taken
                .iter()
                .any(|other| places.iter().any(|one| one.starts_with(other) || other.starts_with(one)))
        };
        if self.freed.wait_while_for(&mut taken, overlaps, wait).timed_out() {
            return Err(Error::ExportBusy(wait));
        }
        taken.extend(places.iter().cloned());
        Ok(Writing { targets: Arc::clone(self), places })
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut taken = self.targets.taken.lock();
        for place in &self.places {
            if let Some(at) = taken.iter().position(|other| other == place) {
                taken.swap_remove(at);
            }
        }
        self.targets.freed.notify_all();
    }
}

/// A place by the names that files there have when they are complete. A folder may be called as one that is not.
fn complete(place: &Path) -> PathBuf {
    let folded = folded(place);
    let names = folded.iter().map(|name| name.to_str().unwrap_or_default());
    names.map(|name| name.trim_start_matches(UNFINISHED)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(|name| Path::new("/o").join(name)).collect()
    }

    #[test]
    fn a_place_is_written_by_one_at_a_time_and_so_is_what_lies_in_it() {
        let targets = Arc::<Targets>::default();
        let is_free = |name: &str| targets.take(&places(&[name]), Duration::ZERO).is_ok();
        let writing = targets.take(&places(&["a.csv", "parts", "a.csv"]), Duration::ZERO).unwrap();
        for name in ["a.csv", "tmp_a.csv", "A.csv", "parts", "tmp_parts/x.csv", "parts/year=1/x.csv", ""] {
            assert!(!is_free(name), "{name}");
        }
        for name in ["b.csv", "a.csv2", "parts2", "parts.csv"] {
            assert!(is_free(name), "{name}");
        }
        drop(writing);
        assert!(is_free("a.csv") && is_free("parts"));
    }

    #[test]
    fn who_waits_goes_on_when_the_other_has_ended() {
        let targets = Arc::<Targets>::default();
        let writing = targets.take(&places(&["a.csv"]), Duration::ZERO).unwrap();
        let waiting = Arc::clone(&targets);
        let waiting = std::thread::spawn(move || {
            waiting.take(&places(&["a.csv", "b.csv"]), Duration::from_secs(60)).is_ok()
        });
        // It keeps nothing from others meanwhile.
        assert!(targets.take(&places(&["b.csv"]), Duration::ZERO).is_ok());
        drop(writing);
        assert!(waiting.join().unwrap());
        assert!(targets.taken.lock().is_empty());
    }
}
