//! Keyed hashes of secrets, so that memory holds no secret that could be sent again, and comparing two tells
//! nothing about either by the time it takes.

use blake2::{
    Blake2sMac256,
    digest::{KeyInit, Mac},
};

/// A keyed hash.
pub(crate) type Digest = [u8; 32];

/// A random key that lives as long as the process.
pub(crate) struct Keyed {
    mac: Blake2sMac256,
}

impl Keyed {
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Self { mac: Blake2sMac256::new(&key.into()) })
    }

    /// The hash of some parts. Each is preceded by its length, so that moving a byte from one part to the
    /// next gives another hash.
    pub(crate) fn hash(&self, parts: &[&[u8]]) -> Digest {
        let mut mac = self.mac.clone();
        for part in parts {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_keys_matter() {
        let keyed = Keyed::random().unwrap();
        assert_eq!(keyed.hash(&[b"ab", b"c"]), keyed.hash(&[b"ab", b"c"]));
        assert_ne!(keyed.hash(&[b"ab", b"c"]), keyed.hash(&[b"a", b"bc"]));
        assert_ne!(keyed.hash(&[b"ab"]), Keyed::random().unwrap().hash(&[b"ab"]));
    }
}
