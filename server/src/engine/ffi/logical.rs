//! DuckDB's logical types, read into a tree, and what each of them becomes on its way to Arrow.

use arrow_schema::{DataType, FieldRef};
use libduckdb_sys as c;

use super::connection::take_text;
use crate::sql::{literal, quote};

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

    /// Whether it has a BIT where an Arrow type has bytes.
    pub(super) fn has_bits_for(&self, sent: &DataType) -> bool {
        let all = |parts: &[&Self], sent: &[&FieldRef]| {
            parts.iter().zip(sent).any(|(part, sent)| part.has_bits_for(sent.data_type()))
        };
        match (self, sent) {
            (Self::Plain(id), DataType::Binary | DataType::LargeBinary | DataType::BinaryView) => {
                *id == c::DUCKDB_TYPE_DUCKDB_TYPE_BIT
            }
            (
                Self::List(_) | Self::Array(_, _),
                DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _),
            ) => all(&self.parts(), &[item]),
            (Self::Map(_, _), DataType::Map(entries, _)) => match entries.data_type() {
                DataType::Struct(pair) => all(&self.parts(), &pair.iter().collect::<Vec<_>>()),
                _ => false,
            },
            (Self::Struct(_), DataType::Struct(members)) => {
                all(&self.parts(), &members.iter().collect::<Vec<_>>())
            }
            (Self::Union(_), DataType::Union(members, _)) => {
                all(&self.parts(), &members.iter().map(|(_, member)| member).collect::<Vec<_>>())
            }
            _ => false,
        }
    }

    /// True for intervals inside a list, whose vectors are not always flat as DuckDB fetches them.
    pub(super) fn has_listed_interval(&self) -> bool {
        let is_interval = |part: &Self| *part == Self::Plain(c::DUCKDB_TYPE_DUCKDB_TYPE_INTERVAL);
        self.holds(&|part| matches!(part, Self::List(_) | Self::Map(_, _)) && part.holds(&is_interval))
    }

    /// The SQL by which `value`, an expression of this type that stands nowhere inside a lambda, leaves as
    /// [`Self::wire_sql`].
    pub(super) fn wire_cast(&self, value: &str) -> String {
        format!("CAST({} AS {})", self.without_null_texts(value, 0), self.wire_sql())
    }

    /// DuckDB's cast to JSON makes the text `null` of a VARIANT that is NULL. So each VARIANT is looked at, and what is
    /// around it is put together again, of parts without names, which the cast around it all gives back. The names of the
    /// functions are whole, so that no client's macro is called; `depth` tells the lambdas' parameters apart.
    fn without_null_texts(&self, value: &str, depth: usize) -> String {
        let is_variant = |part: &Self| *part == Self::Plain(c::DUCKDB_TYPE_DUCKDB_TYPE_VARIANT);
        if !self.holds(&is_variant) {
            return value.to_owned();
        }
        let each = |list: &str, of: &dyn Fn(&str) -> String| {
            let item = format!("item{depth}");
            format!("system.main.list_transform({list}, lambda {item}: {})", of(&item))
        };
        let inner = |part: &Self, value: &str| part.without_null_texts(value, depth + 1);
        let at = |value: &str, place: usize| format!("system.main.struct_extract_at({value}, {place})");
        let made = match self {
            Self::Plain(_) | Self::Decimal { .. } => format!("CAST({value} AS {})", self.wire_sql()),
            Self::List(item) | Self::Array(item, _) => return each(value, &|one| inner(item, one)),
            Self::Map(key, held) => {
                let entries = format!("system.main.map_entries({value})");
                let pair = |one: &str| {
                    format!("system.main.row({}, {})", inner(key, &at(one, 1)), inner(held, &at(one, 2)))
                };
                return format!("system.main.map_from_entries({})", each(&entries, &pair));
            }
            Self::Struct(members) => {
                let members = members.iter().enumerate();
                let members: Vec<_> =
                    members.map(|(index, (_, member))| inner(member, &at(value, index + 1))).collect();
                format!("system.main.row({})", members.join(", "))
            }
            Self::Union(members) => return self.union_of(members, value, &inner),
        };
        format!("CASE WHEN {value} IS NULL THEN NULL ELSE {made} END")
    }

    /// A union is one of its members, by the name of that one.
    fn union_of(&self, members: &[Member], value: &str, inner: &dyn Fn(&Self, &str) -> String) -> String {
        let cases = members.iter().map(|(name, member)| {
            let held = inner(member, &format!("system.main.union_extract({value}, {})", literal(name)));
            let made = format!("system.main.union_value({} := {held})", quote(name));
            format!("WHEN {} THEN CAST({made} AS {})", literal(name), self.wire_sql())
        });
        let cases: Vec<_> = cases.collect();
        format!("CASE system.main.union_tag({value}) {} END", cases.join(" "))
    }

    /// The type, as SQL, that a recast column is cast to.
    pub(super) fn wire_sql(&self) -> String {
        self.sql(&plain_sql)
    }

    /// The type, as SQL, in which DuckDB's files of Parquet keep each value, where they would change some of this one
    /// without a word: HUGEINT becomes DOUBLE there, TIMETZ loses its offset, and INTERVAL its microseconds.
    pub(super) fn parquet_sql(&self) -> Option<String> {
        let changes = |part: &Self| matches!(part, Self::Plain(id) if exact_in_parquet(*id).is_some());
        let plain = |id| match id {
            c::DUCKDB_TYPE_DUCKDB_TYPE_VARIANT => "VARIANT",
            other => exact_in_parquet(other).unwrap_or_else(|| plain_sql(other)),
        };
        self.holds(&changes).then(|| self.sql(&plain))
    }

    fn sql(&self, plain: &dyn Fn(c::duckdb_type) -> &'static str) -> String {
        let members = |members: &[Member]| {
            let members: Vec<_> = members
                .iter()
                .map(|(name, member)| format!("{} {}", quote(name), member.sql(plain)))
                .collect();
            members.join(", ")
        };
        match self {
            Self::Plain(id) => plain(*id).to_owned(),
            Self::Decimal { width, scale } => format!("DECIMAL({width}, {scale})"),
            Self::List(item) => format!("{}[]", item.sql(plain)),
            Self::Array(item, size) => format!("{}[{size}]", item.sql(plain)),
            Self::Map(key, value) => format!("MAP({}, {})", key.sql(plain), value.sql(plain)),
            Self::Struct(parts) => format!("STRUCT({})", members(parts)),
            Self::Union(parts) => format!("UNION({})", members(parts)),
        }
    }
}

fn exact_in_parquet(id: c::duckdb_type) -> Option<&'static str> {
    match id {
        c::DUCKDB_TYPE_DUCKDB_TYPE_HUGEINT | c::DUCKDB_TYPE_DUCKDB_TYPE_UHUGEINT => Some("DECIMAL(38, 0)"),
        c::DUCKDB_TYPE_DUCKDB_TYPE_TIME_TZ | c::DUCKDB_TYPE_DUCKDB_TYPE_INTERVAL => Some("VARCHAR"),
        _ => None,
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
    fn each_variant_is_looked_at_where_it_stands() {
        let variant = plain(c::DUCKDB_TYPE_DUCKDB_TYPE_VARIANT);
        assert_eq!(
            variant.wire_cast("c0"),
            "CAST(CASE WHEN c0 IS NULL THEN NULL ELSE CAST(c0 AS JSON) END AS JSON)"
        );
        let lists = LogicalType::List(Box::new(LogicalType::List(Box::new(variant))));
        assert!(lists.wire_cast("c0").contains("(item0, lambda item1: CASE WHEN item1 IS NULL"));
        let timetz = plain(c::DUCKDB_TYPE_DUCKDB_TYPE_TIME_TZ);
        assert_eq!(LogicalType::List(Box::new(timetz)).wire_cast("c0"), "CAST(c0 AS VARCHAR[])");
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
