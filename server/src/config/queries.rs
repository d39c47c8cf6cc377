//! `[[query]]`, as the file has it.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::{
    ConfigError, invalid,
    lake::{OptionEntry, checked_name, is_word, yes},
    ordered::Ordered,
};
use crate::{
    engine::{Input, NamedQuery, Parameter},
    sql::{placeholders, unnamed_placeholder},
};

/// What means something else where a query is called over HTTP.
const RESERVED_PARAMETERS: [&str; 5] = ["cursor", "format", "limit", "offset", "total"];

/// A named query as the file has it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct QueryEntry {
    name: String,
    description: Option<String>,
    sql: String,
    #[serde(default)]
    params: BTreeMap<String, ParameterEntry>,
    returns: Option<BTreeMap<String, String>>,
    input: Option<InputEntry>,
    #[serde(default = "yes")]
    required: bool,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct ParameterEntry {
    #[serde(rename = "type")]
    data_type: String,
    default: Option<OptionEntry>,
    #[serde(default)]
    optional: bool,
    description: Option<String>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct InputEntry {
    name: String,
    columns: Ordered<String>,
}

/// An entry as it is written, as far as the order of names counts in it: views go by the order of their columns.
#[derive(Debug, Deserialize)]
pub(super) struct Written {
    input: Option<InputEntry>,
}

/// Gives the inputs the order in which they are written.
pub(super) fn put_in_order(entries: &mut [QueryEntry], written: Vec<Written>) {
    for (entry, Written { input }) in entries.iter_mut().zip(written) {
        entry.input = input;
    }
}

/// Checks the queries as far as that goes without DuckDB.
pub(super) fn queries(entries: Vec<QueryEntry>) -> Result<Vec<NamedQuery>, ConfigError> {
    let mut names = HashSet::new();
    entries.into_iter().map(|entry| query(entry, &mut names)).collect()
}

fn query(entry: QueryEntry, names: &mut HashSet<String>) -> Result<NamedQuery, ConfigError> {
    let QueryEntry { name, description, sql, params, returns, input, required } = entry;
    let name = checked_name("query", name, names)?;
    let wrong =
        |key: &str, reason: String| invalid(&format!("query.{key}"), &format!("of {name:?} {reason}"));
    if let Some(unnamed) = unnamed_placeholder(&sql) {
        let reason =
            format!("has a parameter without a name, {unnamed}; write $name, and declare it in params");
        return Err(wrong("sql", reason));
    }
    let mut declared: BTreeMap<_, _> =
        params.into_iter().map(|(name, entry)| (name.to_lowercase(), entry)).collect();
    let mut parameters = Vec::new();
    for (mentioned, _) in placeholders(&sql) {
        if parameters.iter().any(|parameter: &Parameter| parameter.name == mentioned) {
            continue;
        }
        let Some(entry) = declared.remove(&mentioned) else {
            return Err(wrong("sql", format!("has ${mentioned}, which params does not declare")));
        };
        if !is_word(&mentioned) || RESERVED_PARAMETERS.contains(&mentioned.as_str()) {
            return Err(wrong("params", format!("has {mentioned:?}, which means something else in a call")));
        }
        if entry.default.is_some() && entry.optional {
            return Err(wrong(
                "params",
                format!("has {mentioned:?} with a default and as optional; one will do"),
            ));
        }
        let ParameterEntry { data_type, default, optional, description } = entry;
        let default = default.map(Into::into);
        parameters.push(Parameter { name: mentioned, data_type, default, optional, description });
    }
    if let Some(unused) = declared.keys().next() {
        return Err(wrong("params", format!("declares {unused:?}, which the SQL does not mention")));
    }
    let input = match input {
        Some(InputEntry { name: input, .. }) if !is_word(&input) => {
            return Err(wrong("input", format!("has the name {input:?}, which is no name of a table")));
        }
        Some(InputEntry { columns: Ordered(columns), .. }) if columns.is_empty() => {
            return Err(wrong("input", "has no columns".into()));
        }
        Some(InputEntry { name, columns: Ordered(columns) }) => Some(Input { name, columns }),
        None => None,
    };
    Ok(NamedQuery { name, description, sql, parameters, returns, input, required })
}
