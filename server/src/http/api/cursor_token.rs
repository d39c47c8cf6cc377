//! The token that names a cursor: a random handle, signed for one query and one user by a key of this process.
//!
//! The handle alone cannot be guessed. The signature is for what can be said of a token whose cursor is no more: one that
//! was given out here has expired, and one that was changed, or belongs to another query or user, never was any. A token of
//! a server that has stopped since is told by the number of its process; a sum over all of it, which needs no key,
//! tells that from garbage.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use subtle::ConstantTimeEq;
use twox_hash::XxHash3_128;

use crate::session::{Keyed, Principal};

const PROCESS: usize = 8;
const HANDLE: usize = 16;
const SIGNATURE: usize = 16;
const SUM: usize = 4;

/// What is kept for a cursor: the handle inside its token.
pub(super) type Handle = [u8; HANDLE];

/// Makes and reads tokens.
pub(super) struct CursorTokens {
    /// Which process this is, for those that come after it.
    process: [u8; PROCESS],
    key: Keyed,
}

/// Why a token names no cursor.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoCursor {
    /// It was changed, never given out, or is of another query or user.
    Bad,
    /// A process gave it out that is no more.
    OfBefore,
}

impl CursorTokens {
    /// With a key of their own.
    pub(super) fn new() -> Result<Self, getrandom::Error> {
        let mut process = [0; PROCESS];
        getrandom::fill(&mut process)?;
        Ok(Self { process, key: Keyed::random()? })
    }

    /// A new handle, and the token for it.
    pub(super) fn make(&self, query: &str, who: &Principal) -> Result<(Handle, String), getrandom::Error> {
        let mut handle = [0; HANDLE];
        getrandom::fill(&mut handle)?;
        let signature = self.signature(&handle, query, who);
        let mut token = [&self.process[..], &handle, &signature].concat();
        token.extend(sum(&token));
        Ok((handle, BASE64_URL_SAFE_NO_PAD.encode(token)))
    }

    /// The handle in a token that is used for this query by this user.
    ///
    /// # Errors
    /// [`NoCursor`].
    pub(super) fn read(&self, token: &str, query: &str, who: &Principal) -> Result<Handle, NoCursor> {
        let token = BASE64_URL_SAFE_NO_PAD.decode(token).map_err(|_| NoCursor::Bad)?;
        let (content, its_sum) = token.split_last_chunk().ok_or(NoCursor::Bad)?;
        if *its_sum != sum(content) {
            return Err(NoCursor::Bad);
        }
        let (process, content) = content.split_first_chunk().ok_or(NoCursor::Bad)?;
        if *process != self.process {
            return Err(NoCursor::OfBefore);
        }
        let (handle, signature) = content.split_first_chunk().ok_or(NoCursor::Bad)?;
        // In the same time whatever the first difference is.
        match signature.ct_eq(&self.signature(handle, query, who)).into() {
            true => Ok(*handle),
            false => Err(NoCursor::Bad),
        }
    }

    fn signature(&self, handle: &Handle, query: &str, who: &Principal) -> [u8; SIGNATURE] {
        // Anybody is nobody's name.
        let named = [u8::from(*who != Principal::ANONYMOUS)];
        let query = query.to_lowercase();
        let hash = self.key.hash(&[handle, query.as_bytes(), &named, who.name().as_bytes()]);
        std::array::from_fn(|at| hash[at])
    }
}

fn sum(bytes: &[u8]) -> [u8; SUM] {
    let hash = XxHash3_128::oneshot(bytes).to_le_bytes();
    std::array::from_fn(|at| hash[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANYBODY: Principal = Principal::ANONYMOUS;

    #[test]
    fn a_token_reads_back_for_its_query_and_user_alone() {
        let tokens = CursorTokens::new().unwrap();
        let ada = Principal::named("ada");
        let (handle, token) = tokens.make("Sales", &ada).unwrap();
        assert_eq!(tokens.read(&token, "sales", &ada), Ok(handle));
        assert_eq!(tokens.read(&token, "sale", &ada), Err(NoCursor::Bad));
        for other in [ANYBODY, Principal::named("bob"), Principal::named("")] {
            assert_eq!(tokens.read(&token, "sales", &other), Err(NoCursor::Bad));
        }
        let (_, anybodys) = tokens.make("sales", &ANYBODY).unwrap();
        let called_so = Principal::named(ANYBODY.name());
        assert_eq!(tokens.read(&anybodys, "sales", &called_so), Err(NoCursor::Bad));
    }

    #[test]
    fn one_that_was_changed_or_cut_is_none() {
        let tokens = CursorTokens::new().unwrap();
        let (_, token) = tokens.make("sales", &ANYBODY).unwrap();
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(tokens.read(&changed, "sales", &ANYBODY), Err(NoCursor::Bad), "{at}");
            assert_eq!(tokens.read(&token[..at], "sales", &ANYBODY), Err(NoCursor::Bad), "{at}");
        }
        for garbage in ["", "not one", "\u{e4}", &"A".repeat(10_000)] {
            assert_eq!(tokens.read(garbage, "sales", &ANYBODY), Err(NoCursor::Bad), "{garbage}");
        }
    }

    #[test]
    fn a_sum_that_is_right_is_no_signature() {
        let tokens = CursorTokens::new().unwrap();
        let (_, token) = tokens.make("sales", &ANYBODY).unwrap();
        let mut forged = BASE64_URL_SAFE_NO_PAD.decode(token).unwrap();
        forged.truncate(PROCESS + HANDLE + SIGNATURE);
        forged[PROCESS] ^= 1;
        for length in [forged.len(), PROCESS + HANDLE, PROCESS, 0] {
            let content = &forged[..length];
            let forged = BASE64_URL_SAFE_NO_PAD.encode([content, &sum(content)].concat());
            assert_eq!(tokens.read(&forged, "sales", &ANYBODY), Err(NoCursor::Bad), "{length}");
        }
    }

    #[test]
    fn one_of_another_process_is_known_as_such() {
        let (_, token) = CursorTokens::new().unwrap().make("sales", &ANYBODY).unwrap();
        assert_eq!(CursorTokens::new().unwrap().read(&token, "sales", &ANYBODY), Err(NoCursor::OfBefore));
    }
}
