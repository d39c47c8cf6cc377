//! Refusals of loaders that have committed nothing yet, counted since the start of the server.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// So many names are kept. Anybody may send any name, so then the one that came first is forgotten.
const NAMES: usize = 1_000;

/// Counts by the loader's name.
#[derive(Debug, Clone, Default)]
pub(super) struct Refused {
    counts: HashMap<Arc<str>, u64>,
    /// The names, as they came.
    order: VecDeque<Arc<str>>,
}

impl Refused {
    pub(super) fn add(&mut self, loader: &Arc<str>) {
        if let Some(count) = self.counts.get_mut(loader) {
            *count += 1;
            return;
        }
        if self.counts.len() >= NAMES
            && let Some(first) = self.order.pop_front()
        {
            self.counts.remove(&first);
        }
        self.counts.insert(Arc::clone(loader), 1);
        self.order.push_back(Arc::clone(loader));
    }

    /// The count of a loader that is known otherwise from now on.
    pub(super) fn take(&mut self, loader: &str) -> u64 {
        let Some(count) = self.counts.remove(loader) else { return 0 };
        self.order.retain(|name| **name != *loader);
        count
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, u64)> {
        self.counts.iter().map(|(loader, count)| (loader, *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_the_first_is_forgotten() {
        let mut refused = Refused::default();
        let names: Vec<Arc<str>> = (0..=NAMES).map(|number| number.to_string().into()).collect();
        names[..NAMES].iter().for_each(|name| refused.add(name));
        refused.add(&names[0]);
        assert_eq!(refused.counts[&names[0]], 2);
        refused.add(&names[NAMES]);
        assert_eq!((refused.counts.len(), refused.order.len()), (NAMES, NAMES));
        assert_eq!([&names[0], &names[1], &names[NAMES]].map(|name| refused.take(name)), [0, 1, 1]);
        assert_eq!((refused.counts.len(), refused.order.len()), (NAMES - 2, NAMES - 2));
    }
}
