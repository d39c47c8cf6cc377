//! A bounded map whose entries expire when they are not used.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// The share of all that one owner may have where room is short.
const SHARES: usize = 4;

/// Values by handle. Full means that the one unused for longest goes: of its owner where that would have more than a share
/// of all, so that nobody pushes out what others have, and else of anybody.
pub(crate) struct Expiring<V> {
    entries: Mutex<Entries<V>>,
    capacity: usize,
    /// Bytes of all values together.
    bytes: usize,
    weigh: fn(&V) -> usize,
    owner: fn(&V) -> &[u8],
    idle: Duration,
}

struct Entries<V> {
    by_handle: HashMap<Vec<u8>, Entry<V>>,
    bytes: usize,
}

struct Entry<V> {
    used: Instant,
    bytes: usize,
    value: V,
}

/// The values have as many bytes as they may have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl<V: Clone> Expiring<V> {
    /// For values of which only the number counts, and that are one owner's.
    pub(crate) fn new(capacity: usize, idle: Duration) -> Self {
        Self::weighing(capacity, usize::MAX, |_| 0, |_| &[], idle)
    }

    /// For values that have so many `bytes` at the most, all together.
    pub(crate) fn weighing(
        capacity: usize,
        bytes: usize,
        weigh: fn(&V) -> usize,
        owner: fn(&V) -> &[u8],
        idle: Duration,
    ) -> Self {
        let entries = Entries { by_handle: HashMap::new(), bytes: 0 };
        Self { entries: Mutex::new(entries), capacity, bytes, weigh, owner, idle }
    }

    pub(crate) fn insert(&self, handle: Vec<u8>, value: V) {
        let bytes = (self.weigh)(&value);
        let mut entries = self.entries.lock();
        entries.remove(&handle);
        let full = |entries: &Entries<V>| {
            entries.by_handle.len() >= self.capacity || entries.bytes.saturating_add(bytes) > self.bytes
        };
        if full(&entries) {
            entries.expire(self.idle);
        }
        while full(&entries) && self.make_room(&mut entries, &value, bytes) {}
        entries.put(handle, Entry { used: Instant::now(), bytes, value });
    }

    /// Forgets one for a value that comes; false when there is none.
    fn make_room(&self, entries: &mut Entries<V>, value: &V, bytes: usize) -> bool {
        let is_own = |entry: &Entry<V>| (self.owner)(&entry.value) == (self.owner)(value);
        let own = entries.by_handle.values().filter(|entry| is_own(entry));
        let (count, bytes) = own.fold((1, bytes), |(count, bytes), own| (count + 1, bytes + own.bytes));
        let is_more_than_its_share = count > self.capacity / SHARES || bytes > self.bytes / SHARES;
        (is_more_than_its_share && entries.forget_oldest(is_own)) || entries.forget_oldest(|_| true)
    }

    pub(crate) fn get(&self, handle: &[u8]) -> Option<V> {
        let mut entries = self.entries.lock();
        let entry = entries.by_handle.get_mut(handle)?;
        if entry.used.elapsed() >= self.idle {
            entries.remove(handle);
            return None;
        }
        entry.used = Instant::now();
        Some(entry.value.clone())
    }

    /// Puts a value in another's place; false when there is none. Others make room only by expiring.
    pub(crate) fn replace(&self, handle: &[u8], value: V) -> Result<bool, Full> {
        let bytes = (self.weigh)(&value);
        let mut entries = self.entries.lock();
        if !entries.by_handle.contains_key(handle) {
            return Ok(false);
        }
        let full = |entries: &Entries<V>| {
            let before = entries.by_handle.get(handle).map_or(0, |entry| entry.bytes);
            bytes > before && entries.bytes - before + bytes > self.bytes
        };
        if full(&entries) {
            entries.expire(self.idle);
        }
        if full(&entries) {
            return Err(Full);
        }
        entries.remove(handle);
        entries.put(handle.to_vec(), Entry { used: Instant::now(), bytes, value });
        Ok(true)
    }

    /// Looks at all that have not expired.
    pub(crate) fn each(&self, mut look: impl FnMut(&V)) {
        let entries = self.entries.lock();
        let living = entries.by_handle.values().filter(|entry| entry.used.elapsed() < self.idle);
        living.for_each(|entry| look(&entry.value));
    }

    pub(crate) fn remove(&self, handle: &[u8]) {
        self.entries.lock().remove(handle);
    }
}

impl<V> Entries<V> {
    fn put(&mut self, handle: Vec<u8>, entry: Entry<V>) {
        self.bytes += entry.bytes;
        self.by_handle.insert(handle, entry);
    }

    fn remove(&mut self, handle: &[u8]) {
        if let Some(entry) = self.by_handle.remove(handle) {
            self.bytes -= entry.bytes;
        }
    }

    fn expire(&mut self, idle: Duration) {
        let bytes = &mut self.bytes;
        self.by_handle.retain(|_, entry| {
            let stays = entry.used.elapsed() < idle;
            if !stays {
                *bytes -= entry.bytes;
            }
            stays
        });
    }

    /// Of some of them; false when there is none.
    fn forget_oldest(&mut self, of: impl Fn(&Entry<V>) -> bool) -> bool {
        let some = self.by_handle.iter().filter(|(_, entry)| of(entry));
        let oldest = some.min_by_key(|(_, entry)| entry.used);
        let oldest = oldest.map(|(handle, _)| handle.clone());
        oldest.is_some_and(|handle| {
            self.remove(&handle);
            true
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_unused_makes_room() {
        let map = Expiring::new(2, Duration::from_secs(60));
        map.insert(vec![1], 'a');
        map.insert(vec![2], 'b');
        assert_eq!(map.get(&[1]), Some('a'));
        map.insert(vec![3], 'c');
        assert_eq!((map.get(&[1]), map.get(&[2]), map.get(&[3])), (Some('a'), None, Some('c')));
    }

    #[test]
    fn what_is_not_used_expires() {
        let map = Expiring::new(2, Duration::ZERO);
        map.insert(vec![1], 'a');
        assert_eq!(map.get(&[1]), None);
    }

    #[test]
    fn what_is_heavy_makes_others_go_and_may_not_become_heavier() {
        let map = Expiring::weighing(10, 100, |weight: &usize| *weight, |_| &[], Duration::from_secs(60));
        map.insert(vec![1], 40);
        map.insert(vec![2], 40);
        map.insert(vec![3], 70);
        assert_eq!((map.get(&[1]), map.get(&[2]), map.get(&[3])), (None, None, Some(70)));
        map.insert(vec![4], 10);
        assert_eq!(map.replace(&[4], 31), Err(Full));
        assert_eq!(map.replace(&[4], 30), Ok(true));
        assert_eq!(map.replace(&[5], 1), Ok(false));
        map.remove(&[3]);
        assert_eq!(map.replace(&[4], 100), Ok(true));
        // What is too heavy for all is kept alone.
        map.insert(vec![6], 1_000);
        assert_eq!((map.get(&[4]), map.get(&[6])), (None, Some(1_000)));
        assert_eq!(map.replace(&[6], 900), Ok(true));
        assert_eq!(map.entries.lock().bytes, 900);
    }

    #[test]
    fn what_has_expired_makes_room() {
        let map = Expiring::weighing(10, 100, |weight: &usize| *weight, |_| &[], Duration::ZERO);
        map.insert(vec![1], 90);
        map.insert(vec![2], 90);
        assert_eq!(map.entries.lock().bytes, 90);
    }
}
