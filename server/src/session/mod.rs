//! What a client leaves with the server between its requests: its session with names, settings, temporary
//! tables and transactions; prepared statements; and results that were made before they were asked for.
//! Handles are random, so that nobody can guess another's.

mod error;
mod expiring;
mod one;
mod prepared;
mod results;
mod sessions;

pub(crate) use error::SessionError;
pub(crate) use expiring::Expiring;
pub(crate) use one::Session;
pub(crate) use prepared::{IDLE as PREPARED_IDLE, Prepared, PreparedStatements};
pub(crate) use results::Results;
pub use sessions::SessionLimits;
pub(crate) use sessions::{ConnectionId, SessionKey, Sessions};

/// Bytes of a handle: enough that guessing one is hopeless.
const HANDLE_BYTES: usize = 16;

/// A random handle.
fn new_handle() -> Result<Vec<u8>, getrandom::Error> {
    let mut handle = vec![0; HANDLE_BYTES];
    getrandom::fill(&mut handle)?;
    Ok(handle)
}

/// A random token as text.
pub(crate) fn new_token() -> Result<String, getrandom::Error> {
    Ok(new_handle()?.iter().map(|byte| format!("{byte:02x}")).collect())
}
