//! Which columns of an upload go where in a table, and the table that an upload creates.

use std::{collections::HashSet, sync::Arc};

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{
    DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit,
    extension::{EXTENSION_TYPE_METADATA_KEY, EXTENSION_TYPE_NAME_KEY},
};

use super::NewColumns;
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
    /// Which of them the table lacks so far.
    new: Vec<bool>,
    /// True when some column is not imported as the table's type, so that a statement has to cast.
    casts: bool,
    /// The columns as DuckDB's import takes them,
    schema: SchemaRef,
    /// and which of them must be looked at or changed for it.
    conversions: Vec<bool>,
}

impl Fit {
    /// Checks an upload's columns against a table's: every column must exist there and keep its values, or is
    /// added, where the loader has asked for that; see [`Fit::check_missing`] for those that the upload lacks.
    pub(super) fn to_table(schema: &SchemaRef, table: &TableInfo, new_columns: NewColumns) -> Result<Self> {
        check_distinct(schema)?;
        let mut columns = Columns::default();
        for field in schema.fields() {
            let imported = imported(field);
            let column = table.columns.iter().find(|column| column.name.eq_ignore_ascii_case(field.name()));
            let Some(column) = column else {
                if new_columns == NewColumns::Refuse {
                    return Err(mismatch(field.name(), "the table has no such column"));
                }
                columns.push(field.name(), sql_type(field)?, true, imported);
                continue;
            };
            check_column(field, column)?;
            columns.push(&column.name, column.sql_type.clone(), false, imported);
            columns.read_last_as(match column.sql_type.as_str() {
                // So a VARIANT comes in as it goes out.
                "VARIANT" => Some("arrow.json"),
                "GEOMETRY" => Some("geoarrow.wkb"),
                _ => None,
            });
            if column.sql_type == "TIME_NS" && is_time_ns(field) {
                columns.imported.pop();
                columns.imported.push(Arc::clone(field));
            }
        }
        Ok(Self::new(columns, schema))
    }

    /// For a table that is made from this very schema.
    pub(super) fn to_new_table(schema: &SchemaRef) -> Self {
        let mut columns = Columns::default();
        for field in schema.fields() {
            // What has no type is refused where the table is made.
            columns.push(field.name(), sql_type(field).unwrap_or_default(), true, imported(field));
        }
        Self::new(columns, schema)
    }

    fn new(columns: Columns, schema: &SchemaRef) -> Self {
        let conversions = schema.fields().iter().map(|field| needs_import(field)).collect();
        let Columns { names: columns, sql_types, new, imported, casts } = columns;
        let imported = Schema::new(imported);
        // The usual upload is taken as it is, which the same schema tells at once.
        let schema =
            if imported.fields() == schema.fields() { Arc::clone(schema) } else { Arc::new(imported) };
        Self { columns, sql_types, new, casts, schema, conversions }
    }

    /// A column that the upload lacks must have a default or take NULL.
    pub(super) fn check_missing(&self, table: &TableInfo) -> Result<()> {
        let missing = |column: &&Column| column.required && !self.columns.contains(&column.name);
        match table.columns.iter().find(missing) {
            Some(column) => {
                Err(mismatch(&column.name, "the table requires a value and the upload has no such column"))
            }
            None => Ok(()),
        }
    }

    /// Whether the upload has every column that a row can bring.
    pub(super) fn fills(&self, table: &TableInfo) -> bool {
        table.columns.iter().all(|column| column.generated || self.columns.contains(&column.name))
    }

    /// The statements that add to the table what it lacks; `None` when it lacks nothing.
    pub(super) fn widening(&self, name: &FullName) -> Option<String> {
        let columns = self.columns.iter().zip(&self.sql_types).zip(&self.new);
        let statements: Vec<_> = columns
            .filter(|(_, new)| **new)
            .map(|((column, sql_type), _)| {
                format!("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} {sql_type}", name.sql(), quote(column))
            })
            .collect();
        (!statements.is_empty()).then(|| statements.join("; "))
    }

    /// Which of [`Fit::columns`] the table lacks so far.
    pub(super) fn new_columns(&self) -> &[bool] {
        &self.new
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

/// The columns of an upload, one by one.
#[derive(Default)]
struct Columns {
    names: Vec<String>,
    sql_types: Vec<String>,
    new: Vec<bool>,
    imported: Vec<FieldRef>,
    casts: bool,
}

impl Columns {
    fn push(&mut self, name: &str, sql_type: String, new: bool, imported: FieldRef) {
        self.casts |= !imports_as(&imported, &sql_type);
        self.names.push(name.to_owned());
        self.sql_types.push(sql_type);
        self.new.push(new);
        self.imported.push(imported);
    }

    /// Lets DuckDB read the last column as an extension type.
    fn read_last_as(&mut self, extension: Option<&str>) {
        if let (Some(name), Some(last)) = (extension, self.imported.last_mut()) {
            *last = with_extension(last, name);
        }
    }
}

/// What to do about a table of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Creation {
    /// Fail.
    New,
    /// Keep it.
    IfMissing,
    /// Put the new one in its place.
    Replace,
}

/// The statement that makes a table for an upload.
pub(super) fn create_table(name: &FullName, schema: &Schema, creation: Creation) -> Result<String> {
    check_distinct(schema)?;
    let columns = schema
        .fields()
        .iter()
        .map(|field| Ok(format!("{} {}", quote(field.name()), sql_type(field)?)))
        .collect::<Result<Vec<_>>>()?;
    let (replace, exists) = match creation {
        Creation::New => ("", ""),
        Creation::IfMissing => ("", "IF NOT EXISTS "),
        Creation::Replace => ("OR REPLACE ", ""),
    };
    let columns = columns.join(", ");
    Ok(match name.catalog == TEMPORARY {
        true => format!("CREATE {replace}TEMPORARY TABLE {exists}{} ({columns})", quote(&name.table)),
        false => format!("CREATE {replace}TABLE {exists}{} ({columns})", name.sql()),
    })
}

fn check_distinct(schema: &Schema) -> Result<()> {
    if schema.fields().is_empty() {
        return Err(Error::SchemaMismatch("the upload has no columns".into()));
    }
    let mut seen = HashSet::new();
    for field in schema.fields() {
        if !seen.insert(field.name().to_lowercase()) {
            return Err(mismatch(field.name(), "the upload has this column twice"));
        }
    }
    Ok(())
}

/// A refusal that names the column.
pub(super) fn mismatch(column: &str, reason: &str) -> Error {
    Error::SchemaMismatch(format!("column {}: {reason}", quote(column)))
}

/// Every value of the upload's column must have its place in the table's.
fn check_column(field: &Field, column: &Column) -> Result<()> {
    if column.generated {
        return Err(mismatch(field.name(), "the table computes this column itself; leave it out"));
    }
    let has = |word| has_word(&column.sql_type, word);
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

/// Whether a type, as SQL, has this word. What stands in quotes is a name or a value.
pub(super) fn has_word(sql_type: &str, word: &str) -> bool {
    let mut quoted_by = None;
    let plain = |c: char| {
        let is_plain = quoted_by.is_none() && !matches!(c, '\'' | '"');
        match quoted_by {
            Some(quote) if quote == c => quoted_by = None,
            None if !is_plain => quoted_by = Some(c),
            _ => {}
        }
        if is_plain { c } else { ' ' }
    };
    let plain: String = sql_type.chars().map(plain).collect();
    plain.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|found| found == word)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_type_are_not_its_names_and_values() {
        for (sql_type, expected) in [
            ("BIT", true),
            ("STRUCT(a BIT, b INTEGER)[]", true),
            ("MAP(VARCHAR, BIT)", true),
            ("STRUCT(\"it's\" BIT)", true),
            ("ENUM('BIT', 'it''s BIT')", false),
            ("STRUCT(\"BIT\" INTEGER, \"a\"\"BIT\" BIGINT)", false),
            ("BITS", false),
        ] {
            assert_eq!(has_word(sql_type, "BIT"), expected, "{sql_type}");
        }
    }
}
