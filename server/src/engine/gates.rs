//! The gates between appends and statements that exclude them: one for each table, and one in front of all.
//!
//! An append passes the gate of its table, then the one in front of all, and may be one of many there. Who
//! excludes some tables shuts their gates; who excludes everything shuts the one in front. Only the holder of
//! the turn shuts gates, so two of them never wait for each other, and a transaction may shut one more late.
//! An append that waits at the gate of its table holds nothing that a holder of the turn could wait for.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::sql::Exclusion;

/// All gates, and what has been written. Clones are the same ones.
#[derive(Clone, Default)]
pub(super) struct Gates {
    tables: Arc<Mutex<Tables>>,
    all: Arc<RwLock<()>>,
}

#[derive(Default)]
struct Tables {
    /// The gates that somebody has passed or waits at; the others need no room.
    gates: HashMap<String, Gate>,
    written: Written,
}

/// Which tables were written to last, told by a count of writes.
#[derive(Default)]
struct Written {
    count: u64,
    last: HashMap<String, u64>,
    /// What is known of no table is not older than this.
    forgotten: u64,
}

/// Tables of which it is known when they were written to; beyond so many all are forgotten.
const TABLES_KNOWN: usize = 10_000;

impl Written {
    fn note_all(&mut self, what: &Exclusion) {
        match what {
            Exclusion::Tables(tables) => tables.iter().for_each(|table| self.note(table)),
            Exclusion::Everything => {
                self.count += 1;
                self.forget();
            }
        }
    }

    fn note(&mut self, table: &str) {
        self.count += 1;
        if let Some(last) = self.last.get_mut(table) {
            *last = self.count;
            return;
        }
        if self.last.len() == TABLES_KNOWN {
            self.forget();
        }
        self.last.insert(table.to_owned(), self.count);
    }

    fn forget(&mut self) {
        self.last.clear();
        self.forgotten = self.count;
    }

    fn since(&self, moment: u64, what: &Exclusion) -> bool {
        match what {
            Exclusion::Everything => self.count > moment,
            Exclusion::Tables(tables) => {
                tables.iter().any(|table| *self.last.get(table).unwrap_or(&self.forgotten) > moment)
            }
        }
    }
}

#[derive(Default)]
struct Gate {
    lock: Arc<RwLock<()>>,
    users: usize,
}

/// An append under way, until dropped.
#[expect(dead_code, reason = "the gates are there to be dropped, before the lease")]
pub(crate) struct Appending {
    all: OwnedRwLockReadGuard<()>,
    table: OwnedRwLockReadGuard<()>,
    lease: Lease,
}

impl Drop for Appending {
    /// Before the gate is open for who waits to shut it.
    fn drop(&mut self) {
        self.lease.tables.lock().written.note(&self.lease.table);
    }
}

/// Nobody appends to what is excluded, until dropped. The default excludes nothing.
#[derive(Default)]
pub(crate) struct Excluding {
    everything: Option<OwnedRwLockWriteGuard<()>>,
    tables: BTreeMap<String, Shut>,
}

/// A shut gate.
#[expect(dead_code, reason = "the fields are there to be dropped, the lease last")]
struct Shut {
    table: OwnedRwLockWriteGuard<()>,
    lease: Lease,
}

impl Excluding {
    /// True when nothing lacks for this exclusion.
    pub(crate) fn covers(&self, what: &Exclusion) -> bool {
        self.everything.is_some()
            || match what {
                Exclusion::Tables(tables) => tables.iter().all(|table| self.tables.contains_key(table)),
                Exclusion::Everything => false,
            }
    }

    /// Excludes also what another one does.
    pub(crate) fn extend(&mut self, more: Self) {
        self.everything = self.everything.take().or(more.everything);
        self.tables.extend(more.tables);
    }
}

impl Gates {
    /// Announces an append; waits while its table is excluded, or somebody who came first waits to exclude it.
    pub(super) async fn append(&self, table: &str) -> Appending {
        let (lease, lock) = self.lease(table.to_lowercase());
        let table = lock.read_owned().await;
        let all = Arc::clone(&self.all).read_owned().await;
        Appending { all, table, lease }
    }

    /// The same, where nothing has to be waited for.
    pub(super) fn try_append(&self, table: &str) -> Option<Appending> {
        let (lease, lock) = self.lease(table.to_lowercase());
        let table = lock.try_read_owned().ok()?;
        let all = Arc::clone(&self.all).try_read_owned().ok()?;
        Some(Appending { all, table, lease })
    }

    /// Shuts the gates that `held` lacks, and waits until no append is under way there. For who has the turn.
    pub(super) async fn exclude(&self, what: &Exclusion, held: &Excluding) -> Excluding {
        let mut shut = Excluding::default();
        match what {
            _ if held.covers(what) => {}
            Exclusion::Everything => shut.everything = Some(Arc::clone(&self.all).write_owned().await),
            Exclusion::Tables(tables) => {
                for name in tables.iter().filter(|name| !held.tables.contains_key(*name)) {
                    let (lease, lock) = self.lease(name.clone());
                    let table = lock.write_owned().await;
                    shut.tables.insert(name.clone(), Shut { table, lease });
                }
            }
        }
        shut
    }

    /// Announces the appends of a transaction that commits, all at once: one that waited at a gate behind others would keep
    /// those shut for who waits to exclude it there.
    pub(super) async fn append_all(&self, tables: &BTreeSet<String>) -> Vec<Appending> {
        loop {
            let entered: Option<Vec<_>> = tables.iter().map(|table| self.try_append(table)).collect();
            match entered {
                Some(entered) => return entered,
                None => {
                    for table in tables {
                        drop(self.append(table).await);
                    }
                }
            }
        }
    }

    /// The present moment, for [`Gates::written_since`].
    pub(super) fn moment(&self) -> u64 {
        self.tables.lock().written.count
    }

    /// Says that something may have been written. Appends say so themselves when they end.
    pub(super) fn note_written(&self, what: &Exclusion) {
        self.tables.lock().written.note_all(what);
    }

    /// Whether a write has ended since a moment to any of these tables.
    pub(super) fn written_since(&self, moment: u64, what: &Exclusion) -> bool {
        self.tables.lock().written.since(moment, what)
    }

    fn lease(&self, table: String) -> (Lease, Arc<RwLock<()>>) {
        let mut tables = self.tables.lock();
        let gate = tables.gates.entry(table.clone()).or_default();
        gate.users += 1;
        (Lease { tables: Arc::clone(&self.tables), table }, Arc::clone(&gate.lock))
    }
}

/// Keeps the gate of a table where all find the same one. It must outlive what is done with the gate.
struct Lease {
    tables: Arc<Mutex<Tables>>,
    table: String,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let table = std::mem::take(&mut self.table);
        if let Entry::Occupied(mut gate) = self.tables.lock().gates.entry(table) {
            gate.get_mut().users -= 1;
            if gate.get().users == 0 {
                gate.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::sql::exclusion;

    /// Excludes what a text does, which must not have to wait.
    fn excluding(gates: &Gates, text: &str, held: &Excluding) -> Excluding {
        gates.exclude(&exclusion(text), held).now_or_never().expect("nobody appends")
    }

    #[test]
    fn appends_to_one_table_run_side_by_side() {
        let gates = Gates::default();
        let _first = gates.try_append("t").unwrap();
        assert!(gates.try_append("T").is_some());
    }

    #[test]
    fn an_excluded_table_takes_no_appends_and_others_do() {
        let gates = Gates::default();
        let shut = excluding(&gates, "DROP TABLE s.A; DROP TABLE b", &Excluding::default());
        for table in ["a", "A", "b"] {
            assert!(gates.try_append(table).is_none(), "{table}");
            assert!(gates.append(table).now_or_never().is_none(), "{table}");
        }
        assert!(gates.try_append("c").is_some());
        drop(shut);
        assert!(gates.append("a").now_or_never().is_some());
    }

    #[test]
    fn an_exclusion_waits_for_appends_under_way_and_those_after_it_wait_too() {
        let gates = Gates::default();
        let under_way = gates.try_append("a").unwrap();
        let (alter, nothing) = (Exclusion::of_table("a"), Excluding::default());
        let mut altering = Box::pin(gates.exclude(&alter, &nothing));
        assert!((&mut altering).now_or_never().is_none());
        let mut later = Box::pin(gates.append("a"));
        assert!((&mut later).now_or_never().is_none());
        assert!(gates.try_append("b").is_some());

        drop(under_way);
        let shut = (&mut altering).now_or_never().unwrap();
        assert!((&mut later).now_or_never().is_none());
        drop(shut);
        assert!((&mut later).now_or_never().is_some());
    }

    #[test]
    fn who_gives_up_waiting_lets_the_others_pass() {
        let gates = Gates::default();
        let _under_way = gates.try_append("a").unwrap();
        for text in ["DROP TABLE a", "DROP SCHEMA s"] {
            let (what, nothing) = (exclusion(text), Excluding::default());
            let mut waiting = Box::pin(gates.exclude(&what, &nothing));
            assert!((&mut waiting).now_or_never().is_none());
            assert!(gates.try_append("a").is_none());
            drop(waiting);
            assert!(gates.try_append("a").is_some());
        }
    }

    #[test]
    fn everything_waits_for_all_and_keeps_all_out() {
        let gates = Gates::default();
        let under_way = gates.try_append("a").unwrap();
        let (what, nothing) = (exclusion("DETACH d"), Excluding::default());
        let mut detaching = Box::pin(gates.exclude(&what, &nothing));
        assert!((&mut detaching).now_or_never().is_none());
        drop(under_way);
        let shut = (&mut detaching).now_or_never().unwrap();
        assert!(gates.try_append("a").is_none());
        assert!(gates.try_append("b").is_none());
        drop(shut);
        assert!(gates.try_append("b").is_some());
    }

    #[test]
    fn an_exclusion_grows() {
        let gates = Gates::default();
        let mut held = excluding(&gates, "DROP TABLE b", &Excluding::default());
        let waiting: Vec<_> = ["a", "b"].map(|table| Box::pin(gates.append(table))).into();
        for text in ["DROP TABLE b", "DROP TABLE a; DROP TABLE b", "DROP SCHEMA s", "DROP TABLE c"] {
            let more = excluding(&gates, text, &held);
            held.extend(more);
            assert!(held.covers(&exclusion(text)), "{text}");
        }
        drop(held);
        for append in waiting {
            assert!(append.now_or_never().is_some());
        }
    }

    /// An append that waits at its table's gate must not keep the excluder from everything else.
    #[test]
    fn appends_that_wait_do_not_hold_up_who_keeps_them_waiting() {
        let gates = Gates::default();
        let mut held = excluding(&gates, "DROP TABLE a", &Excluding::default());
        let mut waiting = Box::pin(gates.append("a"));
        assert!((&mut waiting).now_or_never().is_none());
        let more = excluding(&gates, "DROP SCHEMA s", &held);
        held.extend(more);
        let mut elsewhere = Box::pin(gates.append("b"));
        assert!((&mut elsewhere).now_or_never().is_none());
        assert!(held.covers(&exclusion("DROP TABLE b")));
        drop(held);
        assert!((&mut waiting).now_or_never().is_some());
        assert!((&mut elsewhere).now_or_never().is_some());
    }

    #[test]
    fn gates_that_nobody_uses_take_no_room() {
        let gates = Gates::default();
        for number in 0..1_000 {
            drop(gates.try_append(&format!("t{number}")).unwrap());
        }
        assert!(gates.tables.lock().gates.is_empty());

        let held = excluding(&gates, "DROP TABLE a", &Excluding::default());
        assert!(gates.append("a").now_or_never().is_none());
        let refused = gates.try_append("a");
        assert!(refused.is_none());
        assert_eq!(gates.tables.lock().gates.get("a").map(|gate| gate.users), Some(1));
        drop(held);
        assert!(gates.tables.lock().gates.is_empty());
    }

    #[test]
    fn it_is_known_what_was_appended_to_since() {
        let gates = Gates::default();
        drop(gates.try_append("A").unwrap());
        let moment = gates.moment();
        let a = Exclusion::of_table("a");
        assert!(!gates.written_since(moment, &a));
        let under_way = gates.try_append("A").unwrap();
        assert!(!gates.written_since(moment, &a));
        drop(under_way);
        assert!(gates.written_since(moment, &a) && gates.written_since(moment, &Exclusion::Everything));
        assert!(!gates.written_since(moment, &Exclusion::of_table("b")));
        assert!(!gates.written_since(gates.moment(), &Exclusion::Everything));
    }

    #[test]
    fn what_is_forgotten_counts_as_appended_to() {
        let gates = Gates::default();
        let moment = gates.moment();
        for number in 0..=TABLES_KNOWN {
            drop(gates.try_append(&format!("t{number}")).unwrap());
        }
        let first = Exclusion::of_table("t0");
        assert!(gates.written_since(moment, &first));
        assert!(!gates.written_since(gates.moment(), &first));
        assert!(gates.tables.lock().written.last.len() <= TABLES_KNOWN);
    }

    #[test]
    fn what_is_written_without_a_gate_is_known_once_it_is_noted() {
        let gates = Gates::default();
        let (a, b) = (Exclusion::of_table("a"), Exclusion::of_table("b"));
        let moment = gates.moment();
        gates.note_written(&Exclusion::nothing());
        assert!(!gates.written_since(moment, &Exclusion::Everything));
        gates.note_written(&a);
        assert!(gates.written_since(moment, &a) && !gates.written_since(moment, &b));
        let moment = gates.moment();
        gates.note_written(&Exclusion::Everything);
        assert!(gates.written_since(moment, &a) && gates.written_since(moment, &b));
    }

    #[test]
    fn a_commit_holds_no_gate_while_it_waits_at_another() {
        let gates = Gates::default();
        let (both, nothing) = (["a", "b"].map(str::to_owned).into(), Excluding::default());
        let holder = excluding(&gates, "ALTER TABLE b ADD COLUMN c INTEGER", &nothing);
        let mut committing = Box::pin(gates.append_all(&both));
        assert!((&mut committing).now_or_never().is_none());
        let more = excluding(&gates, "ALTER TABLE a ADD COLUMN c INTEGER", &holder);
        drop((holder, more));
        assert_eq!(committing.now_or_never().expect("all gates are open").len(), 2);
    }
}
