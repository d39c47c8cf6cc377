//! Pipelines: rows that are new in a query go into a table, once each.
//!
//! How far a pipeline has come is written in the same transaction as its rows, in the catalog of the table, for each
//! database that it reads and no other server has. So whatever dies, and however many servers run the same pipeline, over the same
//! rows or each over its own, no row comes twice and none is left out.
//!
//! What is new is read into a temporary table first, with nothing held, because a source may be slow, and because a run
//! that finds nothing is to write nothing. Servers that read the same rows at the same time find out when they take the
//! lease, or else in the transaction.
//!
//! The transaction in an attached catalog is that of the catalog's writer, as an upload's, so that rows with the same keys
//! which loaders send at the same time do not come twice.

mod query;
mod run;
mod sources;

use std::time::Duration;

use super::watermarks::Scope;
use crate::{
    engine::{
        CatalogKind, Error, IfExists, IfMissing, IngestRequest, Merge, NewColumns, OnConflict, Result,
        catalog::{FullName, TableRef},
        database::Database,
        ffi::Connection,
        names::Names,
    },
    sql::{mentions, quote},
};
pub(super) use run::Run;

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
    pub every: Option<Duration>,
    /// How long a run may take.
    pub limit: Duration,
}

impl Pipeline {
    /// The table's whole name.
    pub(in crate::engine::jobs) fn target(&self, default: &Names) -> FullName {
        self.into.resolve(default)
    }

    /// What its watermark is of.
    fn scope(&self, target: &FullName) -> Scope {
        let target = format!("{}.{}", quote(&target.schema), quote(&target.table));
        Scope { target, incremental: self.incremental.clone() }
    }

    /// The declared catalogs that it needs and that are not there, for people.
    pub(in crate::engine::jobs) fn missing(&self, database: &Database, target: &FullName) -> Option<String> {
        let is_needed = |name: &str| {
            name.eq_ignore_ascii_case(&target.catalog) || mentions(&self.from, &name.to_lowercase())
        };
        let missing = database.missing_catalogs().map(|catalog| catalog.name.as_str());
        let missing: Vec<_> = missing.filter(|name| is_needed(name)).collect();
        (!missing.is_empty()).then(|| missing.join(", "))
    }

    /// Whether rows may go where they are to go.
    pub(in crate::engine::jobs) fn check_target(&self, database: &Database, target: &FullName) -> Result<()> {
        let declared = &database.options().lake.catalogs;
        let catalog = declared.iter().find(|catalog| catalog.name.eq_ignore_ascii_case(&target.catalog));
        if catalog.is_some_and(|catalog| catalog.read_only) {
            return Err(Error::SchemaMismatch(format!(
                "nothing can be written to the catalog {:?}",
                target.catalog
            )));
        }
        if catalog.is_some_and(|catalog| catalog.kind == CatalogKind::Sqlite) {
            // The watermark needs a schema that clients cannot reach, and cannot be in another database: one transaction
            // writes to one.
            return Err(Error::SchemaMismatch(
                "SQLite has no schema beside its own, and so no place for how far a pipeline has come; \
                 send its rows to a catalog of another type"
                    .into(),
            ));
        }
        Ok(())
    }

    /// Whether everything that it reads is there, without moving anything.
    pub(in crate::engine::jobs) fn check_source(&self, connection: &Connection) -> Result<()> {
        let sql_type = self.column_type(connection)?;
        let columns: Vec<_> =
            self.key.iter().chain([&self.incremental]).map(|column| quote(column)).collect();
        connection.execute(&format!("SELECT {} FROM {} LIMIT 0", columns.join(", "), self.source()))?;
        self.check_bound(connection, &sql_type)?;
        if sql_type == "VARCHAR" {
            // What a source that is asked with a bound does with it is not known here.
            tracing::warn!(
                pipeline = self.name,
                column = self.incremental,
                "a pipeline compares texts byte by byte, so that a source which orders them otherwise may lose rows"
            );
        }
        Ok(())
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
}
