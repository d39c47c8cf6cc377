//! GetXdbcTypeInfo: DuckDB's types as ODBC and JDBC know types. One row a type; what a driver needs of a
//! column's type is found by its name.

use arrow_array::RecordBatch;
use arrow_flight::sql::{
    CommandGetXdbcTypeInfo, Nullable, Searchable,
    XdbcDataType::{self, *},
    XdbcDatetimeSubcode::{self, *},
    metadata::{XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder},
};
use arrow_schema::SchemaRef;
use tonic::Status;

use crate::flight::error::internal;

/// A type of DuckDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SqlType {
    /// The name, as the catalog and DESCRIBE give it, without parameters.
    pub(super) name: &'static str,
    data_type: XdbcDataType,
    family: Family,
    /// Decimal digits of a number; characters of a date or a time; unknown where there is no bound.
    pub(super) digits: Option<i32>,
    /// Digits after the point: the largest, and where the type has no parameter, the only one.
    pub(super) scale: Option<i32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    /// A number that is exact, and whether it is never negative.
    Exact { unsigned: bool },
    /// A number with this many binary digits.
    Approximate { bits: i32 },
    /// Text with values of its own, or free text.
    Text,
    /// A date, a time or an interval.
    Datetime(XdbcDatetimeSubcode),
    /// What is written as text in quotes, but is none.
    Quoted,
    /// What has no literal in quotes: lists and the like, and BOOLEAN with its two words.
    Bare,
}

/// The schema of the answer.
pub(super) fn schema() -> Result<SchemaRef, Status> {
    Ok(infos()?.schema())
}

/// The types that are asked for; all of them when none is.
pub(super) fn answer(command: CommandGetXdbcTypeInfo) -> Result<RecordBatch, Status> {
    infos()?.record_batch(command.data_type).map_err(|error| internal(&error))
}

/// What is known of a column's type, parameters or not. Lists and the like have no digits.
pub(super) fn known(sql_type: &str) -> Option<&'static SqlType> {
    let name = sql_type.split_once('(').map_or(sql_type, |(name, _)| name);
    let list = sql_type.ends_with(']');
    TYPES.iter().find(|known| !list && known.name == name)
}

fn infos() -> Result<XdbcTypeInfoData, Status> {
    let mut builder = XdbcTypeInfoDataBuilder::new();
    for sql_type in TYPES {
        builder.append(sql_type.info());
    }
    builder.build().map_err(|error| internal(&error))
}

const fn exact(name: &'static str, data_type: XdbcDataType, digits: i32) -> SqlType {
    SqlType {
        name,
        data_type,
        family: Family::Exact { unsigned: false },
        digits: Some(digits),
        scale: Some(0),
    }
}

const fn unsigned(name: &'static str, data_type: XdbcDataType, digits: i32) -> SqlType {
    SqlType { family: Family::Exact { unsigned: true }, ..exact(name, data_type, digits) }
}

const fn approximate(name: &'static str, data_type: XdbcDataType, digits: i32, bits: i32) -> SqlType {
    SqlType { name, data_type, family: Family::Approximate { bits }, digits: Some(digits), scale: None }
}

const fn datetime(
    name: &'static str,
    data_type: XdbcDataType,
    subcode: XdbcDatetimeSubcode,
    characters: i32,
    scale: i32,
) -> SqlType {
    SqlType {
        name,
        data_type,
        family: Family::Datetime(subcode),
        digits: Some(characters),
        scale: Some(scale),
    }
}

const fn other(name: &'static str, data_type: XdbcDataType, family: Family) -> SqlType {
    SqlType { name, data_type, family, digits: None, scale: None }
}

/// Every type that a column can have. The data type is the one that a driver reads from the Arrow type on
/// the wire: a HUGEINT travels as a decimal, a UUID as text, BIT and GEOMETRY as bytes.
const TYPES: &[SqlType] = &[
    SqlType { digits: Some(1), ..other("BOOLEAN", XdbcBit, Family::Bare) },
    exact("TINYINT", XdbcTinyint, 3),
    exact("SMALLINT", XdbcSmallint, 5),
    exact("INTEGER", XdbcInteger, 10),
    exact("BIGINT", XdbcBigint, 19),
    exact("HUGEINT", XdbcDecimal, 38),
    unsigned("UTINYINT", XdbcTinyint, 3),
    unsigned("USMALLINT", XdbcSmallint, 5),
    unsigned("UINTEGER", XdbcInteger, 10),
    unsigned("UBIGINT", XdbcBigint, 20),
    unsigned("UHUGEINT", XdbcDecimal, 38),
    SqlType { scale: Some(38), ..exact("DECIMAL", XdbcDecimal, 38) },
    approximate("FLOAT", XdbcReal, 7, 24),
    approximate("DOUBLE", XdbcDouble, 15, 53),
    other("VARCHAR", XdbcVarchar, Family::Text),
    other("JSON", XdbcVarchar, Family::Text),
    other("ENUM", XdbcVarchar, Family::Text),
    SqlType { digits: Some(36), ..other("UUID", XdbcVarchar, Family::Quoted) },
    other("BIGNUM", XdbcVarchar, Family::Quoted),
    other("VARIANT", XdbcVarchar, Family::Quoted),
    other("BLOB", XdbcVarbinary, Family::Quoted),
    other("BIT", XdbcVarbinary, Family::Quoted),
    other("GEOMETRY", XdbcVarbinary, Family::Quoted),
    // The subcodes 1 to 3 are those of DATE, TIME and TIMESTAMP too.
    datetime("DATE", XdbcDate, XdbcSubcodeYear, 10, 0),
    datetime("TIME", XdbcTime, XdbcSubcodeTime, 15, 6),
    datetime("TIME_NS", XdbcTime, XdbcSubcodeTime, 18, 9),
    datetime("TIME WITH TIME ZONE", XdbcTime, XdbcSubcodeTimeWithTimezone, 24, 6),
    datetime("TIMESTAMP_S", XdbcTimestamp, XdbcSubcodeTimestamp, 19, 0),
    datetime("TIMESTAMP_MS", XdbcTimestamp, XdbcSubcodeTimestamp, 23, 3),
    datetime("TIMESTAMP", XdbcTimestamp, XdbcSubcodeTimestamp, 26, 6),
    datetime("TIMESTAMP_NS", XdbcTimestamp, XdbcSubcodeTimestamp, 29, 9),
    datetime("TIMESTAMP WITH TIME ZONE", XdbcTimestamp, XdbcSubcodeTimestampWithTimezone, 32, 6),
    SqlType { digits: None, ..datetime("INTERVAL", XdbcInterval, XdbcSubcodeUnknown, 0, 6) },
    other("LIST", XdbcUnknownType, Family::Bare),
    other("ARRAY", XdbcUnknownType, Family::Bare),
    other("STRUCT", XdbcUnknownType, Family::Bare),
    other("MAP", XdbcUnknownType, Family::Bare),
    other("UNION", XdbcUnknownType, Family::Bare),
];

impl SqlType {
    fn info(&self) -> XdbcTypeInfo {
        let (prefix, suffix) = self.literal();
        let number = matches!(self.family, Family::Exact { .. } | Family::Approximate { .. });
        let (sql_data_type, datetime_subcode) = self.sql_data_type();
        XdbcTypeInfo {
            type_name: self.name.to_owned(),
            data_type: self.data_type,
            column_size: self.column_size(),
            literal_prefix: prefix,
            literal_suffix: suffix,
            create_params: self.parameters(),
            nullable: Nullable::NullabilityNullable,
            case_sensitive: self.family == Family::Text,
            // All of them compare; LIKE is for text.
            searchable: if self.family == Family::Text { Searchable::Full } else { Searchable::Basic },
            unsigned_attribute: match self.family {
                Family::Exact { unsigned } => Some(unsigned),
                Family::Approximate { .. } => Some(false),
                _ => None,
            },
            fixed_prec_scale: false,
            // A column counts by its default, not by its type.
            auto_increment: number.then_some(false),
            local_type_name: Some(self.name.to_owned()),
            minimum_scale: if self.name == "DECIMAL" { Some(0) } else { self.scale },
            maximum_scale: self.scale,
            sql_data_type,
            datetime_subcode,
            num_prec_radix: self.radix(),
            interval_precision: None,
        }
    }

    /// `DATE '2026-01-31'`: the name and the text. Text itself needs no name.
    fn literal(&self) -> (Option<String>, Option<String>) {
        match self.family {
            Family::Exact { .. } | Family::Approximate { .. } | Family::Bare => (None, None),
            Family::Text => (Some("'".into()), Some("'".into())),
            Family::Datetime(_) | Family::Quoted => {
                // The parser takes names of several words only in a cast.
                if self.name.contains(' ') {
                    (Some("CAST('".into()), Some(format!("' AS {})", self.name)))
                } else {
                    (Some(format!("{} '", self.name)), Some("'".into()))
                }
            }
        }
    }

    /// The generic type, and for dates, times and intervals which one of them.
    fn sql_data_type(&self) -> (XdbcDataType, Option<XdbcDatetimeSubcode>) {
        match self.family {
            Family::Datetime(subcode) if self.data_type == XdbcInterval => (XdbcInterval, Some(subcode)),
            Family::Datetime(subcode) => (XdbcDatetime, Some(subcode)),
            _ => (self.data_type, None),
        }
    }

    /// In the unit of the radix: bits where that is 2.
    fn column_size(&self) -> Option<i32> {
        match self.family {
            Family::Approximate { bits } => Some(bits),
            // Bounded by memory alone.
            Family::Text => Some(i32::MAX),
            _ if self.data_type == XdbcVarbinary || self.data_type == XdbcVarchar => {
                self.digits.or(Some(i32::MAX))
            }
            _ => self.digits,
        }
    }

    fn radix(&self) -> Option<i32> {
        match self.family {
            Family::Exact { .. } => Some(10),
            Family::Approximate { .. } => Some(2),
            _ => None,
        }
    }

    fn parameters(&self) -> Option<Vec<String>> {
        (self.name == "DECIMAL").then(|| vec!["precision".to_owned(), "scale".to_owned()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_known_by_its_name_whatever_its_parameters() {
        assert_eq!(known("DECIMAL(5,2)").unwrap().name, "DECIMAL");
        assert_eq!(known("TIMESTAMP WITH TIME ZONE").unwrap().scale, Some(6));
        for list in ["INTEGER[]", "DECIMAL(5,2)[3]", "NO SUCH TYPE"] {
            assert_eq!(known(list), None);
        }
    }
}
