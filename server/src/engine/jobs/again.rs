//! What other servers were faster at is tried again.

use crate::engine::{Result, error::Class};

/// Does the work until it meets no conflict, at most so many times.
///
/// # Errors
/// Any other error of the work; that of its last try.
pub(super) fn again<T>(times: usize, mut work: impl FnMut() -> Result<T>) -> Result<T> {
    let mut tries = 0;
    loop {
        tries += 1;
        match work() {
            Err(error) if error.class() == Some(Class::Conflict) && tries < times => {
                tracing::debug!(tries, %error, "a job met a conflict and tries again");
            }
            outcome => return outcome,
        }
    }
}
