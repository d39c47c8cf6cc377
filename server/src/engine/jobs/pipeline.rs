//! Pipelines: rows that are new in a query go into a table, once each.
//!
//! How far a pipeline has come is written in the same transaction as its rows, in the catalog of the table. So
//! whatever dies, and however many servers run the same pipeline, no row comes twice and none is left out.

use std::sync::Arc;

use super::{
    again::again,
    book::{Book, Page},
};
use crate::{
    engine::{
        CatalogKind, Error, IfExists, IfMissing, IngestRequest, Merge, NewColumns, OnConflict, Result,
        answers::text_or_null,
        catalog::{Catalog, FullName, TableRef},
        clock::CommitClock,
        database::{Database, Pooled},
        ffi::Connection,
        ingest::StagedQuery,
        names::Names,
    },
    sql::{literal, quote},
};

/// A run that others were faster than begins anew this many times.
const TRIES: usize = 10;
/// As whose upload the rows count.
const LOADER: u64 = 0;

/// What moves, from where and to where.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// The name.
    pub name: String,
    /// A query, or the name of a table.
    pub from: String,
    /// The column by which rows are new: it grows.
    pub incremental: String,
    /// Rows are read again that lie this far before the last one, in the column's own unit: for rows that become
    /// visible late. A number, or an interval such as `10 minutes`.
    pub overlap: Option<String>,
    /// The table that they go to, which is made where it is missing.
    pub into: TableRef,
    /// The columns that tell rows apart; a row whose key is there takes the place of the old one. None adds all rows.
    pub key: Vec<String>,
    /// How often; `None` is only on demand.
    pub every: Option<std::time::Duration>,
}

/// One run of a pipeline.
pub(super) struct Run<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) database: &'a Arc<Database>,
    pub(super) catalog: &'a Catalog,
    pub(super) clock: &'a CommitClock,
}

impl Pipeline {
    /// The table's whole name.
    pub(super) fn target(&self, default: &Names) -> FullName {
        self.into.resolve(default)
    }

    /// The rows as a query in parentheses.
    fn source(&self) -> String {
        let text = self.from.trim_start();
        let first: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let is_query = ["select", "from", "with"].contains(&first.to_lowercase().as_str());
        match is_query || text.starts_with('(') {
            // A comment at its end must not take the bracket with it.
            true => format!("({}\n)", self.from.trim_end().trim_end_matches(';').trim_end()),
            false => format!("(FROM {})", self.from),
        }
    }

    fn request(&self) -> IngestRequest {
        let merge = Merge { keys: self.key.clone(), on_conflict: OnConflict::Update };
        IngestRequest {
            if_missing: IfMissing::Create,
            if_exists: IfExists::Append,
            merge: (!self.key.is_empty()).then_some(merge),
            new_columns: NewColumns::Add,
            ..IngestRequest::append(self.into.clone(), LOADER)
        }
    }

    /// The condition for rows after the watermark. With a key those that are equal to it are read again, since more
    /// of them may have come; without one they would come twice.
    fn condition(&self, watermark: Option<&str>, sql_type: &str) -> String {
        let column = quote(&self.incremental);
        let mut conditions = Vec::new();
        if let Some(watermark) = watermark {
            let after = if self.key.is_empty() { ">" } else { ">=" };
            conditions.push(format!("{column} {after} {}", self.bound(&literal(watermark), sql_type)));
        }
        // Nothing comes after infinity: one such row would end the pipeline.
        if ["DATE", "TIMESTAMP", "FLOAT", "DOUBLE"].iter().any(|kind| sql_type.starts_with(kind)) {
            conditions.push(format!("({column} IS NULL OR isfinite({column}))"));
        }
        if conditions.is_empty() { String::new() } else { format!("WHERE {}", conditions.join(" AND ")) }
    }

    /// From where rows are read; the watermark as SQL.
    fn bound(&self, watermark: &str, sql_type: &str) -> String {
        let from = format!("CAST({watermark} AS {sql_type})");
        match &self.overlap {
            None => from,
            Some(number) if number.parse::<f64>().is_ok() => format!("{from} - {number}"),
            Some(interval) => format!("{from} - INTERVAL {}", literal(interval)),
        }
    }
}

impl Run<'_> {
    /// Whether everything that it names is there, without moving anything.
    pub(super) fn check(&self, connection: &Connection, target: &FullName) -> Result<()> {
        let Pipeline { incremental, overlap, key, .. } = self.pipeline;
        if self.database.is_kept_from_writes(&target.catalog) {
            return Err(Error::SchemaMismatch(format!(
                "nothing can be written to the catalog {:?}",
                target.catalog
            )));
        }
        if self.database.kind_of(&target.catalog) == Some(&CatalogKind::Sqlite) {
            return Err(Error::SchemaMismatch("SQLite has no place for how far a pipeline has come".into()));
        }
        self.column_type(connection)?;
        let columns: Vec<_> = key.iter().chain([incremental]).map(|column| quote(column)).collect();
        connection.execute(&format!(
            "SELECT {} FROM {} LIMIT 0",
            columns.join(", "),
            self.pipeline.source()
        ))?;
        if overlap.is_some() {
            let bound = self.pipeline.bound("NULL", &self.column_type(connection)?);
            connection.execute(&format!("SELECT {bound}"))?;
        }
        Ok(())
    }

    /// Moves what is new; tells how many rows that were.
    pub(super) fn promote(&self, connection: &Pooled, book: &Book, target: &FullName) -> Result<u64> {
        again(TRIES, || self.try_once(connection, book, target))
    }

    fn try_once(&self, connection: &Pooled, book: &Book, target: &FullName) -> Result<u64> {
        if self.database.attached_catalogs().any(|catalog| catalog.kind == CatalogKind::Postgres) {
            // Else columns would be those of the first look at PostgreSQL.
            connection.execute("CALL pg_clear_cache()")?;
        }
        let page = book.read(connection, &self.pipeline.name)?;
        let sql_type = self.column_type(connection)?;
        let condition = self.pipeline.condition(page.watermark.as_deref(), &sql_type);
        let by = quote(&self.pipeline.incremental);
        let query = format!("SELECT * FROM {} {condition} ORDER BY {by} NULLS FIRST", self.pipeline.source());
        let table = self.catalog.look_up(target)?;
        let staged =
            StagedQuery::fill(connection, target, table.as_deref(), &self.pipeline.request(), &query)?;
        let outcome = self.enter(connection, book, target, &page, &staged);
        let closed = staged.close(connection);
        outcome.and_then(|rows| closed.map(|()| rows))
    }

    /// Brings the staged rows in, and writes down how far that is.
    fn enter(
        &self,
        connection: &Connection,
        book: &Book,
        target: &FullName,
        before: &Page,
        staged: &StagedQuery,
    ) -> Result<u64> {
        let Some(last) = staged.last(connection, &self.pipeline.incremental)? else { return Ok(0) };
        let rows = staged.settle(connection, target)?;
        if rows == 0 && before.watermark.as_deref() == Some(&last) {
            return Ok(0);
        }
        let _writing = self.clock.writing();
        connection.execute("BEGIN TRANSACTION")?;
        let at_once = matches!(self.database.kind_of(&target.catalog), Some(CatalogKind::DuckLake { .. }));
        let done = book.read(connection, &self.pipeline.name).and_then(|page| {
            if page.watermark != before.watermark {
                return Err(Error::conflict("another server has moved the same rows"));
            }
            staged.enter(connection, target, at_once)?;
            book.write(connection, &self.pipeline.name, &Page { watermark: Some(last), ..page })
        });
        let ended = match done {
            Ok(()) => connection.execute("COMMIT").map_err(Error::from),
            Err(error) => Err(error),
        };
        if ended.is_err() {
            // Where COMMIT failed there is no transaction left.
            let _ = connection.execute("ROLLBACK");
        }
        ended?;
        if staged.changes_schema() {
            self.clock.schema_changed();
        }
        Ok(rows)
    }

    /// The SQL type of the column by which rows are new.
    fn column_type(&self, connection: &Connection) -> Result<String> {
        let sql = format!(
            "SELECT column_type FROM (DESCRIBE FROM {}) WHERE lower(column_name) = lower({})",
            self.pipeline.source(),
            literal(&self.pipeline.incremental)
        );
        let missing = || Error::SchemaMismatch(format!("there is no column {:?}", self.pipeline.incremental));
        text_or_null(connection, &sql)?.ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipeline(from: &str, key: &[&str], overlap: Option<&str>) -> Pipeline {
        Pipeline {
            name: "p".into(),
            from: from.into(),
            incremental: "at".into(),
            overlap: overlap.map(str::to_owned),
            into: TableRef { catalog: None, schema: None, table: "t".into() },
            key: key.iter().map(|&key| key.to_owned()).collect(),
            every: None,
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
        let keyed = pipeline("t", &["id"], Some("10 minutes"));
        assert_eq!(
            keyed.condition(Some("2026-01-01"), "TIMESTAMP"),
            "WHERE \"at\" >= CAST('2026-01-01' AS TIMESTAMP) - INTERVAL '10 minutes' \
             AND (\"at\" IS NULL OR isfinite(\"at\"))"
        );
        assert!(pipeline("t", &["id"], Some("5")).condition(Some("9"), "BIGINT").ends_with("- 5"));
    }
}
