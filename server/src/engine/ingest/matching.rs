//! Which rows are the same: by key columns that the loader names, or else by the table's primary key.

use super::{
    IngestRequest, OnConflict,
    fit::{Fit, has_word, mismatch},
};
use crate::engine::{Error, Result, catalog::TableInfo};

/// How the rows of an upload are matched with those that are there, and with each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Matching {
    /// Places of the key columns in the upload, ascending.
    pub(super) keys: Vec<usize>,
    /// What becomes of a match.
    pub(super) on_conflict: OnConflict,
    /// A row that is there may go, and the new one come in its place: the upload has all its columns, and nothing
    /// in the table is unique, so that nothing refers to it.
    pub(super) replaces: bool,
}

impl Matching {
    /// What the request asks for; `None` when rows are not matched. `table` is the table that is kept.
    pub(super) fn decide(
        request: &IngestRequest,
        fit: &Fit,
        table: Option<&TableInfo>,
    ) -> Result<Option<Self>> {
        let Some(merge) = &request.merge else { return Ok(None) };
        let names = match (&merge.keys[..], table) {
            ([], Some(table)) => &table.keys.primary[..],
            (named, _) => named,
        };
        if names.is_empty() {
            let reason = match table {
                Some(_) => {
                    "the table has no primary key by which rows could be matched; name the key columns in merge_keys"
                }
                None => {
                    "a table that is created has no primary key by which rows could be matched; name the key columns in merge_keys"
                }
            };
            return Err(Error::SchemaMismatch(reason.into()));
        }
        let mut keys = names.iter().map(|name| place(name, fit, table)).collect::<Result<Vec<_>>>()?;
        if let Some((key, kind)) = keys.iter().find_map(|key| Some((*key, inexact(&fit.sql_types()[*key])?)))
        {
            let reason =
                format!("it is a key by which rows are matched, and DuckDB {kind}; match by other columns");
            return Err(mismatch(&fit.columns()[key], &reason));
        }
        keys.sort_unstable();
        keys.dedup();
        let replaces = table.is_some_and(|table| !table.keys.unique && fit.fills(table));
        Ok(Some(Self { keys, on_conflict: merge.on_conflict, replaces }))
    }

    /// Whether the same rows match. How they are exchanged may have changed meanwhile.
    pub(super) fn are_alike(one: Option<&Self>, other: Option<&Self>) -> bool {
        let what = |matching: &Self| (matching.keys.clone(), matching.on_conflict);
        one.map(what) == other.map(what)
    }
}

/// Why DuckDB 1.5.5 cannot tell which values of a type are the same.
fn inexact(sql_type: &str) -> Option<&'static str> {
    let kinds = [
        ("GEOMETRY", "does not find a GEOMETRY again"),
        ("VARIANT", "takes the same VARIANT for another where the types in it differ"),
        ("INTERVAL", "takes an INTERVAL of a month for one of 30 days"),
    ];
    kinds.into_iter().find(|(word, _)| has_word(sql_type, word)).map(|(_, kind)| kind)
}

/// Where the key column is in the upload; the table must have it before.
fn place(key: &str, fit: &Fit, table: Option<&TableInfo>) -> Result<usize> {
    let is_in_table =
        table.is_none_or(|table| table.columns.iter().any(|column| column.name.eq_ignore_ascii_case(key)));
    if !is_in_table {
        return Err(mismatch(key, "it is a key by which rows are matched, and the table has no such column"));
    }
    fit.columns().iter().position(|column| column.eq_ignore_ascii_case(key)).ok_or_else(|| {
        mismatch(key, "it is a key by which rows are matched, and the upload has no such column")
    })
}
