//! What tables there are.

use arrow_array::{Array, RecordBatch, StringArray, cast::AsArray};
use arrow_flight::sql::CommandGetTables;
use futures::TryStreamExt;

use crate::{Client, Error};

/// A table or view that the server offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableInfo {
    /// The catalog, which in DuckDB is the attached database.
    pub catalog: String,
    /// The schema inside the catalog.
    pub schema: String,
    /// The name of the table or view.
    pub name: String,
    /// What it is, such as `BASE TABLE` or `VIEW`.
    pub table_type: String,
}

impl Client {
    /// Lists the tables and views that the user may see.
    ///
    /// # Errors
    /// [`Error::Server`] with the reason.
    pub async fn tables(&self) -> Result<Vec<TableInfo>, Error> {
        let rows = self.rows_of(CommandGetTables::default()).await?;
        let batches: Vec<RecordBatch> = rows.try_collect().await?;
        let mut tables = Vec::new();
        for batch in &batches {
            tables.extend(table_infos(batch)?);
        }
        Ok(tables)
    }
}

fn table_infos(batch: &RecordBatch) -> Result<Vec<TableInfo>, Error> {
    let catalogs = text_column(batch, "catalog_name")?;
    let schemas = text_column(batch, "db_schema_name")?;
    let names = text_column(batch, "table_name")?;
    let types = text_column(batch, "table_type")?;
    let infos = (0..batch.num_rows()).map(|row| TableInfo {
        catalog: text(catalogs, row),
        schema: text(schemas, row),
        name: text(names, row),
        table_type: text(types, row),
    });
    Ok(infos.collect())
}

fn text_column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a StringArray, Error> {
    batch
        .column_by_name(name)
        .and_then(|column| column.as_string_opt())
        .ok_or_else(|| Error::Protocol(format!("the list of tables has no text column {name}")))
}

/// Flight SQL lets catalog and schema be null on servers that have none; that is an empty name here.
fn text(column: &StringArray, row: usize) -> String {
    if column.is_null(row) { String::new() } else { column.value(row).to_owned() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::ArrayRef;

    use super::*;

    fn column(value: Option<&str>) -> ArrayRef {
        Arc::new(StringArray::from(vec![value]))
    }

    #[test]
    fn nulls_are_empty_names() {
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("catalog_name", column(None), true),
            ("db_schema_name", column(Some("main")), true),
            ("table_name", column(Some("t")), false),
            ("table_type", column(Some("VIEW")), false),
        ])
        .unwrap();
        let expected = TableInfo {
            catalog: String::new(),
            schema: "main".into(),
            name: "t".into(),
            table_type: "VIEW".into(),
        };
        assert_eq!(table_infos(&batch).unwrap(), [expected]);
        let part = batch.project(&[0, 1]).unwrap();
        assert!(matches!(table_infos(&part), Err(Error::Protocol(_))));
    }
}
