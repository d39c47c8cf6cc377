//! The SQL by which a pipeline reads what is new.

use super::Pipeline;
use crate::{
    engine::{
        Error, Result,
        answers::{count, text_or_null},
        ffi::Connection,
    },
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

    /// Refuses a column whose values come out of staging as those of another type, which cannot be compared with it, and an
    /// overlap by which rows would be skipped.
    ///
    /// # Errors
    /// [`Error::SchemaMismatch`]; those of DuckDB, where the two do not fit.
    pub(super) fn check_bound(&self, connection: &Connection, sql_type: &str) -> Result<()> {
        if sql_type == "BIT" {
            return Err(Error::SchemaMismatch(format!(
                "the column {:?} is a BIT, by which nothing can be found anew; CAST it to another type in the query of the \
                 pipeline",
                self.incremental
            )));
        }
        let Some(overlap) = &self.overlap else { return Ok(()) };
        connection.execute(&format!("SELECT {}", self.bound("NULL", sql_type)))?;
        let (span, nothing) = (span(overlap), if is_number(overlap) { "0" } else { "INTERVAL '0 seconds'" });
        match count(connection, &format!("SELECT ({span} < {nothing})::BIGINT"))? {
            0 => Ok(()),
            _ => Err(Error::SchemaMismatch(
                "the overlap is less than nothing, and rows would be skipped".into(),
            )),
        }
    }

    /// From where rows are read, as SQL; `None` where that lies before all values that the type has.
    pub(super) fn begin(
        &self,
        connection: &Connection,
        watermark: &str,
        sql_type: &str,
    ) -> Result<Option<String>> {
        let bound = self.bound(&literal(watermark), sql_type);
        let is_there = self.overlap.is_none()
            || text_or_null(connection, &format!("SELECT TRY({bound})::VARCHAR"))?.is_some();
        Ok(is_there.then_some(bound))
    }

    /// The condition for rows from some value on, as a WHERE, which the source may be asked with. With a key those that are
    /// equal to it are read again, since more of them may have come; without one they would come twice. What is infinite
    /// or no number is never among them: nothing comes after it.
    pub(super) fn condition(&self, begin: Option<&str>, sql_type: &str) -> String {
        let column = quote(&self.incremental);
        let after = if self.key.is_empty() { ">" } else { ">=" };
        let after = begin.map(|begin| format!("{column} {after} {begin}"));
        let finite = has_infinity(sql_type).then(|| format!("isfinite({column}) IS DISTINCT FROM false"));
        let conditions: Vec<_> = after.into_iter().chain(finite).collect();
        match conditions.is_empty() {
            true => String::new(),
            false => format!("WHERE {}", conditions.join(" AND ")),
        }
    }

    /// Whether the source has rows that are as new as a watermark, or newer, as a query of their number.
    pub(super) fn reached(&self, watermark: &str, sql_type: &str) -> String {
        let column = quote(&self.incremental);
        let finite = if has_infinity(sql_type) { format!(" AND isfinite({column})") } else { String::new() };
        let mark = literal(watermark);
        format!(
            "SELECT count(*) FROM (SELECT 1 FROM {} WHERE {column} >= CAST({mark} AS {sql_type}){finite} LIMIT 1)",
            self.source()
        )
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

    fn bound(&self, watermark: &str, sql_type: &str) -> String {
        let from = format!("CAST({watermark} AS {sql_type})");
        match &self.overlap {
            None => from,
            Some(overlap) => format!("{from} - {}", span(overlap)),
        }
    }
}

/// An overlap as SQL.
fn span(overlap: &str) -> String {
    if is_number(overlap) { format!("({overlap})") } else { format!("INTERVAL {}", literal(overlap)) }
}

fn is_number(overlap: &str) -> bool {
    overlap.parse::<f64>().is_ok()
}

/// Whether values of an SQL type may be infinite or no number.
pub(super) fn has_infinity(sql_type: &str) -> bool {
    ["DATE", "TIMESTAMP", "FLOAT", "DOUBLE"].iter().any(|kind| sql_type.starts_with(kind))
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::{
        Options, TableRef,
        database::{Database, Pooled},
        jobs::LIMIT,
    };

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
        assert_eq!(plain.condition(Some("7"), "BIGINT"), "WHERE \"at\" > 7");
        assert_eq!(plain.condition(None, "DOUBLE"), "WHERE isfinite(\"at\") IS DISTINCT FROM false");
        let keyed = pipeline("t", &["id"], Some("10 minutes"));
        assert_eq!(
            keyed.condition(Some("x"), "TIMESTAMP"),
            "WHERE \"at\" >= x AND isfinite(\"at\") IS DISTINCT FROM false"
        );
        assert_eq!(keyed.left_out(Some("2026-01-01"), "DATE"), "WHERE \"at\" >= CAST('infinity' AS DATE)");
    }

    fn connection() -> Pooled {
        Arc::new(Database::open(&Options::default()).unwrap()).private_connection().unwrap()
    }

    #[test]
    fn an_overlap_reaches_as_far_back_as_there_are_values() {
        let connection = connection();
        for (overlap, mark, sql_type, begin) in [
            (None, "7", "BIGINT", Some("CAST('7' AS BIGINT)")),
            (Some("5"), "9", "BIGINT", Some("CAST('9' AS BIGINT) - (5)")),
            (Some("100"), "9", "UBIGINT", None),
            (Some("100"), "-100", "TINYINT", None),
            (
                Some("10 minutes"),
                "2026-01-01",
                "TIMESTAMP",
                Some("CAST('2026-01-01' AS TIMESTAMP) - INTERVAL '10 minutes'"),
            ),
        ] {
            let found = pipeline("t", &["id"], overlap).begin(&connection, mark, sql_type).unwrap();
            assert_eq!(found.as_deref(), begin, "{overlap:?} before {mark}");
        }
    }

    #[test]
    fn an_overlap_that_would_skip_rows_is_refused_and_so_is_a_column_of_bits() {
        let connection = connection();
        let is_fine =
            |overlap, sql_type| pipeline("t", &["id"], overlap).check_bound(&connection, sql_type).is_ok();
        for (overlap, sql_type, fine) in [
            (None, "BIGINT", true),
            (None, "BIT", false),
            (Some("0"), "BIGINT", true),
            (Some("2.5"), "DOUBLE", true),
            (Some("-5"), "BIGINT", false),
            (Some("nan"), "DOUBLE", false),
            (Some("inf"), "DOUBLE", false),
            (Some("5"), "TIMESTAMP", false),
            (Some("1 hour"), "TIMESTAMP", true),
            (Some("-1 hour"), "TIMESTAMP", false),
            (Some("1 hour ago"), "TIMESTAMP", false),
        ] {
            assert_eq!(is_fine(overlap, sql_type), fine, "{overlap:?} of {sql_type}");
        }
    }
}
