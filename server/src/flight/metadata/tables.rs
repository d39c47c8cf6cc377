//! GetCatalogs, GetDbSchemas, GetTables and GetTableTypes. DuckDB judges the patterns; the builders of the
//! Arrow library own the schemas and the order.

use std::collections::HashMap;

use arrow_array::RecordBatch;
use arrow_flight::sql::{CommandGetCatalogs, CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables};
use arrow_schema::{Field, Schema};
use tonic::Status;

use super::xdbc;
use crate::{
    engine::{CatalogView, ColumnDetail, Relation, RelationFilter},
    flight::error::{engine_status, internal},
};

/// What a table can be. Temporary ones are listed to those who name their catalog, `temp`.
const TABLE_TYPES: [&str; 3] = ["LOCAL TEMPORARY", "TABLE", "VIEW"];

/// A longer name of a type, an enumeration's with all its values say, loses its parameters: it travels with
/// every column, and messages have a largest size.
const MAX_TYPE_NAME_BYTES: usize = 4 << 10;

pub(super) async fn catalogs(view: &CatalogView, command: CommandGetCatalogs) -> Result<RecordBatch, Status> {
    let mut catalogs = command.into_builder();
    for catalog in view.catalogs().await.map_err(engine_status)? {
        catalogs.append(catalog);
    }
    catalogs.build().map_err(|error| internal(&error))
}

pub(super) async fn db_schemas(
    view: &CatalogView,
    command: CommandGetDbSchemas,
) -> Result<RecordBatch, Status> {
    let (catalog, pattern) = (command.catalog.as_deref(), command.db_schema_filter_pattern.as_deref());
    let found = view.schemas_like(catalog, pattern).await.map_err(engine_status)?;
    let mut schemas = CommandGetDbSchemas::default().into_builder();
    for (catalog, schema) in found {
        schemas.append(catalog, schema);
    }
    schemas.build().map_err(|error| internal(&error))
}

pub(super) fn table_types(command: CommandGetTableTypes) -> Result<RecordBatch, Status> {
    let mut types = command.into_builder();
    for table_type in TABLE_TYPES {
        types.append(table_type);
    }
    types.build().map_err(|error| internal(&error))
}

pub(super) async fn tables(view: &CatalogView, command: CommandGetTables) -> Result<RecordBatch, Status> {
    let include_schema = command.include_schema;
    let filter = RelationFilter {
        catalog: command.catalog,
        schema: command.db_schema_filter_pattern,
        table: command.table_name_filter_pattern,
        kinds: command.table_types,
        columns: include_schema,
    };
    let mut tables = CommandGetTables { include_schema, ..CommandGetTables::default() }.into_builder();
    for relation in view.relations_like(filter).await.map_err(engine_status)? {
        tables
            .append(
                &relation.catalog,
                &relation.schema,
                &relation.name,
                &relation.kind,
                &described(&relation),
            )
            .map_err(|error| internal(&error))?;
    }
    tables.build().map_err(|error| internal(&error))
}

/// The columns of a table with the metadata that drivers read.
fn described(relation: &Relation) -> Schema {
    let columns = relation.columns.fields().iter().zip(&relation.details);
    let fields = columns.map(|(field, detail)| {
        let mut metadata = field.metadata().clone();
        metadata.extend(column_metadata(relation, field, detail));
        field.as_ref().clone().with_metadata(metadata)
    });
    Schema::new(fields.collect::<Vec<_>>())
}

fn column_metadata(relation: &Relation, field: &Field, detail: &ColumnDetail) -> HashMap<String, String> {
    let known = xdbc::known(&detail.sql_type);
    let flag = |flag: bool| if flag { "1" } else { "0" }.to_owned();
    let number = |own: Option<i32>, of_type: Option<i32>| own.or(of_type).map(|number| number.to_string());
    let case_sensitive = field.data_type().is_string();
    [
        ("CATALOG_NAME", Some(relation.catalog.clone())),
        // The protocol's text says DB_SCHEMA_NAME, its libraries read SCHEMA_NAME.
        ("DB_SCHEMA_NAME", Some(relation.schema.clone())),
        ("SCHEMA_NAME", Some(relation.schema.clone())),
        ("TABLE_NAME", Some(relation.name.clone())),
        ("TYPE_NAME", Some(type_name(&detail.sql_type).to_owned())),
        ("REMARKS", detail.comment.clone()),
        ("PRECISION", number(detail.precision, known.and_then(|known| known.digits))),
        ("SCALE", number(detail.scale, known.and_then(|known| known.scale))),
        ("IS_AUTO_INCREMENT", Some(flag(detail.auto_increment))),
        ("IS_CASE_SENSITIVE", Some(flag(case_sensitive))),
        ("IS_READ_ONLY", Some(flag(relation.read_only))),
        ("IS_SEARCHABLE", Some(flag(true))),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((format!("ARROW:FLIGHT:SQL:{key}"), value?)))
    .collect()
}

fn type_name(sql_type: &str) -> &str {
    match sql_type.split_once('(') {
        Some((name, _)) if sql_type.len() > MAX_TYPE_NAME_BYTES => name,
        _ => sql_type,
    }
}
