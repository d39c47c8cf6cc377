//! Arrow types and DuckDB types: what goes out on the wire, what a table is created with, and which
//! columns may be appended to which.

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_cast::cast;
use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};

use super::{Error, Result};
use crate::sql::quote;

/// The schema that clients see: dictionaries (DuckDB's ENUM) become their values, because the encoder
/// hydrates them and JDBC decodes none.
pub(crate) fn wire_schema(schema: &SchemaRef) -> SchemaRef {
    Wire::new(schema).schema()
}

/// How DuckDB's batches become wire batches.
pub(crate) struct Wire {
    schema: SchemaRef,
    changes: bool,
}

impl Wire {
    pub(crate) fn new(engine: &SchemaRef) -> Self {
        let fields: Vec<FieldRef> = engine.fields().iter().map(wire_field).collect();
        let schema = Arc::new(Schema::new(fields));
        let changes = schema.fields() != engine.fields();
        Self { schema: if changes { schema } else { Arc::clone(engine) }, changes }
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    pub(crate) fn convert(&self, batch: RecordBatch) -> Result<RecordBatch> {
        if !self.changes {
            return Ok(batch);
        }
        let columns = batch
            .columns()
            .iter()
            .zip(self.schema.fields())
            .map(|(column, field)| cast(column, field.data_type()))
            .collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(self.schema(), columns, &options)?)
    }
}

fn wire_field(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Dictionary(_, values) => values.as_ref().clone(),
        DataType::List(item) => DataType::List(wire_field(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(wire_field(item), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(wire_field).collect()),
        DataType::Map(entries, sorted) => DataType::Map(wire_field(entries), *sorted),
        // A union has no validity of its own, and the encoder says so.
        DataType::Union(_, _) => return Arc::new(field.as_ref().clone().with_nullable(false)),
        _ => return Arc::clone(field),
    };
    Arc::new(field.as_ref().clone().with_data_type(data_type))
}

/// The DuckDB type, as SQL, that a new table gets for an Arrow column.
///
/// # Errors
/// [`Error::UnsupportedType`].
pub(crate) fn sql_type(field: &Field) -> Result<String> {
    sql_type_of(field).ok_or_else(|| Error::UnsupportedType {
        what: format!("column {}", quote(field.name())),
        data_type: field.data_type().to_string(),
    })
}

/// Arrow's canonical extension types that DuckDB has a type for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extension {
    /// `arrow.uuid`.
    Uuid,
    /// `arrow.json`.
    Json,
    /// `arrow.bool8`.
    Bool8,
}

impl Extension {
    /// What a field says it is, if it has the storage for it. Other extension types count as their storage.
    pub(crate) fn of(field: &Field) -> Option<Self> {
        match (field.extension_type_name()?, field.data_type()) {
            ("arrow.uuid", DataType::FixedSizeBinary(16)) => Some(Self::Uuid),
            ("arrow.json", text) if is_text(text) => Some(Self::Json),
            ("arrow.bool8", DataType::Int8) => Some(Self::Bool8),
            _ => None,
        }
    }
}

/// True when DuckDB imports an Arrow column, as [`imported`](super::import::imported) gives it, as exactly
/// this SQL type, so that it can be appended as it is; otherwise a statement has to cast it. Where the two
/// spellings of one nested type differ, the answer is the safe one.
pub(crate) fn imports_as(field: &Field, sql: &str) -> bool {
    let sql = if sql == "TIMESTAMP WITH TIME ZONE" { "TIMESTAMPTZ" } else { sql };
    sql_type(field).is_ok_and(|imported| imported.replace(", ", ",") == sql.replace(", ", ","))
}

/// The DuckDB type of a column that leaves, for people to read; Arrow's name where DuckDB has none.
pub(crate) fn type_name(field: &Field) -> String {
    sql_type_of(field).unwrap_or_else(|| field.data_type().to_string())
}

fn sql_type_of(field: &Field) -> Option<String> {
    let name = match (Extension::of(field), field.data_type()) {
        (Some(Extension::Uuid), _) => "UUID",
        (Some(Extension::Json), _) => "JSON",
        (Some(Extension::Bool8), _) => "BOOLEAN",
        (None, data_type) => return plain_sql_type(data_type),
    };
    Some(name.to_owned())
}

fn plain_sql_type(data_type: &DataType) -> Option<String> {
    let name = match data_type {
        DataType::Null | DataType::Int32 => "INTEGER",
        DataType::Boolean => "BOOLEAN",
        DataType::Int8 => "TINYINT",
        DataType::Int16 => "SMALLINT",
        DataType::Int64 => "BIGINT",
        DataType::UInt8 => "UTINYINT",
        DataType::UInt16 => "USMALLINT",
        DataType::UInt32 => "UINTEGER",
        DataType::UInt64 => "UBIGINT",
        DataType::Float16 | DataType::Float32 => "FLOAT",
        DataType::Float64 => "DOUBLE",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "VARCHAR",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "BLOB"
        }
        DataType::Date32 | DataType::Date64 => "DATE",
        DataType::Time32(_) | DataType::Time64(_) => "TIME",
        DataType::Timestamp(_, Some(_)) => "TIMESTAMPTZ",
        DataType::Timestamp(TimeUnit::Second, None) => "TIMESTAMP_S",
        DataType::Timestamp(TimeUnit::Millisecond, None) => "TIMESTAMP_MS",
        DataType::Timestamp(TimeUnit::Microsecond, None) => "TIMESTAMP",
        DataType::Timestamp(TimeUnit::Nanosecond, None) => "TIMESTAMP_NS",
        DataType::Duration(_) | DataType::Interval(_) => "INTERVAL",
        _ => return nested_sql_type(data_type),
    };
    Some(name.to_owned())
}

fn nested_sql_type(data_type: &DataType) -> Option<String> {
    let item = |field: &FieldRef| sql_type_of(field);
    Some(match data_type {
        DataType::Decimal32(width, scale)
        | DataType::Decimal64(width, scale)
        | DataType::Decimal128(width, scale)
        | DataType::Decimal256(width, scale)
            if *width <= 38 && (0..=*width as i8).contains(scale) =>
        {
            format!("DECIMAL({width}, {scale})")
        }
        DataType::Dictionary(_, values) => plain_sql_type(values)?,
        DataType::RunEndEncoded(_, values) => item(values)?,
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field) => {
            format!("{}[]", item(field)?)
        }
        DataType::FixedSizeList(field, size) => format!("{}[{size}]", item(field)?),
        DataType::Struct(fields) if !fields.is_empty() => {
            let members = fields
                .iter()
                .map(|field| Some(format!("{} {}", quote(field.name()), item(field)?)))
                .collect::<Option<Vec<_>>>()?;
            format!("STRUCT({})", members.join(", "))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => {
                format!("MAP({}, {})", item(&pair[0])?, item(&pair[1])?)
            }
            _ => return None,
        },
        _ => return None,
    })
}

/// True when every value of `from` is kept by a column of `to`, or refused by DuckDB where it does not
/// fit (a number out of range, a text that is no UUID); never silently changed.
pub(crate) fn fits(from: &Field, to: &DataType) -> bool {
    match Extension::of(from) {
        Some(Extension::Uuid | Extension::Json) => is_text(to),
        Some(Extension::Bool8) => *to == DataType::Boolean,
        None => fits_plain(from.data_type(), to),
    }
}

fn fits_plain(from: &DataType, to: &DataType) -> bool {
    use DataType::{Decimal128, Dictionary, Float32, Float64, Null, RunEndEncoded, Struct, Timestamp};
    match (from, to) {
        (Null, _) => true,
        (Dictionary(_, values), _) => fits_plain(values, to),
        (RunEndEncoded(_, values), _) => fits(values, to),
        (_, Dictionary(_, values)) => fits_plain(from, values),
        _ if from == to => true,
        _ if is_text(from) => is_text(to),
        _ if is_bytes(from) => is_bytes(to),
        // A double has 53 bits for the digits of an integer, a float 24.
        (DataType::Int64 | DataType::UInt64, Float64) => false,
        (DataType::Int32 | DataType::UInt32 | DataType::Int64 | DataType::UInt64, Float32) => false,
        _ if from.is_integer() => to.is_integer() || to.is_floating() || matches!(to, Decimal128(_, _)),
        (DataType::Float16, Float32 | Float64) | (Float32, Float64) => true,
        _ if from.is_decimal() => decimal_scale(from) <= decimal_scale(to),
        (DataType::Date32 | DataType::Date64, DataType::Date32 | Timestamp(_, None)) => true,
        (DataType::Time32(_) | DataType::Time64(_), DataType::Time64(_)) => true,
        (Timestamp(TimeUnit::Nanosecond, Some(_)), Timestamp(TimeUnit::Microsecond, Some(_))) => true,
        (Timestamp(fine, None), Timestamp(coarse, None))
        | (Timestamp(fine, Some(_)), Timestamp(coarse, Some(_))) => {
            fraction_digits(*fine) <= fraction_digits(*coarse)
        }
        (DataType::Duration(_) | DataType::Interval(_), DataType::Interval(_)) => true,
        (Struct(from), Struct(to)) => same_members(from, to),
        (DataType::Map(from, _), DataType::Map(to, _)) => match (from.data_type(), to.data_type()) {
            (Struct(from), Struct(to)) if from.len() == 2 && to.len() == 2 => {
                from.iter().zip(to).all(|(from, to)| fits(from, to.data_type()))
            }
            _ => false,
        },
        _ => match (item_type(from), item_type(to)) {
            (Some(from), Some(to)) => fits(from, to.data_type()),
            _ => false,
        },
    }
}

pub(crate) fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

pub(crate) fn is_bytes(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_)
    )
}

/// Digits after the point; -1 for what is no decimal, so that no decimal fits it.
fn decimal_scale(data_type: &DataType) -> i8 {
    match data_type {
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(_, scale)
        | DataType::Decimal256(_, scale) => *scale,
        _ => -1,
    }
}

fn fraction_digits(unit: TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

fn same_members(from: &arrow_schema::Fields, to: &arrow_schema::Fields) -> bool {
    from.len() == to.len()
        && from
            .iter()
            .zip(to)
            .all(|(from, to)| from.name().eq_ignore_ascii_case(to.name()) && fits(from, to.data_type()))
}

fn item_type(data_type: &DataType) -> Option<&Field> {
    match data_type {
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _) => Some(field),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widening_fits_and_losing_does_not() {
        use DataType::*;
        for (from, to, expected) in [
            (Int32, Int64, true),
            (Int64, Int32, true),
            (Int32, Float64, true),
            (Int64, Float64, false),
            (Float64, Int64, false),
            (Float64, Float32, false),
            (Utf8, Int64, false),
            (Int64, Utf8, false),
            (LargeUtf8, Utf8, true),
            (Dictionary(Box::new(Int32), Box::new(Utf8)), Utf8, true),
            (Decimal128(10, 2), Decimal128(18, 3), true),
            (Decimal128(18, 3), Decimal128(18, 2), false),
            (Timestamp(TimeUnit::Nanosecond, None), Timestamp(TimeUnit::Microsecond, None), false),
            (Timestamp(TimeUnit::Second, None), Timestamp(TimeUnit::Microsecond, None), true),
            (Timestamp(TimeUnit::Second, None), Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
            (Date32, Timestamp(TimeUnit::Microsecond, None), true),
        ] {
            assert_eq!(fits_plain(&from, &to), expected, "{from} -> {to}");
        }
    }

    #[test]
    fn new_tables_get_types_that_take_the_column() {
        let items = Arc::new(Field::new("item", DataType::Int8, true));
        let field = Field::new(
            "s",
            DataType::Struct(vec![Field::new("a\"b", DataType::List(items), true)].into()),
            true,
        );
        assert_eq!(sql_type(&field).unwrap(), "STRUCT(\"a\"\"b\" TINYINT[])");
        assert!(sql_type(&Field::new("d", DataType::Decimal256(60, 2), true)).is_err());
    }
}
