//! Statements that DuckDB has failed at.
//!
//! An INTERNAL error is a fault of DuckDB's own, and after one that came while a statement ran, the instance takes no
//! more work: it is opened again, which ends what all clients have running. Whoever sends the same text in a loop, as
//! a dashboard does, would so keep everybody from working. Such a text is refused for a while.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{Error, Result, error::Class};

/// A text is refused for so long.
const REFUSED_FOR: Duration = Duration::from_secs(600);

/// So many texts are kept at most; then the one whose time ends first makes room.
const KEPT: usize = 1_000;

/// The texts that are refused, by their hashes.
#[derive(Default)]
pub(crate) struct Quarantine {
    hasher: RandomState,
    refused: Mutex<HashMap<u64, Refused>>,
}

struct Refused {
    until: Instant,
    /// What DuckDB said.
    message: String,
}

impl Quarantine {
    /// What `work`, which runs the client's text, gives. It does not begin where DuckDB has failed at this text of late,
    /// and where it fails now, the text is refused from now on.
    ///
    /// # Errors
    /// [`Error::Quarantined`]; those of `work`.
    pub(crate) fn guard<T>(&self, text: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let key = self.hasher.hash_one(text);
        self.check(key, Instant::now())?;
        let outcome = work();
        if let Err(Error::Duck { class: Class::Internal, message }) = &outcome {
            self.refuse(key, message, Instant::now());
        }
        outcome
    }

    fn check(&self, key: u64, now: Instant) -> Result<()> {
        match self.refused.lock().get(&key) {
            Some(refused) if refused.until > now => Err(Error::Quarantined {
                seconds: (refused.until - now).as_secs() + 1,
                message: refused.message.clone(),
            }),
            _ => Ok(()),
        }
    }

    fn refuse(&self, key: u64, message: &str, now: Instant) {
        let mut refused = self.refused.lock();
        refused.retain(|_, one| one.until > now);
        if refused.len() >= KEPT
            && let Some(first) = refused.iter().min_by_key(|(_, one)| one.until).map(|(&key, _)| key)
        {
            refused.remove(&first);
        }
        refused.insert(key, Refused { until: now + REFUSED_FOR, message: message.to_owned() });
        tracing::warn!(
            seconds = REFUSED_FOR.as_secs(),
            "the statement that DuckDB failed at is refused for a while"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(class: Class) -> Result<()> {
        Err(Error::Duck { class, message: "INTERNAL Error: no such entry".into() })
    }

    #[test]
    fn a_text_that_duckdb_fails_at_is_refused_and_no_other_is() {
        let quarantine = Quarantine::default();
        assert!(quarantine.guard("a", || failing(Class::Internal)).is_err());
        quarantine.guard("b", || Ok(())).unwrap();
        let refused = quarantine.guard("a", || -> Result<()> { panic!("it must not run") }).unwrap_err();
        assert!(
            matches!(&refused, Error::Quarantined { seconds: 599..=600, message } if message.ends_with("no such entry")),
            "{refused}"
        );
    }

    #[test]
    fn errors_of_the_statement_itself_cost_nothing() {
        let quarantine = Quarantine::default();
        for class in [Class::Syntax, Class::Interrupted, Class::OutOfMemory, Class::Down, Class::Fatal] {
            assert!(quarantine.guard("a", || failing(class)).is_err());
            quarantine.guard("a", || Ok(())).unwrap();
        }
    }

    #[test]
    fn a_text_is_let_in_again_when_its_time_is_over() {
        let (quarantine, start) = (Quarantine::default(), Instant::now());
        quarantine.refuse(1, "x", start);
        assert!(quarantine.check(1, start + REFUSED_FOR - Duration::from_secs(1)).is_err());
        quarantine.check(1, start + REFUSED_FOR).unwrap();
    }

    #[test]
    fn no_more_than_so_many_are_kept_and_the_oldest_goes_first() {
        let (quarantine, start) = (Quarantine::default(), Instant::now());
        for key in 0..=KEPT as u64 {
            quarantine.refuse(key, "x", start + Duration::from_millis(key));
        }
        assert_eq!(quarantine.refused.lock().len(), KEPT);
        quarantine.check(0, start).unwrap();
        assert!(quarantine.check(1, start).is_err());
    }
}
