//! Who asks, and what a client leaves with the server between its requests: its session with names, settings,
//! temporary tables and transactions; prepared statements; and results that were made before they were asked
//! for. Handles and tokens are random, so that nobody can guess another's.

mod attempts;
mod authenticator;
mod credentials;
mod directory;
mod error;
mod expiring;
mod keyed;
mod known;
mod line;
mod losses;
mod one;
mod password;
mod prepared;
mod principal;
mod results;
mod sessions;
mod stored;
mod tokens;
mod users;
mod weight;

pub(crate) use authenticator::{AuthError, Authenticator, Sender};
pub(crate) use credentials::Offered;
pub(crate) use directory::Directory;
pub(crate) use error::SessionError;
pub(crate) use expiring::Expiring;
pub(crate) use keyed::Keyed;
pub(crate) use line::Line;
pub(crate) use one::Session;
pub use password::{PasswordError, PasswordHash};
pub(crate) use prepared::{IDLE as PREPARED_IDLE, Prepared, PreparedStatements};
pub(crate) use principal::{Identity, Principal};
pub(crate) use results::{Fetched, IDLE as RESULT_IDLE, Results};
pub use sessions::SessionLimits;
pub(crate) use sessions::{ConnectionId, SessionKey, Sessions};
pub(crate) use tokens::{TokenId, Tokens};
pub(crate) use users::{LoginError, Users};

/// Bytes of a handle: enough that guessing one is hopeless.
pub(crate) const HANDLE_BYTES: usize = 16;

/// A random handle.
pub(crate) fn new_handle() -> Result<Vec<u8>, getrandom::Error> {
    let mut handle = vec![0; HANDLE_BYTES];
    getrandom::fill(&mut handle)?;
    Ok(handle)
}

/// A random token as text.
fn new_token() -> Result<String, getrandom::Error> {
    Ok(hex(&new_handle()?))
}

/// Bytes as text.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
