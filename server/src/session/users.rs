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
    /// All of them, for names that nobody has.
    decoys: Vec<PasswordHash>,
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
        let hashes: HashMap<_, _> = users.into_iter().collect();
        Ok(Self {
            decoys: hashes.values().cloned().collect(),
            hashes,
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

    async fn check(&self, name: &str, password: &str, run: OwnedSemaphorePermit) -> bool {
        let Some((hash, theirs)) = self.hash_for(name) else { return false };
        let hash = hash.clone();
        let known = theirs && password.len() <= MAX_PASSWORD_BYTES;
        let password: String =
            if password.len() <= MAX_PASSWORD_BYTES { password.into() } else { String::new() };
        let matches = task::spawn_blocking(move || {
            // The place is given back when the work is done, also when nobody waits for it any more.
            let _run = run;
            hash.matches(&password)
        });
        matches.await.unwrap_or(false) && known
    }

    /// The hash that a password is checked against, and whether it is that of the user. An unknown user is checked
    /// against somebody else's, so that the time it takes does not tell which users there are. Hashes may differ in what
    /// they cost: each unknown name has one of them for good, as each user has.
    fn hash_for(&self, name: &str) -> Option<(&PasswordHash, bool)> {
        if let Some(hash) = self.hashes.get(name) {
            return Some((hash, true));
        }
        let [first, second, ..] = self.keyed.hash(&[b"decoy", name.as_bytes()]);
        let chosen = usize::from(u16::from_le_bytes([first, second])) % self.decoys.len().max(1);
        self.decoys.get(chosen).map(|hash| (hash, false))
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

    #[test]
    fn an_unknown_user_costs_what_some_user_does_and_always_the_same() {
        let two = ["ana", "bea"].map(|name| (name.to_owned(), PasswordHash::of(name).unwrap()));
        let users = Users::new(two).unwrap();
        let of = |name: &str| users.hash_for(name).map(|(hash, theirs)| (hash.to_string(), theirs)).unwrap();
        assert!(of("ana").1 && of("bea").1);
        let strangers: Vec<_> = (0..100).map(|number| of(&format!("stranger {number}"))).collect();
        for decoy in [of("ana").0, of("bea").0] {
            assert!(strangers.contains(&(decoy, false)), "both hashes stand in for strangers");
        }
        assert!((0..100).all(|number| of(&format!("stranger {number}")) == strangers[number]));
        assert!(Users::new([]).unwrap().hash_for("ana").is_none());
    }

    #[tokio::test]
    async fn a_password_of_nobody_is_checked_as_long() {
        let users = users();
        let _all = Arc::clone(&users.runs).acquire_many_owned(RUNS as u32).await.unwrap();
        for name in ["ana", "nobody", ""] {
            let mut asked = std::pin::pin!(users.log_in(name, "guess", HERE));
            assert!(futures::poll!(&mut asked).is_pending(), "{name} waits for a place to be checked in");
        }
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
