//! DuckDB's logical types, read into a tree, and what each of them becomes on its way to Arrow.

use libduckdb_sys as c;

use super::connection::take_text;
use crate::sql::quote;

/// A DuckDB type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LogicalType {
    Plain(c::duckdb_type),
    Decimal { width: u8, scale: u8 },
    List(Box<LogicalType>),
    Array(Box<LogicalType>, u64),
    Map(Box<LogicalType>, Box<LogicalType>),
    Struct(Vec<Member>),
    Union(Vec<Member>),
}

/// A named part of a struct or union.
pub(super) type Member = (String, LogicalType);

impl LogicalType {
    /// # Safety
    /// `raw` is a live logical type; it stays the caller's.
    pub(super) unsafe fn read(raw: c::duckdb_logical_type) -> Self {
        // SAFETY: each accessor is called on a type of its kind, with indexes below the count; `owned` takes
        // over the types that accessors make.
        unsafe {
            let owned = |mut raw: c::duckdb_logical_type| {
                let read = Self::read(raw);
                c::duckdb_destroy_logical_type(&mut raw);
                read
            };
            match c::duckdb_get_type_id(raw) {
                c::DUCKDB_TYPE_DUCKDB_TYPE_DECIMAL => {
                    Self::Decimal { width: c::duckdb_decimal_width(raw), scale: c::duckdb_decimal_scale(raw) }
                }
                c::DUCKDB_TYPE_DUCKDB_TYPE_LIST => {
                    Self::List(Box::new(owned(c::duckdb_list_type_child_type(raw))))
                }
                c::DUCKDB_TYPE_DUCKDB_TYPE_ARRAY => Self::Array(
                    Box::new(owned(c::duckdb_array_type_child_type(raw))),
                    c::duckdb_array_type_array_size(raw),
                ),
                c::DUCKDB_TYPE_DUCKDB_TYPE_MAP => Self::Map(
                    Box::new(owned(c::duckdb_map_type_key_type(raw))),
                    Box::new(owned(c::duckdb_map_type_value_type(raw))),
                ),
                c::DUCKDB_TYPE_DUCKDB_TYPE_STRUCT => Self::Struct(
                    (0..c::duckdb_struct_type_child_count(raw))
                        .map(|index| {
                            let name = take_text(c::duckdb_struct_type_child_name(raw, index));
                            (name, owned(c::duckdb_struct_type_child_type(raw, index)))
                        })
                        .collect(),
                ),
                c::DUCKDB_TYPE_DUCKDB_TYPE_UNION => Self::Union(
                    (0..c::duckdb_union_type_member_count(raw))
                        .map(|index| {
                            let name = take_text(c::duckdb_union_type_member_name(raw, index));
                            (name, owned(c::duckdb_union_type_member_type(raw, index)))
                        })
                        .collect(),
                ),
                id => Self::Plain(id),
            }
        }
    }

    /// The types directly inside it.
    fn parts(&self) -> Vec<&Self> {
        match self {
            Self::Plain(_) | Self::Decimal { .. } => Vec::new(),
            Self::List(item) | Self::Array(item, _) => vec![item],
            Self::Map(key, value) => vec![key, value],
            Self::Struct(members) | Self::Union(members) => {
                members.iter().map(|(_, member)| member).collect()
            }
        }
    }

    fn holds(&self, found: &impl Fn(&Self) -> bool) -> bool {
        found(self) || self.parts().into_iter().any(|part| part.holds(found))
    }

    /// True where DuckDB's export to Arrow loses something (TIMETZ its offset), gives bytes that only DuckDB
    /// reads (BIGNUM), or fails (VARIANT), so that the column leaves as [`Self::wire_sql`] instead. An ENUM in
    /// a union is among them, because no Arrow cast reaches into unions to take dictionaries out.
    pub(super) fn is_recast(&self) -> bool {
        let has_no_export = |part: &Self| {
            matches!(
                part,
                Self::Plain(
                    c::DUCKDB_TYPE_DUCKDB_TYPE_TIME_TZ
                        | c::DUCKDB_TYPE_DUCKDB_TYPE_BIGNUM
                        | c::DUCKDB_TYPE_DUCKDB_TYPE_VARIANT
                )
            )
        };
        let is_enum = |part: &Self| *part == Self::Plain(c::DUCKDB_TYPE_DUCKDB_TYPE_ENUM);
        self.holds(&|part| has_no_export(part) || matches!(part, Self::Union(_)) && part.holds(&is_enum))
    }

    /// True for intervals inside a list, whose vectors are not always flat as DuckDB fetches them.
    pub(super) fn has_listed_interval(&self) -> bool {
        let is_interval = |part: &Self| *part == Self::Plain(c::DUCKDB_TYPE_DUCKDB_TYPE_INTERVAL);
        self.holds(&|part| matches!(part, Self::List(_) | Self::Map(_, _)) && part.holds(&is_interval))
    }

    /// The type, as SQL, that a recast column is cast to.
    pub(super) fn wire_sql(&self) -> String {
        let members = |members: &[Member]| {
            let members: Vec<_> = members
                .iter()
                .map(|(name, member)| format!("{} {}", quote(name), member.wire_sql()))
                .collect();
            members.join(", ")
        };
        match self {
            Self::Plain(id) => plain_sql(*id).to_owned(),
            Self::Decimal { width, scale } => format!("DECIMAL({width}, {scale})"),
            Self::List(item) => format!("{}[]", item.wire_sql()),
            Self::Array(item, size) => format!("{}[{size}]", item.wire_sql()),
            Self::Map(key, value) => format!("MAP({}, {})", key.wire_sql(), value.wire_sql()),
            Self::Struct(parts) => format!("STRUCT({})", members(parts)),
            Self::Union(parts) => format!("UNION({})", members(parts)),
        }
    }
}

/// VARCHAR for what leaves as text.
pub(super) fn plain_sql(id: c::duckdb_type) -> &'static str {
    match id {
        c::DUCKDB_TYPE_DUCKDB_TYPE_BOOLEAN => "BOOLEAN",
        c::DUCKDB_TYPE_DUCKDB_TYPE_TINYINT => "TINYINT",
        c::DUCKDB_TYPE_DUCKDB_TYPE_SMALLINT => "SMALLINT",
        c::DUCKDB_TYPE_DUCKDB_TYPE_INTEGER | c::DUCKDB_TYPE_DUCKDB_TYPE_SQLNULL => "INTEGER",
        c::DUCKDB_TYPE_DUCKDB_TYPE_BIGINT => "BIGINT",
        c::DUCKDB_TYPE_DUCKDB_TYPE_UTINYINT => "UTINYINT",
        c::DUCKDB_TYPE_DUCKDB_TYPE_USMALLINT => "USMALLINT",
        c::DUCKDB_TYPE_DUCKDB_TYPE_UINTEGER => "UINTEGER",
        c::DUCKDB_TYPE_DUCKDB_TYPE_UBIGINT => "UBIGINT",
        c::DUCKDB_TYPE_DUCKDB_TYPE_HUGEINT => "HUGEINT",
        c::DUCKDB_TYPE_DUCKDB_TYPE_UHUGEINT => "UHUGEINT",
        c::DUCKDB_TYPE_DUCKDB_TYPE_FLOAT => "FLOAT",
        c::DUCKDB_TYPE_DUCKDB_TYPE_DOUBLE => "DOUBLE",
        c::DUCKDB_TYPE_DUCKDB_TYPE_DATE => "DATE",
        c::DUCKDB_TYPE_DUCKDB_TYPE_TIME => "TIME",
        c::DUCKDB_TYPE_DUCKDB_TYPE_TIME_NS => "TIME_NS",
        c::DUCKDB_TYPE_DUCKDB_TYPE_TIMESTAMP_S => "TIMESTAMP_S",
        c::DUCKDB_TYPE_DUCKDB_TYPE_TIMESTAMP_MS => "TIMESTAMP_MS",
        c::DUCKDB_TYPE_DUCKDB_TYPE_TIMESTAMP => "TIMESTAMP",
        c::DUCKDB_TYPE_DUCKDB_TYPE_TIMESTAMP_NS => "TIMESTAMP_NS",
        c::DUCKDB_TYPE_DUCKDB_TYPE_TIMESTAMP_TZ => "TIMESTAMPTZ",
        c::DUCKDB_TYPE_DUCKDB_TYPE_INTERVAL => "INTERVAL",
        c::DUCKDB_TYPE_DUCKDB_TYPE_BLOB => "BLOB",
        c::DUCKDB_TYPE_DUCKDB_TYPE_BIT => "BIT",
        c::DUCKDB_TYPE_DUCKDB_TYPE_UUID => "UUID",
        c::DUCKDB_TYPE_DUCKDB_TYPE_GEOMETRY => "GEOMETRY",
        c::DUCKDB_TYPE_DUCKDB_TYPE_VARIANT => "JSON",
        _ => "VARCHAR",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(id: c::duckdb_type) -> LogicalType {
        LogicalType::Plain(id)
    }

    #[test]
    fn only_what_arrow_lacks_is_recast() {
        let timetz = plain(c::DUCKDB_TYPE_DUCKDB_TYPE_TIME_TZ);
        let member = |inner: &LogicalType| vec![("a\"b".to_owned(), inner.clone())];
        let choice = plain(c::DUCKDB_TYPE_DUCKDB_TYPE_ENUM);
        assert!(!plain(c::DUCKDB_TYPE_DUCKDB_TYPE_HUGEINT).is_recast());
        assert!(!LogicalType::Struct(member(&choice)).is_recast());
        assert!(LogicalType::Union(member(&choice)).is_recast());
        let nested = LogicalType::List(Box::new(LogicalType::Struct(member(&timetz))));
        assert!(nested.is_recast());
        assert_eq!(nested.wire_sql(), "STRUCT(\"a\"\"b\" VARCHAR)[]");
    }

    #[test]
    fn intervals_are_looked_for_in_lists() {
        let interval = plain(c::DUCKDB_TYPE_DUCKDB_TYPE_INTERVAL);
        assert!(!interval.has_listed_interval());
        assert!(!LogicalType::Array(Box::new(interval.clone()), 2).has_listed_interval());
        let map = LogicalType::Map(Box::new(plain(c::DUCKDB_TYPE_DUCKDB_TYPE_VARCHAR)), Box::new(interval));
        assert!(LogicalType::Struct(vec![("m".into(), map)]).has_listed_interval());
    }
}
