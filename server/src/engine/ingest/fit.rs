//! Which columns of an upload go where in a table, and the table that an upload creates.

use std::{collections::HashSet, sync::Arc};

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, Schema, SchemaRef};

use crate::{
    engine::{
        Error, Result,
        catalog::{FullName, TEMPORARY, TableInfo},
        types::{fits, import, import_type, imports_as, is_uuid, sql_type},
    },
    sql::quote,
};

/// How the batches of one upload are changed before they are appended: by name, never by position.
pub(super) struct Fit {
    columns: Vec<String>,
    /// The SQL types of those columns.
    sql_types: Vec<String>,
    /// True when some column is not imported as the table's type, so that a statement has to cast.
    casts: bool,
    schema: SchemaRef,
    /// The type to convert each column to, where DuckDB's import needs another.
    conversions: Vec<Option<DataType>>,
}

impl Fit {
    /// Checks an upload's columns against a table's: every column must exist there and keep its values;
    /// those that the upload lacks must have a default or take NULL.
    pub(super) fn to_table(schema: &SchemaRef, table: &TableInfo) -> Result<Self> {
        check_distinct(schema)?;
        let mut columns = Vec::with_capacity(schema.fields().len());
        let mut sql_types = Vec::with_capacity(schema.fields().len());
        let mut casts = false;
        for field in schema.fields() {
            let column = table
                .columns
                .iter()
                .find(|column| column.name.eq_ignore_ascii_case(field.name()))
                .ok_or_else(|| mismatch(field.name(), "the table has no such column"))?;
            let uuid = is_uuid(field) && column.sql_type == "UUID";
            if !uuid && !fits(field.data_type(), &column.data_type) {
                let reason = format!(
                    "Arrow type {} cannot be stored without loss in the table's {}",
                    field.data_type(),
                    column.data_type
                );
                return Err(mismatch(field.name(), &reason));
            }
            casts |= !imports_as(field, &column.sql_type);
            columns.push(column.name.clone());
            sql_types.push(column.sql_type.clone());
        }
        let missing = table.columns.iter().find(|column| column.required && !columns.contains(&column.name));
        if let Some(column) = missing {
            return Err(mismatch(
                &column.name,
                "the table requires a value and the upload has no such column",
            ));
        }
        Ok(Self::new(columns, sql_types, casts, schema))
    }

    /// For a table that is made from this very schema.
    pub(super) fn to_new_table(schema: &SchemaRef) -> Self {
        let columns = schema.fields().iter().map(|field| field.name().clone()).collect();
        // What has no type is refused where the table is made.
        let sql_types = schema.fields().iter().map(|field| sql_type(field).unwrap_or_default()).collect();
        Self::new(columns, sql_types, false, schema)
    }

    fn new(columns: Vec<String>, sql_types: Vec<String>, casts: bool, schema: &SchemaRef) -> Self {
        let conversions: Vec<_> =
            schema.fields().iter().map(|field| import_type(field.data_type())).collect();
        let schema = if conversions.iter().all(Option::is_none) {
            Arc::clone(schema)
        } else {
            let fields =
                schema.fields().iter().zip(&conversions).map(|(field, conversion)| match conversion {
                    Some(to) => Arc::new(field.as_ref().clone().with_data_type(to.clone())),
                    None => Arc::clone(field),
                });
            Arc::new(Schema::new(fields.collect::<Vec<_>>()))
        };
        Self { columns, sql_types, casts, schema, conversions }
    }

    /// The schema of the batches that [`Fit::apply`] gives.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The table's columns that the upload fills, in the upload's order.
    pub(super) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The SQL types of [`Fit::columns`].
    pub(super) fn sql_types(&self) -> &[String] {
        &self.sql_types
    }

    /// Whether a statement has to cast the columns.
    pub(super) fn casts(&self) -> bool {
        self.casts
    }

    /// Batches as DuckDB's import takes them.
    pub(super) fn apply(&self, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        if self.conversions.iter().all(Option::is_none) {
            return Ok(batches);
        }
        batches.iter().map(|batch| self.apply_one(batch)).collect()
    }

    fn apply_one(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let columns = batch
            .columns()
            .iter()
            .zip(&self.conversions)
            .zip(&self.columns)
            .map(|((column, conversion), name)| match conversion {
                Some(to) => import(name, column, to),
                None => Ok(Arc::clone(column)),
            })
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

/// The statement that makes a table for an upload.
pub(super) fn create_table(name: &FullName, schema: &Schema, replace: bool) -> Result<String> {
    check_distinct(schema)?;
    let columns = schema
        .fields()
        .iter()
        .map(|field| Ok(format!("{} {}", quote(field.name()), sql_type(field)?)))
        .collect::<Result<Vec<_>>>()?;
    let replace = if replace { "OR REPLACE " } else { "" };
    let columns = columns.join(", ");
    Ok(match name.catalog == TEMPORARY {
        true => format!("CREATE {replace}TEMPORARY TABLE {} ({columns})", quote(&name.table)),
        false => format!("CREATE {replace}TABLE {} ({columns})", name.sql()),
    })
}

fn check_distinct(schema: &Schema) -> Result<()> {
    if schema.fields().is_empty() {
        return Err(Error::SchemaMismatch("the upload has no columns".into()));
    }
    let mut seen = HashSet::new();
    for field in schema.fields() {
        if field.name().contains('\0') {
            return Err(Error::BadName("a column's name contains the character NUL".into()));
        }
        if !seen.insert(field.name().to_lowercase()) {
            return Err(mismatch(field.name(), "the upload has this column twice"));
        }
    }
    Ok(())
}

fn mismatch(column: &str, reason: &str) -> Error {
    Error::SchemaMismatch(format!("column {}: {reason}", quote(column)))
}
