//! Units that are committed together.

use std::time::Instant;

use super::{Unit, storage::Transaction};
use crate::{
    engine::{
        ingest::Ack,
        ledger::{Entry, SharedLedger},
    },
    metrics,
};

/// A group is complete at this many units,
const UNITS: usize = 256;
/// this many rows,
const ROWS: usize = 65_536;
/// or this many bytes.
const BYTES: usize = 32 << 20;

/// How many groups so many rows are at the least, from one on.
pub(crate) fn groups_of(rows: usize, bytes: usize) -> u32 {
    let groups = rows.div_ceil(ROWS).max(bytes.div_ceil(BYTES)).max(1);
    u32::try_from(groups).unwrap_or(u32::MAX)
}

/// How much units are.
#[derive(Default)]
pub(crate) struct Size {
    units: usize,
    rows: usize,
    bytes: usize,
}

impl Size {
    pub(crate) fn of<'a>(units: impl IntoIterator<Item = &'a Unit>) -> Self {
        let mut size = Self::default();
        units.into_iter().for_each(|unit| size.add(unit.rows, unit.bytes));
        size
    }

    /// Counts one more unit.
    pub(crate) fn add(&mut self, rows: usize, bytes: usize) {
        self.units += 1;
        self.rows += rows;
        self.bytes += bytes;
    }

    /// Whether it is as much as one commit should take.
    pub(crate) fn is_complete(&self) -> bool {
        self.units >= UNITS || self.rows >= ROWS || self.bytes >= BYTES
    }
}

/// The units of one commit.
pub(super) struct Group {
    pub(super) units: Vec<Unit>,
    /// Their entries in the ledger.
    pub(super) entries: Vec<Entry>,
    /// The number of the commit.
    pub(super) commit: u64,
    pub(super) started: Instant,
}

impl Group {
    /// An empty one.
    pub(super) fn new(commit: u64) -> Self {
        Self { units: Vec::new(), entries: Vec::new(), commit, started: Instant::now() }
    }

    /// Tells the ledger and every loader that it is committed.
    pub(super) fn acknowledge(self, ledger: &SharedLedger) {
        let Self { units, entries, commit, started } = self;
        ledger.lock().record_all(entries);
        let Size { rows, bytes, .. } = Size::of(&units);
        metrics::group_committed(units.len(), rows, bytes, started.elapsed());
        let micros = started.elapsed().as_micros() as u64;
        tracing::debug!(commit, units = units.len(), rows, micros, "committed a group");
        for unit in units {
            if let Some(keyed) = &unit.keyed {
                ledger.lock().note_lag(&keyed.key.loader, unit.received.elapsed());
            }
            let (rows, bytes) = (unit.rows as u64, unit.bytes as u64);
            let ack = Ack { rows, bytes, commit, committed: true, duplicate: false };
            // A loader that has gone learns of its rows when it asks; they are there.
            let _ = unit.answer.send(Ok(ack));
        }
    }
}

/// A group whose rows are in a transaction that lacks its COMMIT.
pub(super) struct OpenGroup<T> {
    pub(super) transaction: T,
    pub(super) group: Group,
}

impl<T: Transaction> OpenGroup<T> {
    /// Rolls the transaction back; what was in it has to be committed otherwise.
    pub(super) fn roll_back(self) -> Group {
        drop(self.transaction);
        self.group
    }
}
