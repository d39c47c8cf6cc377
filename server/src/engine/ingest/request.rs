//! What is asked for with an upload.

use super::PartitionKey;
use crate::engine::{Names, catalog::TableRef, ledger::IngestKey};

/// What to do when the table is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfMissing {
    /// Create it from the Arrow schema.
    Create,
    /// Refuse the upload.
    Fail,
}

/// What to do when the table is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfExists {
    /// Append to it, matching columns by name.
    Append,
    /// Replace it, in the same transaction as the rows.
    Replace,
    /// Refuse the upload.
    Fail,
}

/// What to do with a row whose key columns have the values of one that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnConflict {
    /// The new row takes the other's place: its columns are updated.
    Update,
    /// The row that is there stays as it is.
    Ignore,
}

/// Rows are matched with those that are there by key columns.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Merge {
    /// The key columns; none means those of the table's primary key.
    pub keys: Vec<String>,
    /// What becomes of a match.
    pub on_conflict: OnConflict,
}

/// What to do about columns that the table lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum NewColumns {
    /// Refuse the upload.
    #[default]
    Refuse,
    /// Add them to the table, in the same transaction as the rows.
    Add,
}

/// Where an upload goes.
#[derive(Debug, Clone)]
pub struct IngestRequest {
    /// The table.
    pub table: TableRef,
    /// What to do when it is not there.
    pub if_missing: IfMissing,
    /// What to do when it is.
    pub if_exists: IfExists,
    /// Whose upload it is, as any number that stays the same for one client.
    pub loader: u64,
    /// A table that only its session sees; see [`Engine::ingest_in`](crate::engine::Engine::ingest_in).
    pub temporary: bool,
    /// What an unqualified table name means; `None` is the default.
    pub names: Option<Names>,
    /// What makes sending the upload again harmless.
    pub key: Option<IngestKey>,
    /// How rows meet those that are there; `None` adds them.
    pub merge: Option<Merge>,
    /// What to do about columns that the table lacks.
    pub new_columns: NewColumns,
    /// By what the files of a table that is made in a lake are kept apart.
    pub partition_by: Vec<PartitionKey>,
}

impl IngestRequest {
    /// Behind whose units it has to be committed; what is merged has the turn, and waits for nobody.
    pub(super) fn in_order_of(&self) -> Option<u64> {
        self.merge.is_none().then_some(self.loader)
    }

    /// Appends to a table, which is created when it is missing.
    pub fn append(table: TableRef, loader: u64) -> Self {
        Self {
            table,
            if_missing: IfMissing::Create,
            if_exists: IfExists::Append,
            loader,
            temporary: false,
            names: None,
            key: None,
            merge: None,
            new_columns: NewColumns::default(),
            partition_by: Vec::new(),
        }
    }
}
