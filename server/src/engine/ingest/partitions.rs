//! By what the files of a new table in a lake are kept apart.

use std::str::FromStr;

use crate::{
    engine::{Error, catalog::FullName},
    sql::quote,
};

/// DuckLake's functions of a time.
const FUNCTIONS: [&str; 4] = ["year", "month", "day", "hour"];

/// A column, or a part of a time in it: `region`, `year(ordered)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionKey {
    function: Option<&'static str>,
    column: String,
}

impl FromStr for PartitionKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let called = text.strip_suffix(')').and_then(|call| call.split_once('('));
        let (function, column) = match called {
            None => (None, text),
            Some((name, column)) => {
                let name = name.trim().to_lowercase();
                let known = FUNCTIONS.into_iter().find(|known| *known == name);
                let function = known.ok_or_else(|| {
                    let known = FUNCTIONS.join(", ");
                    Error::BadName(format!("partition_by knows the functions {known}, and not {name:?}"))
                })?;
                (Some(function), column.trim())
            }
        };
        if column.is_empty() || column.contains('\0') {
            return Err(Error::BadName("partition_by has no column where one is needed".into()));
        }
        Ok(Self { function, column: column.to_owned() })
    }
}

impl PartitionKey {
    fn is_same_as(&self, other: &Self) -> bool {
        self.function == other.function && self.column.eq_ignore_ascii_case(&other.column)
    }

    fn check(&self, columns: &[String], sql_types: &[String]) -> Result<(), Error> {
        let wrong = |reason: &str| {
            Err(Error::SchemaMismatch(format!("partition_by names the column {:?}, {reason}", self.column)))
        };
        let Some(at) = columns.iter().position(|column| column.eq_ignore_ascii_case(&self.column)) else {
            return wrong("which the upload has not");
        };
        let is_time = ["DATE", "TIMESTAMP"].iter().any(|kind| sql_types[at].starts_with(kind));
        match self.function {
            Some(function) if !is_time => wrong(&format!("which is no time that has a {function}")),
            _ => Ok(()),
        }
    }
}

/// Refuses keys that a table of these columns, with their SQL types, cannot have. DuckLake takes the same one twice, and fails
/// once it writes a file by them.
pub(super) fn check(keys: &[PartitionKey], columns: &[String], sql_types: &[String]) -> Result<(), Error> {
    for (at, key) in keys.iter().enumerate() {
        key.check(columns, sql_types)?;
        if keys[..at].iter().any(|other| other.is_same_as(key)) {
            return Err(Error::SchemaMismatch(format!(
                "partition_by names the column {:?} twice in the same way",
                key.column
            )));
        }
    }
    Ok(())
}

/// The statement that partitions a table.
pub(super) fn partition_sql(table: &FullName, keys: &[PartitionKey]) -> String {
    let keys: Vec<_> = keys
        .iter()
        .map(|PartitionKey { function, column }| match function {
            None => quote(column),
            Some(function) => format!("{function}({})", quote(column)),
        })
        .collect();
    format!("ALTER TABLE {} SET PARTITIONED BY ({})", table.sql(), keys.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_columns_or_parts_of_times() {
        let keys: Vec<PartitionKey> = ["region", " Year( ordered )"].map(|key| key.parse().unwrap()).into();
        let table = FullName { catalog: "l".into(), schema: "main".into(), table: "t".into() };
        assert_eq!(
            partition_sql(&table, &keys),
            "ALTER TABLE \"l\".\"main\".\"t\" SET PARTITIONED BY (\"region\", year(\"ordered\"))"
        );
    }

    #[test]
    fn a_key_that_is_there_twice_is_refused() {
        let (columns, types) = (["at", "b"].map(str::to_owned), ["TIMESTAMP", "DATE"].map(str::to_owned));
        for (text, is_fine) in [
            ("at,b", true),
            ("at,year(at)", true),
            ("year(at),month(at),year(b)", true),
            ("at,AT", false),
            ("year(at),b,YEAR(At)", false),
        ] {
            let keys: Vec<PartitionKey> = text.split(',').map(|key| key.parse().unwrap()).collect();
            assert_eq!(check(&keys, &columns, &types).is_ok(), is_fine, "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for key in ["", "year()", "sleep(x)", "drop(x"] {
            // A column may be called anything, even so.
            assert_eq!(key.parse::<PartitionKey>().is_ok(), key == "drop(x", "{key}");
        }
    }
}
