//! What other servers were faster at is tried again.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::engine::{Error, Result, error::Class};

/// Upper bound of the first pause,
const FIRST: Duration = Duration::from_millis(50);
/// and of every pause.
const LARGEST: Duration = Duration::from_secs(2);

/// Does the work until nobody is faster, at most so many times, on a thread of the runtime that may block. Before
/// each further try there is a pause, longer each time and drawn at random, so that servers which met once do not meet
/// again.
///
/// # Errors
/// Any other error of the work; that of its last try; [`Error::Stopping`] where the stop came in a pause.
pub(super) fn retry_conflicts<T>(
    stop: &CancellationToken,
    times: u32,
    mut work: impl FnMut() -> Result<T>,
) -> Result<T> {
    let mut tries = 0;
    loop {
        tries += 1;
        match work() {
            Err(error) if tells_of_faster(&error) && tries < times => {
                let pause = pause_after(tries);
                let milliseconds = pause.as_millis() as u64;
                tracing::debug!(tries, milliseconds, %error, "a job met a conflict and tries again");
                if is_stopped_within(stop, pause) {
                    return Err(Error::Stopping);
                }
            }
            outcome => return outcome,
        }
    }
}

/// Whether others were faster: by a conflict, or one that was found before it came to that, or because a file of a commit that
/// failed went between its listing and its reading.
fn tells_of_faster(error: &Error) -> bool {
    error.class() == Some(Class::Conflict)
        || matches!(error, Error::Overtaken(_) | Error::JobBusy | Error::FilesGone)
}

/// A pause evenly from zero to a bound that doubles with each try.
fn pause_after(tries: u32) -> Duration {
    bound_after(tries).mul_f64(fastrand::f64())
}

fn bound_after(tries: u32) -> Duration {
    FIRST.saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1))).min(LARGEST)
}

fn is_stopped_within(stop: &CancellationToken, pause: Duration) -> bool {
    Handle::current().block_on(tokio::time::timeout(pause, stop.cancelled())).is_ok()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn conflict() -> Error {
        Error::conflict("another server was faster")
    }

    /// Runs on a thread that may block, as jobs do.
    async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        tokio::task::spawn_blocking(work).await.unwrap()
    }

    #[test]
    fn pauses_grow_up_to_the_largest_and_differ() {
        let bounds: Vec<_> = (1..=8).map(|tries| bound_after(tries).as_millis()).collect();
        assert_eq!(bounds, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(bound_after(u32::MAX), LARGEST);
        assert!((1..100).all(|tries| pause_after(tries) < bound_after(tries)));
        assert_ne!(pause_after(9), pause_after(9));
    }

    #[tokio::test]
    async fn a_conflict_is_tried_again_after_a_pause_and_not_for_ever() {
        let tried = blocking(|| {
            let (stop, mut moments) = (CancellationToken::new(), Vec::new());
            let ended = retry_conflicts(&stop, 6, || {
                moments.push(Instant::now());
                Err::<(), _>(conflict())
            });
            assert_eq!(ended.unwrap_err().class(), Some(Class::Conflict));
            moments
        });
        let moments = tried.await;
        assert_eq!(moments.len(), 6);
        // Five pauses that are all next to nothing would be a wonder: the last alone is drawn from 0.8 s.
        assert!(moments[5] - moments[0] > Duration::from_millis(5));
    }

    #[tokio::test]
    async fn another_error_is_the_last() {
        let tries = blocking(|| {
            let (stop, mut tries) = (CancellationToken::new(), 0);
            let ended = retry_conflicts(&stop, 6, || {
                tries += 1;
                Err::<(), _>(if tries == 2 { Error::ReadOnly } else { conflict() })
            });
            assert!(matches!(ended, Err(Error::ReadOnly)));
            tries
        });
        assert_eq!(tries.await, 2);
    }

    #[tokio::test]
    async fn a_stop_ends_a_pause() {
        let ended = blocking(|| {
            let (stop, mut tries) = (CancellationToken::new(), 0);
            let ended = retry_conflicts(&stop, u32::MAX, || {
                tries += 1;
                // Whoever waits longest is stopped in the middle of a pause.
                if tries == 3 {
                    let stop = stop.clone();
                    std::thread::spawn(move || stop.cancel());
                }
                Err::<(), _>(conflict())
            });
            (ended, tries)
        });
        let (ended, tries) = ended.await;
        assert!(matches!(ended, Err(Error::Stopping)));
        assert!((3..1000).contains(&tries));
    }
}
