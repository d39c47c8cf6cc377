//! Hashes of passwords.

use std::fmt;

use argon2::{
    ARGON2ID_IDENT, Argon2, Params,
    password_hash::{PasswordHasher, PasswordVerifier, phc},
};

/// Longest password in bytes.
pub(super) const MAX_PASSWORD_BYTES: usize = 1024;
/// The most memory that checking one password may take, in KiB: what a login costs must have a bound.
const MAX_MEMORY_KIB: u32 = 256 * 1024;
/// The most passes over that memory.
const MAX_PASSES: u32 = 64;

/// An Argon2id hash of a password, in the PHC string format: `$argon2id$v=19$...`.
#[derive(Clone)]
pub struct PasswordHash(phc::PasswordHash);

/// Why there is no hash.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The text is something else.
    #[error("is no Argon2id hash in PHC form; `merganser-server hash-password` makes one")]
    NotArgon2id,
    /// Checking it would take too much memory or time.
    #[error("is too expensive to check: at most 256 MiB (m=262144) and 64 passes (t=64)")]
    TooExpensive,
    /// A password of no or too many bytes.
    #[error("a password has 1 to {MAX_PASSWORD_BYTES} bytes")]
    Length,
    /// The system has no random numbers, or no memory.
    #[error("the password cannot be hashed: {0}")]
    Hashing(String),
}

impl PasswordHash {
    /// Reads a hash.
    ///
    /// # Errors
    /// [`PasswordError::NotArgon2id`], [`PasswordError::TooExpensive`].
    pub fn parse(text: &str) -> Result<Self, PasswordError> {
        let hash = phc::PasswordHash::new(text).map_err(|_| PasswordError::NotArgon2id)?;
        if hash.algorithm != ARGON2ID_IDENT || hash.salt.is_none() || hash.hash.is_none() {
            return Err(PasswordError::NotArgon2id);
        }
        let params = Params::try_from(&hash).map_err(|_| PasswordError::NotArgon2id)?;
        if params.m_cost() > MAX_MEMORY_KIB || params.t_cost() > MAX_PASSES {
            return Err(PasswordError::TooExpensive);
        }
        Ok(Self(hash))
    }

    /// Hashes a password with a random salt and OWASP's parameters: 19 MiB, two passes.
    ///
    /// # Errors
    /// [`PasswordError::Length`], [`PasswordError::Hashing`].
    pub fn of(password: &str) -> Result<Self, PasswordError> {
        if password.is_empty() || password.len() > MAX_PASSWORD_BYTES {
            return Err(PasswordError::Length);
        }
        let hash = Argon2::default().hash_password(password.as_bytes());
        hash.map(Self).map_err(|error| PasswordError::Hashing(error.to_string()))
    }

    /// Whether the hash is that of `password`. Takes tens of milliseconds on purpose.
    pub(super) fn matches(&self, password: &str) -> bool {
        Argon2::default().verify_password(password.as_bytes(), &self.0).is_ok()
    }
}

impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// A hash can be tried offline, so it stays out of logs.
impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_survives_its_text_and_matches_its_password_only() {
        let hash = PasswordHash::parse(&PasswordHash::of("pä:ss").unwrap().to_string()).unwrap();
        assert!(hash.matches("pä:ss"));
        assert!(!hash.matches("pä:sS"));
        assert!(!format!("{hash:?}").contains("argon2"));
    }

    #[test]
    fn what_is_no_argon2id_hash_or_costs_too_much_is_refused() {
        let salt_and_hash = "c2FsdHNhbHQ$NVeEQvWXzzkPT1nWJxYKCvMMrF5mRnoOMEQjHLvGcIs";
        for (text, fits) in [
            (format!("$argon2id$v=19$m=19456,t=2,p=1${salt_and_hash}"), true),
            (format!("$argon2i$v=19$m=19456,t=2,p=1${salt_and_hash}"), false),
            (format!("$argon2id$v=19$m=4194304,t=2,p=1${salt_and_hash}"), false),
            (format!("$argon2id$v=19$m=19456,t=65,p=1${salt_and_hash}"), false),
            ("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ".into(), false),
            ("secret".into(), false),
            (String::new(), false),
        ] {
            assert_eq!(PasswordHash::parse(&text).is_ok(), fits, "{text}");
        }
        assert!(matches!(PasswordHash::of(""), Err(PasswordError::Length)));
        assert!(matches!(PasswordHash::of(&"x".repeat(1025)), Err(PasswordError::Length)));
    }
}
