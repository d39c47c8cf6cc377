//! Who may have how much of a budget, and who waits for some.

use std::collections::{BTreeMap, HashMap, VecDeque};

use tokio::sync::oneshot;

use super::{Share, Sharer};

/// What each loader and upload has, and what is free.
pub(super) struct Quotas {
    /// All that there is; as in the pool, which tells it without the lock.
    total: usize,
    pub(super) free: usize,
    /// What each loader holds; nobody is here who holds nothing.
    pub(super) held: HashMap<u64, Held>,
    /// Those who wait, first come first. One that fits overtakes those that do not: a large batch must not stop
    /// everybody.
    pub(super) waiting: VecDeque<Waiting>,
}

/// What a loader holds.
#[derive(Default)]
pub(super) struct Held {
    bytes: usize,
    /// The same by upload, the oldest first.
    uploads: BTreeMap<u64, usize>,
}

/// An upload that waits for its share.
pub(super) struct Waiting {
    pub(super) sharer: Sharer,
    /// What it holds already of that for which it needs more.
    pub(super) held: usize,
    pub(super) bytes: usize,
    pub(super) give: oneshot::Sender<Share>,
}

impl Quotas {
    /// Nobody has anything of so many bytes.
    pub(super) fn of(total: usize) -> Self {
        Self { total, free: total, held: HashMap::new(), waiting: VecDeque::new() }
    }

    /// Takes so many bytes for an upload, beside what it holds for the same; false when it may not have them all.
    pub(super) fn take(&mut self, sharer: Sharer, held: usize, bytes: usize) -> bool {
        self.give_back(sharer, held);
        let may = self.may_take(sharer, held + bytes);
        self.hold(sharer, if may { held + bytes } else { held });
        may
    }

    fn may_take(&self, sharer: Sharer, bytes: usize) -> bool {
        match self.held.get(&sharer.loader) {
            None => bytes <= self.free,
            Some(held) => held.may_take(sharer.upload, bytes, self.free, collectable(self.total)),
        }
    }

    fn hold(&mut self, sharer: Sharer, bytes: usize) {
        if bytes > 0 {
            self.free -= bytes;
            self.held.entry(sharer.loader).or_default().add(sharer.upload, bytes);
        }
    }

    pub(super) fn give_back(&mut self, sharer: Sharer, bytes: usize) {
        self.free += bytes;
        if let Some(held) = self.held.get_mut(&sharer.loader) {
            held.remove(sharer.upload, bytes);
            if held.bytes == 0 {
                self.held.remove(&sharer.loader);
            }
        }
    }

    /// Has another upload hold what this one has held.
    pub(super) fn pass_on(&mut self, from: Sharer, to: Sharer, bytes: usize) {
        if from != to {
            self.give_back(from, bytes);
            self.hold(to, bytes);
        }
    }

    /// Takes for those who wait what they may have now.
    pub(super) fn serve(&mut self) -> Vec<Waiting> {
        let (mut served, mut passed) = (Vec::new(), Vec::new());
        while self.free > 0
            && let Some(waiting) = self.waiting.pop_front()
        {
            if waiting.give.is_closed() {
                continue;
            }
            match self.take(waiting.sharer, waiting.held, waiting.bytes) {
                true => served.push(waiting),
                false => passed.push(waiting),
            }
        }
        passed.into_iter().rev().for_each(|waiting| self.waiting.push_front(waiting));
        served
    }
}

impl Held {
    /// Whether an upload of this loader may have so many bytes more, where so many are free.
    fn may_take(&self, upload: u64, bytes: usize, free: usize, collectable: usize) -> bool {
        let loader = self.bytes + bytes;
        if bytes > free || loader > free - bytes {
            return false;
        }
        match self.uploads.get(&upload) {
            Some(held) if held + bytes <= collectable && self.is_oldest(upload) => true,
            Some(held) if *held < self.bytes => {
                // The loader holds half of this at the most, as things are.
                let share = (free + self.bytes) / 2;
                held + bytes <= share.saturating_sub(loader)
            }
            // Its first batch, or an upload that is alone.
            _ => true,
        }
    }

    fn is_oldest(&self, upload: u64) -> bool {
        self.uploads.first_key_value().is_some_and(|(oldest, _)| *oldest == upload)
    }

    fn add(&mut self, upload: u64, bytes: usize) {
        self.bytes += bytes;
        *self.uploads.entry(upload).or_default() += bytes;
    }

    fn remove(&mut self, upload: u64, bytes: usize) {
        self.bytes -= bytes;
        if let Some(held) = self.uploads.get_mut(&upload) {
            *held -= bytes;
            if *held == 0 {
                self.uploads.remove(&upload);
            }
        }
    }
}

/// The same as [`Budget::collectable`], by the whole budget.
pub(super) fn collectable(total: usize) -> usize {
    total / 3
}
