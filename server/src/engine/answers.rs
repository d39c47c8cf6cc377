//! Small answers of DuckDB to the server's own questions.

use std::sync::Arc;

use arrow_array::{Array, cast::AsArray, types::Int64Type};

use super::{Error, Result, ffi::Connection};

/// The first value of a one-row query, as text.
pub(crate) fn first_text(connection: &Connection, sql: &str) -> Result<String> {
    let mut rows = connection.extract(sql)?.prepare(0)?.execute()?;
    match rows.next()? {
        Some(batch) if batch.num_rows() > 0 => Ok(batch.column(0).as_string::<i32>().value(0).to_owned()),
        _ => Err(Error::Internal(format!("no answer to {sql}"))),
    }
}

/// The numbers in the first row of a result; NULL is none.
pub(crate) fn numbers(connection: &Connection, sql: &str) -> Result<Vec<Option<i64>>> {
    let mut rows = connection.extract(sql)?.prepare(0)?.execute()?;
    let mut numbers = Vec::new();
    while let Some(batch) = rows.next()? {
        if batch.num_rows() > 0 {
            let of = |column: &Arc<dyn Array>| {
                let column = column.as_primitive::<Int64Type>();
                column.is_valid(0).then(|| column.value(0))
            };
            numbers = batch.columns().iter().map(of).collect();
        }
    }
    Ok(numbers)
}

/// How many there are, by a query of one number.
pub(crate) fn count(connection: &Connection, sql: &str) -> Result<u64> {
    Ok(numbers(connection, sql)?.first().copied().flatten().unwrap_or_default() as u64)
}

/// The texts in the first column of a result; NULL is empty.
pub(crate) fn texts(connection: &Connection, sql: &str) -> Result<Vec<String>> {
    let mut rows = connection.extract(sql)?.prepare(0)?.execute()?;
    let mut texts = Vec::new();
    while let Some(batch) = rows.next()? {
        let column = batch.column(0).as_string::<i32>();
        texts.extend(column.iter().map(|text| text.unwrap_or_default().to_owned()));
    }
    Ok(texts)
}

/// The first value of the first row of a result, as text; NULL and no row are none.
pub(crate) fn text_or_null(connection: &Connection, sql: &str) -> Result<Option<String>> {
    let mut rows = connection.extract(sql)?.prepare(0)?.execute()?;
    let mut text = None;
    while let Some(batch) = rows.next()? {
        text = batch.column(0).as_string::<i32>().iter().next().flatten().map(str::to_owned).or(text);
    }
    Ok(text)
}
