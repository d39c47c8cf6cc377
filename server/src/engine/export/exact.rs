//! Exports to Parquet keep each value, or say that they cannot: what DuckDB would change in such a file is cast before.

use super::refuse;
use crate::{
    engine::{
        Result,
        ffi::{Connection, Prepared},
    },
    sql::{Export, quote},
};

/// Plans an export to Parquet; `planned` is its plan with the rows as they are.
///
/// # Errors
/// DuckDB's; [`Error::ExportRefused`](crate::engine::Error::ExportRefused) where parameters hide what the rows are.
pub(super) fn plan(
    connection: &Connection,
    export: &Export,
    target: &str,
    planned: Prepared,
) -> Result<Prepared> {
    let rows = connection.extract(&export.rows())?.prepare(0)?;
    if !rows.is_typed() {
        return refuse(
            "the types of what is exported depend on parameters; give each of them a type, as in $1::BIGINT",
        );
    }
    match kept(&export.rows(), &rows.parquet_columns()) {
        Some(query) => Ok(connection.extract(&export.sql_of(&query, target))?.prepare(0)?),
        None => Ok(planned),
    }
}

/// The query with its columns cast; `None` where none of them has to be. Columns go by their place, because several may
/// have one name.
fn kept(query: &str, columns: &[(String, Option<String>)]) -> Option<String> {
    columns.iter().find(|(_, cast)| cast.is_some())?;
    let cast = |(index, (name, cast)): (usize, &(String, Option<String>))| match cast {
        Some(cast) => format!("CAST(c{index} AS {cast}) AS {}", quote(name)),
        None => format!("c{index} AS {}", quote(name)),
    };
    let selected: Vec<_> = columns.iter().enumerate().map(cast).collect();
    let places: Vec<_> = (0..columns.len()).map(|index| format!("c{index}")).collect();
    Some(format!("SELECT {} FROM ({query}\n) AS exported({})", selected.join(", "), places.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_cast_by_their_places() {
        let plain = ("a".to_owned(), None);
        let cast = ("a\"b".to_owned(), Some("VARCHAR".to_owned()));
        assert_eq!(kept("FROM t", std::slice::from_ref(&plain)), None);
        let expected =
            "SELECT c0 AS \"a\", CAST(c1 AS VARCHAR) AS \"a\"\"b\" FROM (FROM t\n) AS exported(c0, c1)";
        assert_eq!(kept("FROM t", &[plain, cast]).as_deref(), Some(expected));
    }
}
