//! What a load says while it tries again.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use merganser::OnTrouble;

use crate::cli::{progress::FileBars, terminal};

/// For so long no other trouble is told of: a full queue comes and goes many times a second.
const QUIET: Duration = Duration::from_secs(60);

/// Prints what went wrong on stderr, with the bars out of the way.
pub(super) fn told(bars: &FileBars) -> OnTrouble {
    let (bars, last) = (bars.clone(), Mutex::new(None::<Instant>));
    OnTrouble::new(move |error| {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= QUIET) {
            *last = Some(Instant::now());
            bars.suspend(|| terminal::print_trouble(error));
        }
    })
}
