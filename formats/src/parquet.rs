//! Which columns Parquet has a place for.

use arrow_schema::{DataType, IntervalUnit};

/// Whether the Arrow library's writer of Parquet takes a type.
pub fn parquet_has(data_type: &DataType) -> bool {
    match data_type {
        DataType::Union(_, _) | DataType::Interval(IntervalUnit::MonthDayNano) => false,
        DataType::Struct(fields) => {
            !fields.is_empty() && fields.iter().all(|field| parquet_has(field.data_type()))
        }
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => parquet_has(item.data_type()),
        _ => true,
    }
}
