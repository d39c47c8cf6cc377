//! Which columns of an upload go where in a table, and the table that an upload creates.

use std::{collections::HashSet, sync::Arc};

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{
    DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit,
    extension::{EXTENSION_TYPE_METADATA_KEY, EXTENSION_TYPE_NAME_KEY},
};

use crate::{
    engine::{
        Error, Result,
        catalog::{Column, FullName, TEMPORARY, TableInfo},
        import::{import, imported, needs_import},
        types::{Extension, fits, imports_as, is_text, sql_type},
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
    /// The columns as DuckDB's import takes them,
    schema: SchemaRef,
    /// and which of them must be looked at or changed for it.
    conversions: Vec<bool>,
}

impl Fit {
    /// Checks an upload's columns against a table's: every column must exist there and keep its values;
    /// those that the upload lacks must have a default or take NULL.
    pub(super) fn to_table(schema: &SchemaRef, table: &TableInfo) -> Result<Self> {
        check_distinct(schema)?;
        let mut columns = Vec::with_capacity(schema.fields().len());
        let mut sql_types = Vec::with_capacity(schema.fields().len());
        let mut fields = Vec::with_capacity(schema.fields().len());
        let mut casts = false;
        for field in schema.fields() {
            let column = table
                .columns
                .iter()
                .find(|column| column.name.eq_ignore_ascii_case(field.name()))
                .ok_or_else(|| mismatch(field.name(), "the table has no such column"))?;
            check_column(field, column)?;
            let imported = imported(field);
            casts |= !imports_as(&imported, &column.sql_type);
            fields.push(match column.sql_type.as_str() {
                // So a VARIANT comes in as it goes out.
                "VARIANT" => with_extension(&imported, "arrow.json"),
                "GEOMETRY" => with_extension(&imported, "geoarrow.wkb"),
                "TIME_NS" if is_time_ns(field) => Arc::clone(field),
                _ => imported,
            });
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
        Ok(Self::new(columns, sql_types, casts, schema, fields))
    }

    /// For a table that is made from this very schema.
    pub(super) fn to_new_table(schema: &SchemaRef) -> Self {
        let columns = schema.fields().iter().map(|field| field.name().clone()).collect();
        // What has no type is refused where the table is made.
        let sql_types: Vec<_> =
            schema.fields().iter().map(|field| sql_type(field).unwrap_or_default()).collect();
        let imported: Vec<_> = schema.fields().iter().map(|field| imported(field)).collect();
        let casts = imported.iter().zip(&sql_types).any(|(field, sql)| !imports_as(field, sql));
        Self::new(columns, sql_types, casts, schema, imported)
    }

    fn new(
        columns: Vec<String>,
        sql_types: Vec<String>,
        casts: bool,
        schema: &SchemaRef,
        imported: Vec<FieldRef>,
    ) -> Self {
        let conversions = schema.fields().iter().map(|field| needs_import(field)).collect();
        let imported = Schema::new(imported);
        // The usual upload is taken as it is, which the same schema tells at once.
        let schema =
            if imported.fields() == schema.fields() { Arc::clone(schema) } else { Arc::new(imported) };
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
        if !self.conversions.contains(&true)
            && batches.iter().all(|batch| Arc::ptr_eq(batch.schema_ref(), &self.schema))
        {
            return Ok(batches);
        }
        batches.iter().map(|batch| self.apply_one(batch)).collect()
    }

    fn apply_one(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let columns = batch
            .columns()
            .iter()
            .zip(self.schema.fields())
            .zip(&self.conversions)
            .map(|((column, field), needed)| match needed {
                true => import(&format!("column {}", quote(field.name())), column, field),
                false => Ok(Arc::clone(column)),
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

/// Every value of the upload's column must have its place in the table's.
fn check_column(field: &Field, column: &Column) -> Result<()> {
    let words: Vec<_> = column.sql_type.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    let has = |word: &str| words.contains(&word);
    // What leaves as a BIT's bytes, DuckDB would read as other bits; and it would take the text of a VARIANT
    // for a text in it.
    let fits = if has("BIT") {
        column.sql_type == "BIT" && is_text(field.data_type())
    } else if has("VARIANT") {
        column.sql_type == "VARIANT" && is_text(field.data_type())
    } else if Extension::of(field) == Some(Extension::Uuid) {
        column.sql_type == "UUID"
    } else {
        fits(field, &column.data_type)
    };
    if fits {
        return Ok(());
    }
    let reason = format!(
        "Arrow type {} cannot be stored without loss in the table's {}",
        field.data_type(),
        column.sql_type
    );
    Err(mismatch(field.name(), &reason))
}

/// A column that DuckDB is to read as more than its storage.
fn with_extension(field: &Field, name: &str) -> FieldRef {
    let extension = [(EXTENSION_TYPE_NAME_KEY, name), (EXTENSION_TYPE_METADATA_KEY, "")];
    let metadata = extension.map(|(key, value)| (key.to_owned(), value.to_owned()));
    Arc::new(field.clone().with_metadata(metadata.into()))
}

fn is_time_ns(field: &Field) -> bool {
    *field.data_type() == DataType::Time64(TimeUnit::Nanosecond)
}
