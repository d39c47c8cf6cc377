//! What an ingest may ask for besides its rows.

use std::{collections::HashMap, fmt};

use crate::Error;

/// What an ingest does about the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum IngestMode {
    /// Create the table; fail if it exists.
    Create,
    /// Append to the table; fail if it does not exist.
    Append,
    /// Drop the table if it exists, and create it anew.
    Replace,
    /// Append to the table; create it first if it does not exist.
    #[default]
    CreateOrAppend,
}

/// The name of a unit, by which the server knows it when it is sent again: `loader/epoch/sequence`.
///
/// The sequence numbers the loader's units without gaps, from 1, and goes on over its epochs. A process that takes
/// over a loader begins a higher epoch, which keeps the process before it from writing any more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IngestKey {
    /// Name of the loader, up to 200 bytes without control characters.
    pub loader: String,
    /// Which process speaks for the loader.
    pub epoch: u64,
    /// Which of the loader's units it is.
    pub sequence: u64,
}

impl IngestKey {
    /// The key of one unit.
    pub fn new(loader: impl Into<String>, epoch: u64, sequence: u64) -> Self {
        Self { loader: loader.into(), epoch, sequence }
    }
}

impl fmt::Display for IngestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.loader, self.epoch, self.sequence)
    }
}

/// What becomes of a row whose key the table has already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnConflict {
    /// It takes the place of the row that is there, in the columns that are sent.
    #[default]
    Update,
    /// The row that is there stays.
    Ignore,
}

/// Rows are matched with those of the table by key columns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Merge {
    /// Names of the key columns; none means the table's primary key.
    pub keys: Vec<String>,
    /// What becomes of a row whose key is there already.
    pub on_conflict: OnConflict,
}

/// What becomes of columns that the table lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NewColumns {
    /// The unit is refused.
    #[default]
    Refuse,
    /// They are added to the table.
    Add,
}

/// How rows go into a table. The default appends, creates the table if it is missing, and has no key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct IngestOptions {
    /// What to do about the table.
    pub mode: IngestMode,
    /// Name of the unit, which makes it harmless to send it again.
    pub key: Option<IngestKey>,
    /// Update or ignore rows by key columns instead of appending all.
    pub merge: Option<Merge>,
    /// What to do about columns that the table lacks.
    pub new_columns: NewColumns,
    /// By what the files of a table are kept apart that is made in a lake: columns, or `year`, `month`, `day` or
    /// `hour` of a time, such as `year(at)`. A table that is there keeps its own.
    pub partition_by: Vec<String>,
}

impl IngestOptions {
    /// Those that Flight SQL has no field for, as options of its ingest command. Headers would do as well, but they
    /// hold nothing but ASCII.
    pub(crate) fn named(&self) -> Result<HashMap<String, String>, Error> {
        let mut options = HashMap::new();
        let mut set = |name: &str, value: String| options.insert(name.to_owned(), value);
        if let Some(key) = &self.key {
            set("ingest_key", key.to_string());
        }
        if let Some(merge) = &self.merge {
            if !merge.keys.is_empty() {
                set("merge_keys", list("a key column", &merge.keys)?);
            }
            let on_conflict = match merge.on_conflict {
                OnConflict::Update => "update",
                OnConflict::Ignore => "ignore",
            };
            set("on_conflict", on_conflict.to_owned());
        }
        if self.new_columns == NewColumns::Add {
            set("new_columns", "add".to_owned());
        }
        if !self.partition_by.is_empty() {
            set("partition_by", list("what a table is partitioned by", &self.partition_by)?);
        }
        Ok(options)
    }
}

/// Names as the server reads them: separated by commas.
fn list(what: &str, names: &[String]) -> Result<String, Error> {
    match names.iter().find(|name| name.contains(',') || name.trim() != *name || name.is_empty()) {
        None => Ok(names.join(",")),
        Some(name) => Err(Error::Usage(format!(
            "{name:?} cannot be {what}: it is empty, holds a comma, or begins or ends with a space"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_the_names_that_the_server_knows() {
        assert!(IngestOptions::default().named().unwrap().is_empty());
        let keys = vec!["id".to_owned(), "größe".to_owned()];
        let options = IngestOptions {
            key: Some(IngestKey::new("plant/7", 2, 41)),
            merge: Some(Merge { keys, on_conflict: OnConflict::Ignore }),
            new_columns: NewColumns::Add,
            partition_by: vec!["region".to_owned(), "year(at)".to_owned()],
            ..IngestOptions::default()
        };
        let named = options.named().unwrap();
        let expected = [
            ("ingest_key", "plant/7/2/41"),
            ("merge_keys", "id,größe"),
            ("on_conflict", "ignore"),
            ("new_columns", "add"),
            ("partition_by", "region,year(at)"),
        ];
        assert_eq!(named.len(), expected.len());
        for (name, value) in expected {
            assert_eq!(named[name], value);
        }
    }

    #[test]
    fn a_column_that_a_list_cannot_hold_is_refused() {
        for name in ["a,b", " a", ""] {
            let merge = Some(Merge { keys: vec![name.into()], ..Merge::default() });
            let options = IngestOptions { merge, ..IngestOptions::default() };
            assert!(matches!(options.named(), Err(Error::Usage(_))), "{name:?}");
            let options = IngestOptions { partition_by: vec![name.into()], ..IngestOptions::default() };
            assert!(matches!(options.named(), Err(Error::Usage(_))), "{name:?}");
        }
    }
}
