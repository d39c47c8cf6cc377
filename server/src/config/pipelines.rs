//! `[[pipeline]]`, as the file has it.

use std::{collections::HashSet, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    ConfigError,
    catalogs::check_every,
    invalid,
    lake::{OneOrMany, checked_name},
};
use crate::engine::{Maintenance, Pipeline, TableRef};

/// A pipeline as the file has it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PipelineEntry {
    name: String,
    from: String,
    incremental: String,
    overlap: Option<String>,
    into: String,
    #[serde(default)]
    key: OneOrMany,
    #[serde(default, with = "humantime_serde")]
    every: Option<Duration>,
    #[serde(default, with = "humantime_serde")]
    limit: Option<Duration>,
}

/// Checks the pipelines.
pub(super) fn pipelines(entries: Vec<PipelineEntry>) -> Result<Vec<Pipeline>, ConfigError> {
    let mut names = HashSet::new();
    entries.into_iter().map(|entry| pipeline(entry, &mut names)).collect()
}

fn pipeline(entry: PipelineEntry, names: &mut HashSet<String>) -> Result<Pipeline, ConfigError> {
    let PipelineEntry { name, from, incremental, overlap, into, key, every, limit } = entry;
    let name = checked_name("pipeline", name, names)?;
    let wrong =
        |key: &str, reason: &str| invalid(&format!("pipeline.{key}"), &format!("of {name:?} {reason}"));
    for (key, text) in [("from", &from), ("incremental", &incremental), ("into", &into)] {
        if text.trim().is_empty() {
            return Err(wrong(key, "is empty"));
        }
    }
    let parts: Vec<_> = into.split('.').map(str::to_owned).collect();
    let table =
        TableRef::from_path(&parts).map_err(|error| wrong("into", &format!("is no table: {error}")))?;
    let key = key.into_vec();
    if key.iter().any(String::is_empty) {
        return Err(wrong("key", "has an empty name"));
    }
    // Rows that are read again would come twice.
    if overlap.is_some() && key.is_empty() {
        return Err(wrong("overlap", "needs a key, by which rows that are read again are known"));
    }
    check_every(every).map_err(|reason| wrong("every", reason))?;
    check_every(limit).map_err(|reason| wrong("limit", reason))?;
    let limit = limit.unwrap_or(Maintenance::default().limit);
    Ok(Pipeline { name, from, incremental, overlap, into: table, key, every, limit })
}
