//! Users and their passwords.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task, time,
};

use super::{
    PasswordHash, Principal,
    attempts::{Attempts, WINDOW},
    expiring::Expiring,
    keyed::Keyed,
    password::MAX_PASSWORD_BYTES,
};

/// Passwords that are checked at once. Each takes a core, and the memory that its hash names.
const RUNS: usize = 4;
/// Log-ins that may wait for their check.
const WAITING: usize = 256;
/// How long each waits.
const WAIT: Duration = Duration::from_secs(10);
/// A password that was right is not checked again until it has not been sent for so long. A driver that
/// sends it with every request would else pay for Argon2 each time.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Right passwords that are remembered, by their keyed hash.
const REMEMBERED_COUNT: usize = 1_000;

/// The users, and what keeps guessing their passwords slow and cheap for the server.
pub(crate) struct Users {
    hashes: HashMap<String, PasswordHash>,
    keyed: Keyed,
    remembered: Expiring<Principal>,
    attempts: Attempts,
    runs: Arc<Semaphore>,
    waiting: Semaphore,
}

/// Why somebody is not let in.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LoginError {
    /// No such user, or not this password; nobody learns which.
    #[error("wrong user or password")]
    Wrong,
    /// This user failed too often from this address.
    #[error("too many failed log-ins of this user from this address; try again in {} seconds", WINDOW.as_secs())]
    TooMany,
    /// Everybody is logging in.
    #[error("too many log-ins at once; try again")]
    Busy,
}

impl Users {
    /// Users by name.
    pub(crate) fn new(
        users: impl IntoIterator<Item = (String, PasswordHash)>,
    ) -> Result<Self, getrandom::Error> {
        Ok(Self {
            hashes: users.into_iter().collect(),
            keyed: Keyed::random()?,
            remembered: Expiring::new(REMEMBERED_COUNT, REMEMBERED),
            attempts: Attempts::default(),
            runs: Arc::new(Semaphore::new(RUNS)),
            waiting: Semaphore::new(WAITING),
        })
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Checks a password that came from an address.
    pub(crate) async fn log_in(
        &self,
        name: &str,
        password: &str,
        from: Option<IpAddr>,
    ) -> Result<Principal, LoginError> {
        let secret = self.keyed.hash(&[name.as_bytes(), password.as_bytes()]);
        let who =
            self.keyed.hash(&[b"attempt", name.as_bytes(), from.map(octets).as_deref().unwrap_or_default()]);
        let settled = || match self.remembered.get(&secret) {
            Some(principal) => Some(Ok(principal)),
            None if !self.attempts.allowed(&who) => Some(Err(LoginError::TooMany)),
            None => None,
        };
        if let Some(settled) = settled() {
            return settled;
        }
        let run = self.place().await?;
        // While this one waited, the same password may have been found right, or too many others wrong.
        if let Some(settled) = settled() {
            return settled;
        }
        if self.check(name, password, run).await {
            let principal = Principal::named(name);
            self.remembered.insert(secret.to_vec(), principal.clone());
            self.attempts.succeeded(&who);
            Ok(principal)
        } else {
            self.attempts.failed(who);
            Err(LoginError::Wrong)
        }
    }

    async fn place(&self) -> Result<OwnedSemaphorePermit, LoginError> {
        let _waiting = self.waiting.try_acquire().map_err(|_| LoginError::Busy)?;
        match time::timeout(WAIT, Arc::clone(&self.runs).acquire_owned()).await {
            Ok(Ok(run)) => Ok(run),
            Ok(Err(_)) | Err(_) => Err(LoginError::Busy),
        }
    }

    /// An unknown user is checked against somebody else's hash, so that the time it takes does not tell
    /// which users there are.
    async fn check(&self, name: &str, password: &str, run: OwnedSemaphorePermit) -> bool {
        let theirs = self.hashes.get(name);
        let known = theirs.is_some() && password.len() <= MAX_PASSWORD_BYTES;
        let Some(hash) = theirs.or_else(|| self.hashes.values().next()).cloned() else { return false };
        let password: String =
            if password.len() <= MAX_PASSWORD_BYTES { password.into() } else { String::new() };
        let matches = task::spawn_blocking(move || {
            // The place is given back when the work is done, also when nobody waits for it any more.
            let _run = run;
            hash.matches(&password)
        });
        matches.await.unwrap_or(false) && known
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address.to_canonical() {
        IpAddr::V4(address) => address.octets().to_vec(),
        // A home or a machine has 64 bits to itself.
        IpAddr::V6(address) => address.octets()[..8].to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Users {
        Users::new([("ana".to_owned(), PasswordHash::of("secret").unwrap())]).unwrap()
    }

    const HERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

    #[tokio::test]
    async fn the_right_password_is_let_in_and_no_other() {
        let users = users();
        assert_eq!(users.log_in("ana", "secret", HERE).await.unwrap().name(), "ana");
        for (name, password) in [("ana", "Secret"), ("ana", ""), ("eva", "secret"), ("", "")] {
            assert_eq!(users.log_in(name, password, HERE).await, Err(LoginError::Wrong));
        }
        let long = "x".repeat(MAX_PASSWORD_BYTES + 1);
        assert_eq!(users.log_in("ana", &long, HERE).await, Err(LoginError::Wrong));
    }

    #[tokio::test]
    async fn guessing_ends_but_whoever_is_known_goes_on() {
        let users = users();
        users.log_in("ana", "secret", HERE).await.unwrap();
        let mut outcomes = Vec::new();
        for guess in 0..12 {
            outcomes.push(users.log_in("ana", &guess.to_string(), HERE).await.unwrap_err());
        }
        assert!(outcomes[..10].iter().all(|error| *error == LoginError::Wrong));
        assert!(outcomes[10..].iter().all(|error| *error == LoginError::TooMany));
        assert!(users.log_in("ana", "secret", HERE).await.is_ok(), "a password that was right before");
        assert_eq!(users.log_in("ana", "x", None).await, Err(LoginError::Wrong), "from elsewhere");
    }

    #[tokio::test]
    async fn a_flood_of_log_ins_is_turned_away() {
        let users = users();
        let _all = users.waiting.try_acquire_many(WAITING as u32).unwrap();
        assert_eq!(users.log_in("ana", "secret", HERE).await, Err(LoginError::Busy));
    }
}
