//! GetPrimaryKeys, GetExportedKeys, GetImportedKeys and GetCrossReference. The Arrow library has no builders
//! for them; the schemas are those of FlightSql.proto. The protocol has no command for unique keys.
//!
//! A table that does not exist has no keys: drivers expect no rows.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, UInt8Array};
use arrow_flight::sql::{
    CommandGetCrossReference, CommandGetExportedKeys, CommandGetImportedKeys, CommandGetPrimaryKeys,
    UpdateDeleteRules,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use arrow_select::concat::concat_batches;
use tonic::Status;

use crate::{
    engine::{CatalogView, ForeignKeyFilter, ForeignKeyOrder, TableFilter},
    flight::error::{engine_status, internal},
};

/// DuckDB has no other: it refuses a change that would leave a key without its row.
const RULE: u8 = UpdateDeleteRules::NoAction as u8;

/// The schema of GetPrimaryKeys.
pub(super) fn primary_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("catalog_name", DataType::Utf8, true),
        Field::new("db_schema_name", DataType::Utf8, true),
        Field::new("table_name", DataType::Utf8, false),
        Field::new("column_name", DataType::Utf8, false),
        Field::new("key_name", DataType::Utf8, true),
        Field::new("key_sequence", DataType::Int32, false),
    ]))
}

/// The schema of the three commands for foreign keys.
pub(super) fn foreign_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("pk_catalog_name", DataType::Utf8, true),
        Field::new("pk_db_schema_name", DataType::Utf8, true),
        Field::new("pk_table_name", DataType::Utf8, false),
        Field::new("pk_column_name", DataType::Utf8, false),
        Field::new("fk_catalog_name", DataType::Utf8, true),
        Field::new("fk_db_schema_name", DataType::Utf8, true),
        Field::new("fk_table_name", DataType::Utf8, false),
        Field::new("fk_column_name", DataType::Utf8, false),
        Field::new("key_sequence", DataType::Int32, false),
        Field::new("fk_key_name", DataType::Utf8, true),
        Field::new("pk_key_name", DataType::Utf8, true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ]))
}

pub(super) async fn primary(
    view: &CatalogView,
    command: CommandGetPrimaryKeys,
) -> Result<RecordBatch, Status> {
    let CommandGetPrimaryKeys { catalog, db_schema: schema, table } = command;
    let keys = view.primary_keys(&TableFilter { catalog, schema, table }).await.map_err(engine_status)?;
    one_batch(&primary_schema(), keys.iter().map(|keys| keys.columns().to_vec()))
}

/// The foreign keys of others that refer to a table.
pub(super) async fn exported(
    view: &CatalogView,
    command: CommandGetExportedKeys,
) -> Result<RecordBatch, Status> {
    let CommandGetExportedKeys { catalog, db_schema: schema, table } = command;
    let primary = Some(TableFilter { catalog, schema, table });
    foreign(view, ForeignKeyFilter { primary, foreign: None }, ForeignKeyOrder::Foreign).await
}

/// The foreign keys of a table.
pub(super) async fn imported(
    view: &CatalogView,
    command: CommandGetImportedKeys,
) -> Result<RecordBatch, Status> {
    let CommandGetImportedKeys { catalog, db_schema: schema, table } = command;
    let foreign_table = Some(TableFilter { catalog, schema, table });
    let filter = ForeignKeyFilter { primary: None, foreign: foreign_table };
    foreign(view, filter, ForeignKeyOrder::Primary).await
}

/// The foreign keys of one table that refer to another.
pub(super) async fn cross_reference(
    view: &CatalogView,
    command: CommandGetCrossReference,
) -> Result<RecordBatch, Status> {
    let CommandGetCrossReference { pk_catalog, pk_db_schema, pk_table, fk_catalog, fk_db_schema, fk_table } =
        command;
    let filter = ForeignKeyFilter {
        primary: Some(TableFilter { catalog: pk_catalog, schema: pk_db_schema, table: pk_table }),
        foreign: Some(TableFilter { catalog: fk_catalog, schema: fk_db_schema, table: fk_table }),
    };
    foreign(view, filter, ForeignKeyOrder::Primary).await
}

async fn foreign(
    view: &CatalogView,
    filter: ForeignKeyFilter,
    order: ForeignKeyOrder,
) -> Result<RecordBatch, Status> {
    let keys = view.foreign_keys(&filter, order).await.map_err(engine_status)?;
    one_batch(&foreign_schema(), keys.iter().map(with_rules))
}

/// The catalog's columns, and the two of rules behind them.
fn with_rules(keys: &RecordBatch) -> Vec<ArrayRef> {
    let rules: ArrayRef = Arc::new(UInt8Array::from_value(RULE, keys.num_rows()));
    [keys.columns(), &[Arc::clone(&rules), rules]].concat()
}

/// The columns under the names of the protocol; it is checked that they have its types.
fn one_batch(
    schema: &SchemaRef,
    batches: impl Iterator<Item = Vec<ArrayRef>>,
) -> Result<RecordBatch, Status> {
    let named = batches.map(|columns| RecordBatch::try_new(Arc::clone(schema), columns));
    named
        .collect::<Result<Vec<_>, _>>()
        .and_then(|batches| concat_batches(schema, &batches))
        .map_err(|error| internal(&error))
}
