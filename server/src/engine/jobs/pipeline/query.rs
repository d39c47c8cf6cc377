//! The SQL by which a pipeline reads what is new.

use super::Pipeline;
use crate::{
    engine::{Error, Result, answers::text_or_null, ffi::Connection},
    sql::{literal, quote},
};

impl Pipeline {
    /// The rows as a query in parentheses.
    pub(super) fn source(&self) -> String {
        let text = self.from.trim_start();
        let first: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let is_query = ["select", "from", "with"].contains(&first.to_lowercase().as_str());
        match is_query || text.starts_with('(') {
            // A comment at its end must not take the bracket with it.
            true => format!("({}\n)", self.from.trim_end().trim_end_matches(';').trim_end()),
            false => format!("(FROM {})", self.from),
        }
    }

    /// The SQL type of the column by which rows are new.
    pub(super) fn column_type(&self, connection: &Connection) -> Result<String> {
        let sql = format!(
            "SELECT column_type FROM (DESCRIBE FROM {}) WHERE lower(column_name) = lower({})",
            self.source(),
            literal(&self.incremental)
        );
        let missing = || Error::SchemaMismatch(format!("there is no column {:?}", self.incremental));
        text_or_null(connection, &sql)?.ok_or_else(missing)
    }

    /// The condition for rows after the watermark, as a WHERE, which the source may be asked with. With a key those that are
    /// equal to it are read again, since more of them may have come; without one they would come twice. What is infinite
    /// or no number is never among them: nothing comes after it.
    pub(super) fn condition(&self, watermark: Option<&str>, sql_type: &str) -> String {
        let column = quote(&self.incremental);
        let after = if self.key.is_empty() { ">" } else { ">=" };
        let after =
            watermark.map(|mark| format!("{column} {after} {}", self.bound(&literal(mark), sql_type)));
        let finite = has_infinity(sql_type).then(|| format!("isfinite({column}) IS DISTINCT FROM false"));
        let conditions: Vec<_> = after.into_iter().chain(finite).collect();
        match conditions.is_empty() {
            true => String::new(),
            false => format!("WHERE {}", conditions.join(" AND ")),
        }
    }

    /// The condition for rows after the watermark that are left out, which a source finds by what it knows of its files or
    /// by an index. To DuckDB, what is no number is larger than infinity.
    pub(super) fn left_out(&self, watermark: Option<&str>, sql_type: &str) -> String {
        let column = quote(&self.incremental);
        let before_all = match watermark {
            Some(_) => String::new(),
            None => format!(" OR {column} = CAST('-infinity' AS {sql_type})"),
        };
        format!("WHERE {column} >= CAST('infinity' AS {sql_type}){before_all}")
    }

    /// From where rows are read; the watermark as SQL.
    pub(super) fn bound(&self, watermark: &str, sql_type: &str) -> String {
        let from = format!("CAST({watermark} AS {sql_type})");
        match &self.overlap {
            None => from,
            Some(number) if number.parse::<f64>().is_ok() => format!("{from} - {number}"),
            Some(interval) => format!("{from} - INTERVAL {}", literal(interval)),
        }
    }
}

/// Whether values of an SQL type may be infinite or no number.
pub(super) fn has_infinity(sql_type: &str) -> bool {
    ["DATE", "TIMESTAMP", "FLOAT", "DOUBLE"].iter().any(|kind| sql_type.starts_with(kind))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::engine::{TableRef, jobs::LIMIT};

    pub(in crate::engine::jobs::pipeline) fn pipeline(
        from: &str,
        key: &[&str],
        overlap: Option<&str>,
    ) -> Pipeline {
        Pipeline {
            name: "p".into(),
            from: from.into(),
            incremental: "at".into(),
            overlap: overlap.map(str::to_owned),
            into: TableRef { catalog: None, schema: None, table: "t".into() },
            key: key.iter().map(|&key| key.to_owned()).collect(),
            every: None,
            limit: LIMIT,
        }
    }

    #[test]
    fn a_table_or_a_query_is_read() {
        assert_eq!(pipeline("pg.public.events", &[], None).source(), "(FROM pg.public.events)");
        assert_eq!(pipeline("SELECT 1 AS at ;", &[], None).source(), "(SELECT 1 AS at\n)");
    }

    #[test]
    fn rows_after_the_watermark_are_new() {
        let plain = pipeline("t", &[], None);
        assert_eq!(plain.condition(None, "BIGINT"), "");
        assert_eq!(plain.condition(Some("7"), "BIGINT"), "WHERE \"at\" > CAST('7' AS BIGINT)");
        assert_eq!(plain.condition(None, "DOUBLE"), "WHERE isfinite(\"at\") IS DISTINCT FROM false");
        let keyed = pipeline("t", &["id"], Some("10 minutes"));
        let after = "WHERE \"at\" >= CAST('2026-01-01' AS TIMESTAMP) - INTERVAL '10 minutes'";
        assert_eq!(
            keyed.condition(Some("2026-01-01"), "TIMESTAMP"),
            format!("{after} AND isfinite(\"at\") IS DISTINCT FROM false")
        );
        assert_eq!(keyed.left_out(Some("2026-01-01"), "DATE"), "WHERE \"at\" >= CAST('infinity' AS DATE)");
        let five = pipeline("t", &["id"], Some("5"));
        assert!(five.condition(Some("9"), "BIGINT").ends_with("- 5"));
    }
}
