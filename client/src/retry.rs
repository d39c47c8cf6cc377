//! Trying again: how long, and with what pauses.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{Client, ClientOptions, Error};

/// How long to keep trying when a call fails in a way that may pass.
///
/// The pause before try `n` is drawn evenly from zero to `first * 2^n`, at most `largest`, so that loaders which
/// failed together do not come back together. Where the server asks for a longer pause, it gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Time to keep trying, from the first failure on; a success starts it anew. Zero means no second try.
    pub total: Duration,
    /// Upper bound of the first pause.
    pub first: Duration,
    /// Upper bound of every pause.
    pub largest: Duration,
}

impl Default for RetryPolicy {
    /// Five minutes: long enough for a server to be restarted and to replay its log.
    fn default() -> Self {
        Self::lasting(Duration::from_secs(300))
    }
}

impl RetryPolicy {
    /// No second try.
    pub const NEVER: Self = Self::lasting(Duration::ZERO);

    /// Tries for so long, with pauses of up to 0.1 s at first and 10 s later.
    pub const fn lasting(total: Duration) -> Self {
        Self { total, first: Duration::from_millis(100), largest: Duration::from_secs(10) }
    }

    /// Runs `call` until it succeeds, fails for good, or the time is over; then its last error is returned.
    /// `harmless` says that doing it twice does no harm, so that it is run again also when nobody knows whether it
    /// was done.
    ///
    /// Logs in again where the token is no longer good and there is a password.
    ///
    /// # Errors
    /// Those of `call`.
    pub async fn run<T, F>(
        &self,
        client: &Client,
        harmless: bool,
        call: impl FnMut() -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        Retries::new(*self, harmless).run(client, call).await
    }

    /// Connects as [`Client::connect_with`] does, and again while nobody answers or the server asks to wait. What
    /// fails is told to `waiting` before each pause.
    ///
    /// # Errors
    /// Those of [`Client::connect_with`].
    pub async fn connect(
        &self,
        url: &str,
        options: &ClientOptions,
        mut waiting: impl FnMut(&Error),
    ) -> Result<Client, Error> {
        // To log in twice does no harm.
        let mut retries = Retries::new(*self, true);
        loop {
            let error = match Client::connect_with(url, options).await {
                Ok(client) => return Ok(client),
                Err(error) => error,
            };
            let Some(pause) = retries.pause_after(&error) else { return Err(error) };
            waiting(&error);
            tokio::time::sleep(pause).await;
        }
    }
}

/// Who is told of an error after which it is tried again: of the first one after each success, before the pause.
#[derive(Clone)]
pub struct OnTrouble(Arc<dyn Fn(&Error) + Send + Sync>);

impl OnTrouble {
    /// Calls `tell`, which must not take long: nothing is sent meanwhile.
    pub fn new(tell: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }
}

impl fmt::Debug for OnTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnTrouble")
    }
}

/// The tries of one call, or of the calls between two successes.
#[derive(Debug)]
pub(crate) struct Retries {
    policy: RetryPolicy,
    harmless: bool,
    since: Option<Instant>,
    failures: u32,
    logged_in_again: bool,
    on_trouble: Option<OnTrouble>,
}

impl Retries {
    pub(crate) fn new(policy: RetryPolicy, harmless: bool) -> Self {
        Self { policy, harmless, since: None, failures: 0, logged_in_again: false, on_trouble: None }
    }

    pub(crate) fn telling(self, on_trouble: Option<OnTrouble>) -> Self {
        Self { on_trouble, ..self }
    }

    pub(crate) async fn run<T, F>(mut self, client: &Client, mut call: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        loop {
            match call().await {
                Ok(done) => return Ok(done),
                Err(error) => self.wait_after(client, error).await?,
            }
        }
    }

    /// Something succeeded: what fails from now on is another trouble.
    pub(crate) fn succeeded(&mut self) {
        *self = Self::new(self.policy, self.harmless).telling(self.on_trouble.take());
    }

    /// Waits until it is time for another try; gives the error back when there should be none.
    pub(crate) async fn wait_after(&mut self, client: &Client, mut error: Error) -> Result<(), Error> {
        if error.unauthenticated() && !self.logged_in_again {
            match client.log_in_again().await {
                Ok(true) => {
                    self.logged_in_again = true;
                    return Ok(());
                }
                Ok(false) => return Err(error),
                Err(refusal) => error = refusal,
            }
        }
        let Some(pause) = self.pause_after(&error) else { return Err(error) };
        // A server that is started again forgets the token again.
        self.logged_in_again = false;
        self.tell(&error);
        tokio::time::sleep(pause).await;
        Ok(())
    }

    fn tell(&self, error: &Error) {
        if let Some(OnTrouble(tell)) = self.on_trouble.as_ref().filter(|_| self.failures == 1) {
            tell(error);
        }
    }

    /// The pause after an error; none when there should be no other try.
    fn pause_after(&mut self, error: &Error) -> Option<Duration> {
        let again = if self.harmless { error.retryable_with_key() } else { error.retryable() };
        let since = *self.since.get_or_insert_with(Instant::now);
        again.then(|| self.pause(since.elapsed(), error.retry_after())).flatten()
    }

    /// The pause before the next try; none when it would end after the time is over.
    fn pause(&mut self, elapsed: Duration, wanted: Option<Duration>) -> Option<Duration> {
        let doubled = 2_u32.saturating_pow(self.failures);
        self.failures = self.failures.saturating_add(1);
        let bound = self.policy.first.saturating_mul(doubled).min(self.policy.largest);
        let pause = bound.mul_f64(fastrand::f64()).max(wanted.unwrap_or_default());
        let left = self.policy.total.checked_sub(elapsed)?;
        (!self.policy.total.is_zero() && pause <= left).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn retries(total: Duration) -> Retries {
        Retries::new(RetryPolicy { total, first: SECOND, largest: 8 * SECOND }, true)
    }

    #[test]
    fn pauses_grow_up_to_the_largest_and_differ() {
        for _ in 0..100 {
            let mut retries = retries(1000 * SECOND);
            for bound in [1, 2, 4, 8, 8, 8] {
                assert!(retries.pause(SECOND, None).unwrap() < bound * SECOND);
            }
        }
        let mut retries = retries(1000 * SECOND);
        retries.failures = u32::MAX;
        assert_ne!(retries.pause(SECOND, None), retries.pause(SECOND, None));
    }

    #[test]
    fn the_server_may_ask_for_a_longer_pause() {
        assert_eq!(retries(60 * SECOND).pause(SECOND, Some(20 * SECOND)), Some(20 * SECOND));
        assert_eq!(retries(60 * SECOND).pause(50 * SECOND, Some(20 * SECOND)), None);
    }

    #[test]
    fn it_ends() {
        assert_eq!(retries(60 * SECOND).pause(61 * SECOND, None), None);
        assert_eq!(retries(Duration::ZERO).pause(Duration::ZERO, Some(Duration::ZERO)), None);
    }
}
