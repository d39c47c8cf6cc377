//! Bearer tokens: random, opaque, known to the server by their keyed hash only.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    Principal,
    keyed::{Digest, Keyed},
    new_token,
};

/// Tokens that are kept at once.
const CAPACITY: usize = 10_000;

/// The number of a token since the server started. It names a token without being one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TokenId(u64);

/// Whom a token stands for.
struct Held {
    id: TokenId,
    principal: Principal,
    used: Instant,
}

/// The tokens that are good at the moment.
pub(crate) struct Tokens {
    held: Mutex<HashMap<Digest, Held>>,
    next: AtomicU64,
    keyed: Keyed,
    idle: Duration,
    capacity: usize,
}

impl Tokens {
    /// No tokens yet; each will be forgotten after `idle` without use.
    pub(crate) fn new(idle: Duration) -> Result<Self, getrandom::Error> {
        Ok(Self {
            held: Mutex::default(),
            next: AtomicU64::new(1),
            keyed: Keyed::random()?,
            idle,
            capacity: CAPACITY,
        })
    }

    /// A new token. When there are too many, the principal with the most of them loses the one that it has
    /// not used for longest, so that nobody can push out others by logging in over and over.
    pub(crate) fn issue(&self, principal: Principal) -> Result<String, getrandom::Error> {
        let token = new_token()?;
        let id = TokenId(self.next.fetch_add(1, Ordering::Relaxed));
        let held = Held { id, principal, used: Instant::now() };
        if self.held.lock().len() >= self.capacity {
            self.make_room();
        }
        self.held.lock().insert(self.digest(&token), held);
        Ok(token)
    }

    /// Whom a token stands for, and its number. Asking counts as use.
    pub(crate) fn find(&self, token: &str) -> Option<(Principal, TokenId)> {
        let digest = self.digest(token);
        let mut tokens = self.held.lock();
        let held = tokens.get_mut(&digest)?;
        if held.used.elapsed() >= self.idle {
            tokens.remove(&digest);
            return None;
        }
        held.used = Instant::now();
        Some((held.principal.clone(), held.id))
    }

    /// Makes a token worthless.
    pub(crate) fn revoke(&self, id: TokenId) {
        self.held.lock().retain(|_, held| held.id != id);
    }

    fn make_room(&self) {
        self.held.lock().retain(|_, held| held.used.elapsed() < self.idle);
        while let Some(surplus) = self.surplus() {
            self.revoke(surplus);
        }
    }

    /// The token that has to go for another one to come.
    fn surplus(&self) -> Option<TokenId> {
        let tokens = self.held.lock();
        if tokens.len() < self.capacity {
            return None;
        }
        let mut counts: HashMap<&Principal, usize> = HashMap::new();
        tokens.values().for_each(|held| *counts.entry(&held.principal).or_default() += 1);
        let (most, _) = counts.into_iter().max_by_key(|(_, count)| *count)?;
        let theirs = tokens.values().filter(|held| held.principal == *most);
        theirs.min_by_key(|held| held.used).map(|held| held.id)
    }

    fn digest(&self, token: &str) -> Digest {
        self.keyed.hash(&[token.as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn tokens(idle: Duration, capacity: usize) -> Tokens {
        Tokens { capacity, ..Tokens::new(idle).unwrap() }
    }

    #[test]
    fn a_token_stands_for_its_principal_until_it_is_revoked() {
        let tokens = tokens(HOUR, 9);
        let ana = tokens.issue(Principal::named("ana")).unwrap();
        let eva = tokens.issue(Principal::named("eva")).unwrap();
        let (principal, id) = tokens.find(&ana).unwrap();
        assert_eq!(principal.name(), "ana");
        assert_eq!(tokens.find(&ana).unwrap().1, id);
        tokens.revoke(id);
        assert_eq!(tokens.find(&ana), None);
        assert_eq!(tokens.find(&eva).unwrap().0.name(), "eva");
        assert_eq!(tokens.find("nonsense"), None);
    }

    #[test]
    fn an_unused_token_expires() {
        let tokens = tokens(Duration::ZERO, 9);
        let token = tokens.issue(Principal::ANONYMOUS).unwrap();
        assert_eq!(tokens.find(&token), None);
    }

    #[test]
    fn who_logs_in_over_and_over_pushes_out_only_itself() {
        let tokens = tokens(HOUR, 3);
        let eva = tokens.issue(Principal::named("eva")).unwrap();
        let anas: Vec<_> = (0..5).map(|_| tokens.issue(Principal::named("ana")).unwrap()).collect();
        assert!(tokens.find(&eva).is_some());
        let alive: Vec<_> = anas.iter().map(|token| tokens.find(token).is_some()).collect();
        assert_eq!(alive, [false, false, false, true, true]);
    }
}
