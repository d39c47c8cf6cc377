//! What there is: catalogs, schemas, tables and views, from DuckDB's own lists.

use std::sync::Arc;

use arrow_array::{RecordBatch, cast::AsArray, types::Int64Type};
use arrow_schema::{Schema, SchemaRef};

use super::{CatalogView, ask, column_types::ColumnTypes, text};
use crate::{
    engine::Result,
    sql::{INTERNAL_PREFIX, literal},
};

/// DuckDB's own catalogs, listed only for those who name them.
const INTERNAL_CATALOGS: [&str; 2] = ["system", "temp"];
/// The schemas that a database has for itself, likewise: DuckDB's are in one of its own catalogs, PostgreSQL's in each of its databases.
const INTERNAL_SCHEMAS: [&str; 2] = ["information_schema", "pg_catalog"];
/// PostgreSQL keeps all schemas with this beginning for itself, such as those of temporary tables; in a database of DuckDB anybody
/// may have one.
const INTERNAL_IN_POSTGRES: &str = "pg_";

/// A table or view, as catalogs list it.
#[derive(Debug, Clone)]
pub struct Relation {
    /// Its catalog.
    pub catalog: String,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `TABLE`, `VIEW` or `LOCAL TEMPORARY`.
    pub kind: String,
    /// It takes no rows: a view, or a table of a catalog that was attached read-only.
    pub read_only: bool,
    /// Its columns as a SELECT gives them, with the table's own nullability; none where they were not
    /// asked for.
    pub columns: SchemaRef,
    /// What Arrow has no place for, a column each.
    pub details: Vec<ColumnDetail>,
}

/// What the catalog says of a column beyond its Arrow field.
#[derive(Debug, Clone)]
pub struct ColumnDetail {
    /// DuckDB's own type, such as `DECIMAL(5,2)`.
    pub sql_type: String,
    /// What COMMENT ON COLUMN said.
    pub comment: Option<String>,
    /// Its default is the next value of a sequence.
    pub auto_increment: bool,
    /// Decimal digits in all, of a DECIMAL.
    pub precision: Option<i32>,
    /// Decimal digits after the point, of a DECIMAL.
    pub scale: Option<i32>,
}

/// Which tables and views are asked for. Patterns are those of LIKE, with `\` as the escape.
#[derive(Debug, Clone, Default)]
pub struct RelationFilter {
    /// The exact catalog.
    pub catalog: Option<String>,
    /// A pattern of schemas.
    pub schema: Option<String>,
    /// A pattern of tables.
    pub table: Option<String>,
    /// The kinds; empty is all.
    pub kinds: Vec<String>,
    /// List the columns too.
    pub columns: bool,
}

impl CatalogView {
    /// Every table and view that is not a database's own, with its columns, ordered by name.
    ///
    /// # Errors
    /// Whatever DuckDB says.
    pub async fn relations(&self) -> Result<Vec<Relation>> {
        self.relations_like(RelationFilter { columns: true, ..RelationFilter::default() }).await
    }

    /// The tables and views that pass a filter, ordered by name. No view is bound for it, so one that no
    /// longer binds hides no other.
    ///
    /// # Errors
    /// Whatever DuckDB says.
    pub async fn relations_like(&self, filter: RelationFilter) -> Result<Vec<Relation>> {
        let catalog = filter.catalog.clone();
        self.look_at_lists(catalog.as_deref(), move |connection| {
            let batches = ask(connection, &filter.sql())?;
            let mut relations: Vec<_> = rows(&batches).map(|(batch, row)| relation(batch, row)).collect();
            if filter.columns {
                let lists: Vec<_> = rows(&batches).map(|(batch, row)| Columns::of(batch, row)).collect();
                let types = lists.iter().flat_map(|columns| &columns.types).map(String::as_str);
                let types = ColumnTypes::of(connection, types)?;
                for (relation, columns) in relations.iter_mut().zip(lists) {
                    relation.columns = columns.schema(&types);
                    relation.details = columns.details();
                }
            }
            Ok(relations)
        })
        .await
    }

    /// The catalogs that are attached, ordered.
    ///
    /// # Errors
    /// Whatever DuckDB says.
    pub async fn catalogs(&self) -> Result<Vec<String>> {
        let sql = "SELECT database_name FROM system.main.duckdb_databases() WHERE NOT internal ORDER BY ALL";
        let batches = self.ask(sql.to_owned()).await?;
        Ok(rows(&batches).map(|(batch, row)| text(batch, 0, row)).collect())
    }

    /// The schemas of a catalog, or of all, whose names are like a pattern: catalog and schema, ordered.
    ///
    /// # Errors
    /// Whatever DuckDB says.
    pub async fn schemas_like(
        &self,
        catalog: Option<&str>,
        pattern: Option<&str>,
    ) -> Result<Vec<(String, String)>> {
        let sql = format!(
            "SELECT DISTINCT database_name, schema_name FROM system.main.duckdb_schemas() WHERE {} ORDER BY ALL",
            in_schemas(catalog, pattern)
        );
        let batches = self.ask_lists(catalog, sql).await?;
        Ok(rows(&batches).map(|(batch, row)| (text(batch, 0, row), text(batch, 1, row))).collect())
    }
}

impl RelationFilter {
    /// One question for all relations and columns. Columns that nobody asked for are not read.
    fn sql(&self) -> String {
        let conditions = self.conditions();
        let relations = format!(
            "SELECT r.*, r.kind = 'VIEW' OR d.readonly AS read_only FROM (
                SELECT database_name, schema_name, table_name,
                       CASE WHEN temporary THEN 'LOCAL TEMPORARY' ELSE 'TABLE' END AS kind, table_oid AS oid
                FROM system.main.duckdb_tables()
                UNION ALL
                SELECT database_name, schema_name, view_name, 'VIEW', view_oid FROM system.main.duckdb_views()
             ) r JOIN system.main.duckdb_databases() d USING (database_name) WHERE {conditions}"
        );
        if !self.columns {
            return format!(
                "SELECT database_name, schema_name, table_name, kind, read_only FROM ({relations}) ORDER BY ALL"
            );
        }
        // A view that was never bound has no columns, and is listed all the same.
        format!(
            "SELECT r.database_name, r.schema_name, r.table_name, r.kind, r.read_only,
                    coalesce(c.names, []), coalesce(c.types, []), coalesce(c.nullable, []),
                    coalesce(c.comments, []), coalesce(c.sequences, []), coalesce(c.precisions, []),
                    coalesce(c.scales, [])
             FROM ({relations}) r
             LEFT JOIN (
                SELECT database_name, schema_name, table_name, table_oid AS oid,
                       list(column_name ORDER BY column_index) AS names,
                       list(data_type ORDER BY column_index) AS types,
                       list(is_nullable ORDER BY column_index) AS nullable,
                       list(comment ORDER BY column_index) AS comments,
                       list(coalesce(starts_with(column_default, 'nextval('), false) ORDER BY column_index)
                           AS sequences,
                       list(numeric_precision::BIGINT ORDER BY column_index) AS precisions,
                       list(numeric_scale::BIGINT ORDER BY column_index) AS scales
                FROM system.main.duckdb_columns() WHERE {} GROUP BY ALL
             ) c USING (database_name, schema_name, table_name, oid)
             ORDER BY 1, 2, 3, 4",
            self.in_tables()
        )
    }

    fn conditions(&self) -> String {
        let mut conditions = self.in_tables();
        if !self.kinds.is_empty() {
            let kinds: Vec<_> = self.kinds.iter().map(|kind| literal(kind)).collect();
            conditions += &format!(" AND kind IN ({})", kinds.join(", "));
        }
        conditions
    }

    /// The condition on names.
    fn in_tables(&self) -> String {
        // Temporary tables are their session's own; the rest of their catalog is not.
        let mut conditions = format!(
            "(({}) OR (database_name = 'temp' AND schema_name = 'main' AND {}))",
            in_schemas(self.catalog.as_deref(), self.schema.as_deref()),
            self.catalog.is_none() && self.schema.is_none()
        );
        if let Some(pattern) = &self.table {
            conditions += &format!(" AND table_name {}", like(pattern));
        }
        conditions
    }
}

/// The condition that a schema is asked for. What is a database's own is asked for only by its exact name.
fn in_schemas(catalog: Option<&str>, pattern: Option<&str>) -> String {
    let internal = catalog.is_some_and(|catalog| INTERNAL_CATALOGS.contains(&catalog))
        || pattern.is_some_and(|pattern| INTERNAL_SCHEMAS.contains(&pattern.replace('\\', "").as_str()));
    let internal = if internal { "true" } else { &no_internal() };
    // The server's own schema is not for clients.
    let mut conditions = format!("{internal} AND schema_name <> {}", literal(INTERNAL_PREFIX));
    if let Some(catalog) = catalog {
        conditions += &format!(" AND database_name = {}", literal(catalog));
    }
    if let Some(pattern) = pattern {
        conditions += &format!(" AND schema_name {}", like(pattern));
    }
    conditions
}

/// The condition that a schema is nobody's own but its users'.
fn no_internal() -> String {
    let any_of = |names: [&str; 2]| names.map(literal).join(", ");
    format!(
        "database_name NOT IN ({}) AND schema_name NOT IN ({}) AND NOT (starts_with(schema_name, {}) AND database_name IN \
         (SELECT database_name FROM system.main.duckdb_databases() WHERE type = 'postgres'))",
        any_of(INTERNAL_CATALOGS),
        any_of(INTERNAL_SCHEMAS),
        literal(INTERNAL_IN_POSTGRES)
    )
}

/// A pattern as SQL. DuckDB refuses one that ends in its escape, which can only mean the character itself.
fn like(pattern: &str) -> String {
    let escapes = pattern.chars().rev().take_while(|character| *character == '\\').count();
    let end = if escapes % 2 == 1 { "\\" } else { "" };
    format!("LIKE {} ESCAPE '\\'", literal(&format!("{pattern}{end}")))
}

/// The rows of an answer: each batch with the number of a row in it.
pub(super) fn rows(batches: &[RecordBatch]) -> impl Iterator<Item = (&RecordBatch, usize)> {
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| (batch, row)))
}

fn relation(batch: &RecordBatch, row: usize) -> Relation {
    Relation {
        catalog: text(batch, 0, row),
        schema: text(batch, 1, row),
        name: text(batch, 2, row),
        kind: text(batch, 3, row),
        read_only: batch.column(4).as_boolean().value(row),
        columns: Arc::new(Schema::empty()),
        details: Vec::new(),
    }
}

/// The columns of one relation, as the catalog's lists give them.
struct Columns {
    names: Vec<String>,
    types: Vec<String>,
    nullable: Vec<bool>,
    comments: Vec<Option<String>>,
    sequences: Vec<bool>,
    precisions: Vec<Option<i32>>,
    scales: Vec<Option<i32>>,
}

impl Columns {
    fn of(batch: &RecordBatch, row: usize) -> Self {
        let list = |column: usize| batch.column(column).as_list::<i32>().value(row);
        let texts = |column: usize| -> Vec<Option<String>> {
            list(column).as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
        };
        let flags = |column: usize, missing: bool| -> Vec<bool> {
            list(column).as_boolean().iter().map(|flag| flag.unwrap_or(missing)).collect()
        };
        let numbers = |column: usize| -> Vec<Option<i32>> {
            let numbers = list(column);
            let numbers = numbers.as_primitive::<Int64Type>().iter();
            numbers.map(|number| number.and_then(|number| i32::try_from(number).ok())).collect()
        };
        Self {
            names: texts(5).into_iter().map(Option::unwrap_or_default).collect(),
            types: texts(6).into_iter().map(Option::unwrap_or_default).collect(),
            nullable: flags(7, true),
            comments: texts(8),
            sequences: flags(9, false),
            precisions: numbers(10),
            scales: numbers(11),
        }
    }

    fn schema(&self, types: &ColumnTypes) -> SchemaRef {
        let columns = self.names.iter().zip(&self.types).zip(&self.nullable);
        let fields = columns.map(|((name, sql_type), nullable)| types.field(name, sql_type, *nullable));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    fn details(self) -> Vec<ColumnDetail> {
        let numbers = self.precisions.into_iter().zip(self.scales);
        let columns = self.types.into_iter().zip(self.comments).zip(self.sequences).zip(numbers);
        columns
            .map(|(((sql_type, comment), auto_increment), (precision, scale))| {
                // Of other numbers the catalog gives the width in bits.
                let decimal = sql_type.starts_with("DECIMAL(");
                ColumnDetail {
                    comment,
                    auto_increment,
                    precision: precision.filter(|_| decimal),
                    scale: scale.filter(|_| decimal),
                    sql_type,
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_never_ends_in_a_single_escape() {
        assert_eq!(like(r"a\"), r"LIKE 'a\\' ESCAPE '\'");
        assert_eq!(like(r"a\\"), r"LIKE 'a\\' ESCAPE '\'");
        assert_eq!(like(r"it's\_"), r"LIKE 'it''s\_' ESCAPE '\'");
    }

    #[test]
    fn what_is_internal_has_to_be_named() {
        for (catalog, pattern) in [(None, None), (Some("db"), Some("%")), (None, Some("information%"))] {
            assert!(in_schemas(catalog, pattern).starts_with("database_name NOT IN"));
        }
        for (catalog, pattern) in [(Some("temp"), None), (None, Some(r"pg\_catalog"))] {
            assert!(in_schemas(catalog, pattern).starts_with("true"));
        }
    }
}
