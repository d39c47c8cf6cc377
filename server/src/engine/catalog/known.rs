//! Descriptions of tables, kept until a schema changes.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{FullName, TableInfo};

/// So many are kept at the most: they go by the spellings of clients, and one name in 20 letters has a million of those.
const MOST: usize = 4096;

/// What is known of tables.
#[derive(Default)]
pub(super) struct Known {
    /// By the clock of the schemas.
    at: u64,
    tables: HashMap<FullName, (Instant, Arc<TableInfo>)>,
}

impl Known {
    /// The description of a table, and its age, if it is still right by that clock.
    pub(super) fn get(&self, name: &FullName, at: u64) -> Option<(Duration, Arc<TableInfo>)> {
        let (since, info) = self.tables.get(name).filter(|_| self.at == at)?;
        Some((since.elapsed(), Arc::clone(info)))
    }

    /// Keeps the description of a table from before which the clock told this, unless a schema has changed meanwhile.
    pub(super) fn keep(&mut self, at: u64, name: FullName, info: Arc<TableInfo>) {
        if self.at < at {
            *self = Self { at, ..Self::default() };
        }
        if self.at == at {
            if self.tables.len() >= MOST && !self.tables.contains_key(&name) {
                self.tables.clear();
            }
            self.tables.insert(name, (Instant::now(), info));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::TableKeys, *};

    fn name(number: usize) -> FullName {
        FullName { catalog: "c".into(), schema: "main".into(), table: number.to_string() }
    }

    fn info() -> Arc<TableInfo> {
        Arc::new(TableInfo { columns: Vec::new(), keys: TableKeys::default() })
    }

    #[test]
    fn so_many_spellings_are_kept_and_no_more() {
        let mut known = Known::default();
        (0..MOST).for_each(|number| known.keep(1, name(number), info()));
        known.keep(1, name(7), info());
        assert!(
            (0..MOST).all(|number| known.get(&name(number), 1).is_some()),
            "one that is known takes no place"
        );
        known.keep(1, name(MOST), info());
        assert_eq!(known.tables.len(), 1);
        assert!(known.get(&name(MOST), 1).is_some());
    }

    #[test]
    fn what_was_known_before_a_schema_changed_is_forgotten() {
        let mut known = Known::default();
        known.keep(1, name(1), info());
        assert!(known.get(&name(1), 2).is_none());
        known.keep(2, name(2), info());
        known.keep(1, name(3), info());
        assert_eq!(known.tables.len(), 1, "what was asked before the change is not kept after it");
        assert!(known.get(&name(2), 2).is_some());
    }
}
