//! A bounded map whose entries expire when they are not used.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// Values by handle. Full means that the one unused for longest goes.
pub(crate) struct Expiring<V> {
    entries: Mutex<HashMap<Vec<u8>, (Instant, V)>>,
    capacity: usize,
    idle: Duration,
}

impl<V: Clone> Expiring<V> {
    pub(crate) fn new(capacity: usize, idle: Duration) -> Self {
        Self { entries: Mutex::default(), capacity, idle }
    }

    pub(crate) fn insert(&self, handle: Vec<u8>, value: V) {
        let mut entries = self.entries.lock();
        if entries.len() >= self.capacity {
            entries.retain(|_, (used, _)| used.elapsed() < self.idle);
        }
        if entries.len() >= self.capacity {
            let oldest = entries.iter().min_by_key(|(_, (used, _))| *used).map(|(handle, _)| handle.clone());
            oldest.and_then(|handle| entries.remove(&handle));
        }
        entries.insert(handle, (Instant::now(), value));
    }

    pub(crate) fn get(&self, handle: &[u8]) -> Option<V> {
        self.update(handle, |value| value.clone())
    }

    /// Changes a value in place; `None` when the handle is unknown or expired.
    pub(crate) fn update<T>(&self, handle: &[u8], change: impl FnOnce(&mut V) -> T) -> Option<T> {
        let mut entries = self.entries.lock();
        let (used, value) = entries.get_mut(handle)?;
        if used.elapsed() >= self.idle {
            entries.remove(handle);
            return None;
        }
        *used = Instant::now();
        Some(change(value))
    }

    pub(crate) fn remove(&self, handle: &[u8]) {
        self.entries.lock().remove(handle);
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
}
