//! Whether the columns of a query can be cast to what `returns` promises.
//!
//! DuckDB plans `CAST(bigint AS DATE)` without a word, and fails at the first value. So each cast is tried on a value of
//! the column's type when the server starts. What a value cannot be is no reason to refuse: other values may be.

use super::{NamedQuery, Result, wrong};
use crate::engine::{
    Exports,
    ffi::{Connection, Prepared},
    statement::prepare_one,
};

/// How DuckDB's text begins where there is no such cast, whatever the value.
const NO_SUCH_CAST: &str = "Unimplemented type for cast";

/// Tries all casts; the columns of `prepared` are those of the query before any cast.
pub(super) fn check(query: &NamedQuery, prepared: &Prepared, connection: &Connection) -> Result<()> {
    let Some(returns) = &query.returns else { return Ok(()) };
    let schema = prepared.schema()?;
    for (field, sample) in schema.fields().iter().zip(prepared.samples()) {
        let Some(data_type) = returns.get(field.name()) else { continue };
        if let Some(reason) = why_not(&sample, data_type, connection) {
            let column = field.name();
            return Err(wrong(
                query,
                format!("its column {column:?} cannot be cast to {data_type}, as `returns` asks: {reason}"),
            ));
        }
    }
    Ok(())
}

/// DuckDB's reason, where there is no such cast: both types, and nothing of our statement.
fn why_not(sample: &str, data_type: &str, connection: &Connection) -> Option<String> {
    let sql = format!("SELECT CAST({sample} AS {data_type})");
    let tried = prepare_one(connection, &Exports::default(), &sql)
        .and_then(|prepared| Ok(prepared.execute()?.next().map(drop)?));
    let text = tried.err()?.to_string();
    let begins = text.find(NO_SUCH_CAST)?;
    text[begins..].lines().next().map(str::to_owned)
}
