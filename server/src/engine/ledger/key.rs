//! The name of a unit, by which it is known when it is sent again.

use std::{fmt, str::FromStr, sync::Arc};

use crate::engine::Error;

/// Higher epochs are no loader's first: there must be room for those that take over from it. Nanoseconds since 1970 are
/// lower for a long time.
pub(super) const MAX_EPOCH: u64 = 1 << 62;
/// A loader's name may have so many bytes.
const MAX_LOADER_BYTES: usize = 200;

/// `loader/epoch/sequence`: whose unit it is, in which life of the loader, and the how manieth.
///
/// The sequence numbers the loader's units without a gap, from 0 or 1 on, and goes on over its epochs. A process
/// that takes over a loader begins a higher epoch, which keeps the one before it from writing any more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IngestKey {
    /// The name of the loader; it may hold slashes.
    pub loader: Arc<str>,
    /// Which process speaks for the loader.
    pub epoch: u64,
    /// Which of its units it is.
    pub sequence: u64,
}

impl FromStr for IngestKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |reason: &str| Error::BadKey(reason.into());
        let mut parts = text.rsplitn(3, '/');
        let (Some(sequence), Some(epoch), Some(loader)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(bad("the key has fewer than three parts"));
        };
        if loader.is_empty() {
            return Err(bad("the key has no loader"));
        }
        if loader.len() > MAX_LOADER_BYTES {
            return Err(Error::BadKey(format!(
                "the loader's name has {} bytes, more than {MAX_LOADER_BYTES}",
                loader.len()
            )));
        }
        if loader.chars().any(char::is_control) {
            return Err(bad("the loader's name holds a control character"));
        }
        Ok(Self {
            loader: loader.into(),
            epoch: number("epoch", epoch)?,
            sequence: number("sequence", sequence)?,
        })
    }
}

/// Digits only, and small enough that there is always a next one.
fn number(part: &str, text: &str) -> Result<u64, Error> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Error::BadKey(format!("the {part} is no whole number")));
    }
    let number = text.parse().ok().filter(|number| *number < u64::MAX);
    number.ok_or_else(|| Error::BadKey(format!("the {part} is too large; at most {}", u64::MAX - 1)))
}

impl fmt::Display for IngestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.loader, self.epoch, self.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_three_parts() {
        let key: IngestKey = "plant/7/line 2/3/42".parse().unwrap();
        assert_eq!((&*key.loader, key.epoch, key.sequence), ("plant/7/line 2", 3, 42));
        assert_eq!(key.to_string(), "plant/7/line 2/3/42");
    }

    #[test]
    fn what_is_no_key_is_refused_with_the_reason() {
        let (long, huge) = (format!("{}/1/1", "x".repeat(201)), format!("a/1/{}", u64::MAX));
        for (text, reason) in [
            ("", "three parts"),
            ("a/1", "three parts"),
            ("/1/1", "no loader"),
            ("a/b/1", "epoch"),
            ("a/1/", "sequence"),
            ("a/1/-1", "sequence"),
            ("a/1/+1", "sequence"),
            ("a/1/1.5", "sequence"),
            (&huge, "the sequence is too large"),
            ("a/99999999999999999999/1", "the epoch is too large"),
            ("a\n/1/1", "control"),
            (&long, "201 bytes"),
        ] {
            let error = text.parse::<IngestKey>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
    }
}
