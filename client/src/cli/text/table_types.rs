//! The types of the columns of a table that is there already.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, TimeUnit};
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

    /// The type that values of a text file have for a column; none where the table has none of the name. Where the
    /// column's type is not made from text, there is nothing but NULL for it.
    pub(super) fn of_text(&self, name: &str) -> Option<DataType> {
        self.get(name).map(|field| single(field).unwrap_or(DataType::Null))
    }

    /// The same for values of JSON, which may be lists and objects.
    pub(super) fn of_json(&self, name: &str) -> Option<DataType> {
        self.get(name).map(read)
    }

    fn get(&self, name: &str) -> Option<&Field> {
        self.0.iter().find(|field| field.name().eq_ignore_ascii_case(name))
    }
}

/// The type of a column that is made from text.
fn single(field: &Field) -> Option<DataType> {
    let is_plain = field.extension_type_name().is_none();
    (is_plain && cells(field.data_type()).is_some()).then(|| field.data_type().clone())
}

/// As which type the values of JSON are read for a column.
fn read(field: &Field) -> DataType {
    match field.data_type() {
        DataType::List(item) => DataType::List(read_inside(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(read_inside(item), *size),
        DataType::Struct(members) => DataType::Struct(members.iter().map(read_inside).collect()),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 && single(&pair[0]).is_some() => {
                // In the order in which they are written.
                DataType::Map(read_inside(entries), false)
            }
            _ => DataType::Null,
        },
        _ => single(field).unwrap_or(DataType::Null),
    }
}

fn read_inside(field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(field.name(), read(field), field.is_nullable()))
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
        // Both have the one type of Arrow.
        DataType::Decimal128(38, 0) => "DECIMAL(38,0) or HUGEINT of 38 digits",
        DataType::Decimal128(precision, scale) => return format!("DECIMAL({precision},{scale})"),
        DataType::Utf8 => "VARCHAR",
        DataType::Null => "(not read from text)",
        nested => return nested_name(nested),
    };
    name.to_owned()
}

fn nested_name(data_type: &DataType) -> String {
    let name = |field: &Field| sql_name(field.data_type());
    let members = |fields: &Fields| {
        let members: Vec<_> =
            fields.iter().map(|field| format!("{} {}", field.name(), name(field))).collect();
        members.join(", ")
    };
    match data_type {
        DataType::List(item) => format!("{}[]", name(item)),
        DataType::FixedSizeList(item, size) => format!("{}[{size}]", name(item)),
        DataType::Struct(fields) => format!("STRUCT({})", members(fields)),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => {
                format!("MAP({}, {})", name(&pair[0]), name(&pair[1]))
            }
            _ => data_type.to_string(),
        },
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_made_from_text_takes_null_alone() {
        let field = |name: &str, data_type| Field::new(name, data_type, true);
        let list = |data_type| DataType::List(Arc::new(field("item", data_type)));
        let members = |data_type| DataType::Struct(vec![field("a", data_type)].into());
        let types = TableTypes::new(&Schema::new(vec![
            field("Price", DataType::Float64),
            field("blob", DataType::Binary),
            field("lists", list(members(DataType::Binary))),
        ]));
        assert_eq!(
            (types.of_text("price"), types.of_json("price")),
            (Some(DataType::Float64), types.of_text("PRICE"))
        );
        assert_eq!(
            (types.of_text("blob"), types.of_json("blob")),
            (Some(DataType::Null), Some(DataType::Null))
        );
        assert_eq!(types.of_text("lists"), Some(DataType::Null));
        assert_eq!(types.of_json("lists"), Some(list(members(DataType::Null))));
        assert_eq!((types.of_text("other"), types.of_json("other")), (None, None));
    }

    #[test]
    fn nested_types_have_the_names_of_sql() {
        let field = |name: &str, data_type| Arc::new(Field::new(name, data_type, true));
        let pair =
            DataType::Struct(vec![field("key", DataType::Utf8), field("value", DataType::Int64)].into());
        let map = DataType::Map(field("entries", pair), false);
        let list = DataType::List(field("item", DataType::Decimal128(9, 2)));
        let members = DataType::Struct(vec![field("m", map), field("l", list)].into());
        assert_eq!(sql_name(&members), "STRUCT(m MAP(VARCHAR, BIGINT), l DECIMAL(9,2)[])");
    }
}
