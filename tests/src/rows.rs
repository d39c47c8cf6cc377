//! Rows to send and to compare.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, cast::AsArray, types::Int64Type};
use arrow_cast::cast;
use arrow_schema::{DataType, SchemaRef};
use futures::{TryStreamExt, stream};
use merganser::{Client, Error, IngestAck, IngestMode, TablePath};

/// One column `id` of numbers.
pub fn ids(ids: impl IntoIterator<Item = i64>) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(ids));
    RecordBatch::try_from_iter_with_nullable([("id", ids, true)]).expect("one column")
}

/// The rows of one unit: its number in each, and their own from 0. Half a unit shows in the counts.
pub fn unit(number: i64, rows: usize) -> RecordBatch {
    let columns: [ArrayRef; 2] = [
        Arc::new(Int64Array::from_value(number, rows)),
        Arc::new(Int64Array::from_iter_values((0..).take(rows))),
    ];
    let [units, parts] = columns;
    RecordBatch::try_from_iter_with_nullable([("unit", units, true), ("part", parts, true)])
        .expect("columns of one length")
}

/// Rows of about 1,024 bytes each: a number `id` and a `text`.
pub fn wide(ids: impl IntoIterator<Item = i64>) -> RecordBatch {
    let ids = Int64Array::from_iter_values(ids);
    let text = "merganser".repeat(1_008 / 9);
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(ids.iter().map(|_| &text)));
    let ids: ArrayRef = Arc::new(ids);
    RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("text", texts, true)])
        .expect("columns of one length")
}

/// Sends one batch as one unit, which creates the table if it is missing.
///
/// # Errors
/// Those of [`Client::ingest`].
pub async fn put(client: &Client, table: &str, rows: RecordBatch) -> Result<IngestAck, Error> {
    let schema: SchemaRef = rows.schema();
    let rows = stream::iter([Ok::<_, Error>(rows)]);
    let table = TablePath::new(table);
    client.ingest(&table, IngestMode::CreateOrAppend, schema, rows).await
}

/// The first column of a query's result, as numbers.
///
/// # Errors
/// Those of the query.
pub async fn integers(client: &Client, sql: &str) -> Result<Vec<i64>, Error> {
    let columns = first_column(client, sql, &DataType::Int64).await?;
    Ok(columns.iter().flat_map(|column| column.as_primitive::<Int64Type>().values().to_vec()).collect())
}

/// The only number of a query's result.
///
/// # Panics
/// When the query fails, or has no or more rows.
pub async fn integer(client: &Client, sql: &str) -> i64 {
    let numbers = integers(client, sql).await.expect("an answer");
    assert_eq!(numbers.len(), 1, "one row from {sql}");
    numbers[0]
}

/// The first column of a query's result, as text; NULL is empty.
///
/// # Errors
/// Those of the query.
pub async fn texts(client: &Client, sql: &str) -> Result<Vec<String>, Error> {
    let columns = first_column(client, sql, &DataType::Utf8).await?;
    Ok(columns
        .iter()
        .flat_map(|column| {
            let texts = column.as_string::<i32>().iter();
            texts.map(|text| text.unwrap_or_default().to_owned()).collect::<Vec<_>>()
        })
        .collect())
}

async fn first_column(client: &Client, sql: &str, to: &DataType) -> Result<Vec<ArrayRef>, Error> {
    let batches: Vec<RecordBatch> = client.query(sql).await?.try_collect().await?;
    batches.iter().map(|batch| cast(batch.column(0), to).map_err(Error::from)).collect()
}
