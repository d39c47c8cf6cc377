//! Whose turn it is to write, besides the writer: DML, DDL and units that create or replace a table go one
//! at a time, first come first served, so that they never conflict with each other.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{
    Error, Result,
    catalog::FullName,
    gates::{Appending, Excluding, Gates},
    permit,
    wanted::Wanted,
};
use crate::sql::Exclusion;

/// The fair queue of writers, and the gates between appends and statements that exclude them.
pub(crate) struct Turn {
    turn: Arc<Semaphore>,
    gates: Gates,
    wanted: Wanted,
    wait: Duration,
    /// When whoever has the turn has got it.
    taken: Arc<Mutex<Option<Instant>>>,
}

/// The turn, until dropped.
pub(crate) struct TurnPermit {
    taken: Arc<Mutex<Option<Instant>>>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for TurnPermit {
    fn drop(&mut self) {
        *self.taken.lock() = None;
    }
}

impl Turn {
    pub(crate) fn new(wait: Duration) -> Self {
        Self {
            turn: Arc::new(Semaphore::new(1)),
            gates: Gates::default(),
            wanted: Wanted::default(),
            wait,
            taken: Arc::default(),
        }
    }

    /// Waits for the turn, within the bound.
    pub(crate) async fn take(&self) -> Result<TurnPermit> {
        self.take_within(self.wait).await
    }

    /// Waits for the turn, within a bound of the caller's.
    pub(crate) async fn take_within(&self, wait: Duration) -> Result<TurnPermit> {
        let _waiting = self.wanted.wait();
        let busy = || Error::WriteBusy { waited: wait, held: self.held() };
        let permit = permit::take(&self.turn, 1, wait, busy).await?;
        *self.taken.lock() = Some(Instant::now());
        Ok(TurnPermit { taken: Arc::clone(&self.taken), _permit: permit })
    }

    /// For how long whoever has it has had it, in whole seconds.
    fn held(&self) -> Duration {
        let held = self.taken.lock().map_or(Duration::ZERO, |since| since.elapsed());
        Duration::from_secs(held.as_secs())
    }

    /// True while somebody waits for it, or for a table that its holder keeps to itself.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.by_somebody()
    }

    /// Announces an append; waits within a bound while a statement or transaction excludes appends to its
    /// table.
    pub(crate) async fn appending_within(&self, table: &FullName, wait: Duration) -> Result<Appending> {
        if let Some(appending) = self.gates.try_append(&table.table) {
            return Ok(appending);
        }
        let _waiting = self.wanted.wait();
        timeout(wait, self.gates.append(&table.table))
            .await
            .map_err(|_| Error::TableChanging { table: table.to_string(), waited: wait })
    }

    /// Waits until no append is under way to what is excluded, within the bound, and keeps new ones out. What
    /// `held` excludes already is not in the answer. The caller has the turn.
    pub(crate) async fn exclude(&self, what: &Exclusion, held: &Excluding) -> Result<Excluding> {
        self.exclude_within(what, held, self.wait).await
    }

    /// As [`Turn::exclude`], within a bound of the caller's.
    pub(crate) async fn exclude_within(
        &self,
        what: &Exclusion,
        held: &Excluding,
        wait: Duration,
    ) -> Result<Excluding> {
        timeout(wait, self.gates.exclude(what, held)).await.map_err(|_| Error::TableBusy(wait))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn table(name: &str) -> FullName {
        FullName { catalog: "c".into(), schema: "s".into(), table: name.into() }
    }

    #[tokio::test]
    async fn who_waits_in_vain_learns_for_how_long_the_turn_has_been_taken() {
        let turn = Turn::new(Duration::ZERO);
        let permit = turn.take().await.unwrap();
        *turn.taken.lock() = Instant::now().checked_sub(Duration::from_millis(7_500));
        let error = turn.take().await.err().unwrap();
        assert!(error.to_string().contains("the turn to write for 7s"), "{error}");
        drop(permit);
        assert_eq!(turn.held(), Duration::ZERO);
        turn.take().await.unwrap();
    }

    #[tokio::test]
    async fn waiting_at_a_gate_has_a_bound() {
        let turn = Turn::new(Duration::ZERO);
        let appending = turn.appending_within(&table("a"), Duration::ZERO).await.unwrap();
        let (alter, nothing) = (Exclusion::of_table("a"), Excluding::default());
        assert!(matches!(turn.exclude(&alter, &nothing).await, Err(Error::TableBusy(_))));
        drop(appending);

        let _altering = turn.exclude(&alter, &nothing).await.unwrap();
        let refused = turn.appending_within(&table("A"), Duration::ZERO).await;
        let Err(error @ Error::TableChanging { .. }) = refused else { panic!("not refused") };
        assert!(error.to_string().contains("table \"c\".\"s\".\"A\" was being changed"), "{error}");
        assert!(turn.appending_within(&table("b"), Duration::ZERO).await.is_ok());
    }

    #[tokio::test]
    async fn an_append_that_waits_makes_the_turn_wanted() {
        let turn = Turn::new(Duration::ZERO);
        let altering = turn.exclude(&Exclusion::of_table("a"), &Excluding::default()).await.unwrap();
        let (name, patience) = (table("a"), Duration::from_secs(3600));
        let mut waiting = Box::pin(turn.appending_within(&name, patience));
        assert!((&mut waiting).now_or_never().is_none());
        assert!(turn.is_wanted());
        drop(altering);
        assert!((&mut waiting).await.is_ok());
        drop(waiting);
        assert!(!turn.is_wanted());
    }
}
