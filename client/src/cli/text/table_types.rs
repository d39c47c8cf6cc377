//! The types of the columns of a table that is there already.

use arrow_schema::{DataType, Field, Schema, TimeUnit};
use merganser::{Client, Error, TablePath};

use super::cells::cells;

/// Which types values are to have. In a table that is there they are the table's, as DuckDB's COPY has it.
#[derive(Clone, Debug)]
pub(crate) struct TableTypes(Vec<Field>);

impl TableTypes {
    /// Asks the server; none where there is no such table, or the user may not read it.
    pub(crate) async fn of(client: &Client, table: &TablePath) -> Result<Option<Self>, Error> {
        let quoted: Vec<_> = table.parts().map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect();
        let rows = match client.query(&format!("SELECT * FROM {} LIMIT 0", quoted.join("."))).await {
            Ok(rows) => rows,
            // Whatever is the matter with the table, the load itself says better.
            Err(error) if !error.retryable() && error.slug().is_some() => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(Self::new(&rows.schema())))
    }

    pub(crate) fn new(schema: &Schema) -> Self {
        Self(schema.fields().iter().map(|field| Field::clone(field)).collect())
    }

    /// The type of a column that is made from text; none where the table has none of the name, or one of another kind.
    pub(super) fn get(&self, name: &str) -> Option<DataType> {
        let field = self.0.iter().find(|field| field.name().eq_ignore_ascii_case(name))?;
        let data_type = field.data_type();
        let is_plain = field.extension_type_name().is_none();
        // Without a fraction it may as well be a HUGEINT, into which integers go and no decimals.
        let is_huge = matches!(data_type, DataType::Decimal128(38, 0));
        (is_plain && !is_huge && cells(data_type).is_some()).then(|| data_type.clone())
    }
}

/// What DuckDB calls a type.
pub(super) fn sql_name(data_type: &DataType) -> String {
    let name = match data_type {
        DataType::Boolean => "BOOLEAN",
        DataType::Int8 => "TINYINT",
        DataType::Int16 => "SMALLINT",
        DataType::Int32 => "INTEGER",
        DataType::Int64 => "BIGINT",
        DataType::UInt8 => "UTINYINT",
        DataType::UInt16 => "USMALLINT",
        DataType::UInt32 => "UINTEGER",
        DataType::UInt64 => "UBIGINT",
        DataType::Float32 => "FLOAT",
        DataType::Float64 => "DOUBLE",
        DataType::Date32 => "DATE",
        DataType::Time64(_) => "TIME",
        DataType::Timestamp(_, Some(_)) => "TIMESTAMPTZ",
        DataType::Timestamp(TimeUnit::Second, None) => "TIMESTAMP_S",
        DataType::Timestamp(TimeUnit::Millisecond, None) => "TIMESTAMP_MS",
        DataType::Timestamp(TimeUnit::Microsecond, None) => "TIMESTAMP",
        DataType::Timestamp(TimeUnit::Nanosecond, None) => "TIMESTAMP_NS",
        DataType::Decimal128(precision, scale) => return format!("DECIMAL({precision},{scale})"),
        DataType::Utf8 => "VARCHAR",
        other => return other.to_string(),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_types_that_are_made_from_text_are_the_tables() {
        let types = TableTypes::new(&Schema::new(vec![
            Field::new("Price", DataType::Float64, true),
            Field::new("huge", DataType::Decimal128(38, 0), true),
            Field::new("blob", DataType::Binary, true),
        ]));
        assert_eq!(types.get("price"), Some(DataType::Float64));
        assert_eq!((types.get("huge"), types.get("blob"), types.get("other")), (None, None, None));
    }
}
