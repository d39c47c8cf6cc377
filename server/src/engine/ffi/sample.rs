//! A value of any type, as SQL. Whether a cast exists at all DuckDB tells only once it meets a value that is not
//! NULL, so that whoever wants to know before there are rows needs one.

use libduckdb_sys as c;

use super::logical::{LogicalType, Member, plain_sql};
use crate::sql::quote;

impl LogicalType {
    /// An expression of this type that is not NULL, nor is anything inside it. What leaves as text, such as an ENUM,
    /// is a text here, too: DuckDB casts it by way of one.
    pub(super) fn sample_sql(&self) -> String {
        match self {
            Self::Plain(id) => format!("CAST('{}' AS {})", plain_sample(*id), plain_type(*id)),
            Self::Decimal { .. } => format!("CAST(0 AS {})", self.wire_sql()),
            Self::List(item) => format!("[{}]", item.sample_sql()),
            // One item for all: an array may have a hundred thousand.
            Self::Array(item, size) => {
                format!("CAST(list_resize([{}], {size}, NULL) AS {})", item.sample_sql(), self.wire_sql())
            }
            Self::Map(key, value) => format!("MAP {{{}: {}}}", key.sample_sql(), value.sample_sql()),
            Self::Struct(members) if members.iter().any(|(name, _)| name.is_empty()) => {
                format!("row({})", listed(members, |(_, member)| member.sample_sql()))
            }
            Self::Struct(members) => format!("struct_pack({})", listed(members, named)),
            // A union holds one of its members.
            Self::Union(members) => {
                let first = listed(&members[..members.len().min(1)], named);
                format!("CAST(union_value({first}) AS {})", self.wire_sql())
            }
        }
    }
}

fn named((name, member): &Member) -> String {
    format!("{} := {}", quote(name), member.sample_sql())
}

fn listed(members: &[Member], each: impl Fn(&Member) -> String) -> String {
    members.iter().map(each).collect::<Vec<_>>().join(", ")
}

fn plain_type(id: c::duckdb_type) -> &'static str {
    match id {
        c::DUCKDB_TYPE_DUCKDB_TYPE_TIME_TZ => "TIMETZ",
        c::DUCKDB_TYPE_DUCKDB_TYPE_BIGNUM => "BIGNUM",
        c::DUCKDB_TYPE_DUCKDB_TYPE_VARIANT => "VARIANT",
        other => plain_sql(other),
    }
}

fn plain_sample(id: c::duckdb_type) -> &'static str {
    match id {
        c::DUCKDB_TYPE_DUCKDB_TYPE_DATE
        | c::DUCKDB_TYPE_DUCKDB_TYPE_TIMESTAMP_S
        | c::DUCKDB_TYPE_DUCKDB_TYPE_TIMESTAMP_MS
        | c::DUCKDB_TYPE_DUCKDB_TYPE_TIMESTAMP
        | c::DUCKDB_TYPE_DUCKDB_TYPE_TIMESTAMP_NS
        | c::DUCKDB_TYPE_DUCKDB_TYPE_TIMESTAMP_TZ => "2000-01-01",
        c::DUCKDB_TYPE_DUCKDB_TYPE_TIME
        | c::DUCKDB_TYPE_DUCKDB_TYPE_TIME_NS
        | c::DUCKDB_TYPE_DUCKDB_TYPE_TIME_TZ => "00:00:00",
        c::DUCKDB_TYPE_DUCKDB_TYPE_UUID => "00000000-0000-0000-0000-000000000000",
        c::DUCKDB_TYPE_DUCKDB_TYPE_GEOMETRY => "POINT(0 0)",
        _ => "0",
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray;

    use super::super::{Connection, Database};

    fn text(connection: &Connection, sql: &str) -> String {
        let mut rows = connection.extract(sql).unwrap().prepare(0).unwrap().execute().unwrap();
        rows.next().unwrap().unwrap().column(0).as_string::<i32>().value(0).to_owned()
    }

    #[test]
    fn every_type_has_a_sample_of_its_own() {
        let connection = Database::open(None, &[]).unwrap().connect().unwrap();
        for sql_type in [
            "BOOLEAN",
            "TINYINT",
            "UHUGEINT",
            "DECIMAL(38,38)",
            "DOUBLE",
            "VARCHAR",
            "DATE",
            "TIME",
            "TIME WITH TIME ZONE",
            "TIMESTAMP_S",
            "TIMESTAMP_MS",
            "TIMESTAMP",
            "TIMESTAMP_NS",
            "TIMESTAMP WITH TIME ZONE",
            "INTERVAL",
            "BLOB",
            "BIT",
            "UUID",
            "BIGNUM",
            "BIGINT[]",
            "DATE[3]",
            "STRUCT(a BIGINT, \"b \"\"c\" DATE[])",
            "MAP(DATE, STRUCT(a TIME)[])",
            "UNION(a BIGINT, b VARCHAR)",
        ] {
            let plan = connection.extract(&format!("SELECT CAST(NULL AS {sql_type})")).unwrap();
            let sample = plan.prepare(0).unwrap().samples().remove(0);
            let asked = format!("SELECT CASE WHEN {sample} IS NULL THEN 'NULL' ELSE typeof({sample}) END");
            assert_eq!(text(&connection, &asked), sql_type, "{sample}");
        }
    }
}
