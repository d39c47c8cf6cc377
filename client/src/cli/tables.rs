//! `merganser tables`: what there is to query.

use std::{process::ExitCode, sync::Arc};

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use merganser::{Error, TableInfo};

use super::{Connection, pretty};

/// Prints the tables and views of the server.
pub(crate) async fn run(connection: Connection) -> Result<ExitCode, Error> {
    let tables = connection.open().await?.tables().await?;
    let column = |value: fn(&TableInfo) -> &String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(tables.iter().map(value)))
    };
    let batch = RecordBatch::try_from_iter([
        ("catalog", column(|table| &table.catalog)),
        ("schema", column(|table| &table.schema)),
        ("name", column(|table| &table.name)),
        ("type", column(|table| &table.table_type)),
    ])?;
    pretty::print(batch)?;
    Ok(ExitCode::SUCCESS)
}
