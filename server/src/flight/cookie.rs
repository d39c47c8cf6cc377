//! The cookie by which clients that keep cookies are recognised on another connection. A server that was started again
//! learns from it what its client believes to be in.

use tonic::metadata::MetadataMap;

use crate::session::{HANDLE_BYTES, hex};

const NAME: &str = "merganser_session";
/// What comes last in a transaction.
const IN_TRANSACTION: &str = "transaction";

/// `merganser_session=SESSION.RUN`, and `.transaction` behind it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cookie {
    /// Of the session.
    pub(super) id: Vec<u8>,
    /// Of the server's run that the session began in.
    pub(super) run: u64,
    /// Its client has begun a transaction there, and not ended it.
    pub(super) in_transaction: bool,
}

impl Cookie {
    /// The value of `set-cookie`.
    pub(super) fn to_set(&self) -> String {
        let (id, run) = (hex(&self.id), hex(&self.run.to_be_bytes()));
        let mark = if self.in_transaction { format!(".{IN_TRANSACTION}") } else { String::new() };
        format!("{NAME}={id}.{run}{mark}; HttpOnly")
    }

    /// The value of `set-cookie` by which a client forgets its session.
    pub(super) fn to_forget() -> String {
        format!("{NAME}=; Max-Age=0; HttpOnly")
    }

    /// That of a request. One that cannot be ours is none.
    pub(super) fn of(metadata: &MetadataMap) -> Option<Self> {
        let lines = metadata.get_all("cookie").into_iter().filter_map(|value| value.to_str().ok());
        let value = lines
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find_map(|(name, value)| (name == NAME).then_some(value.trim_matches('"')))?;
        let parts: Vec<_> = value.split('.').collect();
        let (id, run, in_transaction) = match parts[..] {
            [id, run] => (id, run, false),
            [id, run, IN_TRANSACTION] => (id, run, true),
            _ => return None,
        };
        let id = bytes(id).filter(|id| id.len() == HANDLE_BYTES)?;
        let run = u64::from_be_bytes(bytes(run)?.try_into().ok()?);
        Some(Self { id, run, in_transaction })
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let is_hex = hex.len().is_multiple_of(2) && hex.bytes().all(|digit| digit.is_ascii_hexdigit());
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).ok();
    is_hex.then(|| (0..hex.len()).step_by(2).map(byte).collect()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(value: &str) -> Option<Cookie> {
        let mut metadata = MetadataMap::new();
        metadata.insert("cookie", value.parse().unwrap());
        Cookie::of(&metadata)
    }

    #[test]
    fn what_is_set_comes_back_among_others() {
        for in_transaction in [true, false] {
            let cookie = Cookie { id: (0..16).collect(), run: u64::MAX - 5, in_transaction };
            let set = cookie.to_set();
            let pair = set.split(';').next().unwrap();
            assert_eq!(sent(&format!("theme=dark; {pair}; last=1")), Some(cookie));
        }
        assert_eq!(sent(Cookie::to_forget().split(';').next().unwrap()), None);
    }

    #[test]
    fn what_is_made_up_is_none() {
        let (id, run) = ("00".repeat(16), "11".repeat(8));
        assert!(sent(&format!("{NAME}=\"{id}.{run}\"")).is_some());
        for value in [
            id.clone(),
            format!("{id}."),
            format!("{id}.{run}."),
            format!("{id}.{run}.x"),
            format!("{id}00.{run}"),
            format!("{id}.{run}00"),
            format!("+{}.{run}", &id[1..]),
            format!("{}.{run}", "ä".repeat(16)),
        ] {
            let value = value.replace('ä', "=");
            assert_eq!(sent(&format!("{NAME}={value}")), None, "{value}");
        }
    }
}
