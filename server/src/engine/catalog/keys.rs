//! Primary and foreign keys, from DuckDB's list of constraints.

use arrow_array::RecordBatch;

use super::CatalogView;
use crate::{engine::Result, sql::literal};

/// A table by exact names; what is missing is not compared.
#[derive(Debug, Clone, Default)]
pub struct TableFilter {
    /// The catalog.
    pub catalog: Option<String>,
    /// The schema.
    pub schema: Option<String>,
    /// The table.
    pub table: String,
}

/// Foreign keys by the tables at their ends.
#[derive(Debug, Clone, Default)]
pub struct ForeignKeyFilter {
    /// The table that is referred to.
    pub primary: Option<TableFilter>,
    /// The table that refers to it.
    pub foreign: Option<TableFilter>,
}

/// By which end foreign keys are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignKeyOrder {
    /// The table that is referred to.
    Primary,
    /// The table that refers to it.
    Foreign,
}

impl CatalogView {
    /// The columns of a table's primary key: catalog, schema, table, column, key, and the column's place in
    /// the key from 1; ordered.
    ///
    /// # Errors
    /// Whatever DuckDB says.
    pub async fn primary_keys(&self, table: &TableFilter) -> Result<Vec<RecordBatch>> {
        let condition = table.condition(["database_name", "schema_name", "table_name"]);
        let sql = format!(
            "SELECT database_name, schema_name, table_name, unnest(constraint_column_names),
                    constraint_name, generate_subscripts(constraint_column_names, 1)::INTEGER
             FROM system.main.duckdb_constraints() WHERE constraint_type = 'PRIMARY KEY' AND {condition} ORDER BY 1, 2, 3, 5, 6"
        );
        self.ask_lists(table.catalog.as_deref(), sql).await
    }

    /// The columns of foreign keys: catalog, schema, table and column of the key that is referred to, then of
    /// the one that refers; the column's place in the key from 1; the name of the foreign key, then of the
    /// other; ordered.
    ///
    /// # Errors
    /// Whatever DuckDB says.
    pub async fn foreign_keys(
        &self,
        filter: &ForeignKeyFilter,
        order: ForeignKeyOrder,
    ) -> Result<Vec<RecordBatch>> {
        let ends = [
            (&filter.primary, ["pk_catalog", "pk_schema", "pk_table"]),
            (&filter.foreign, ["fk_catalog", "fk_schema", "fk_table"]),
        ];
        let mut conditions: Vec<_> =
            ends.iter().filter_map(|(end, names)| Some(end.as_ref()?.condition(*names))).collect();
        conditions.push("true".to_owned());
        let order = match order {
            ForeignKeyOrder::Primary => "pk_catalog, pk_schema, pk_table, pk_name, position, fk_name",
            ForeignKeyOrder::Foreign => "fk_catalog, fk_schema, fk_table, fk_name, position",
        };
        // Both ends are in one catalog.
        let catalog = ends.iter().find_map(|(end, _)| end.as_ref()?.catalog.as_deref());
        let sql =
            format!("{FOREIGN_KEYS} SELECT * FROM keys WHERE {} ORDER BY {order}", conditions.join(" AND "));
        self.ask_lists(catalog, sql).await
    }
}

impl TableFilter {
    fn condition(&self, [catalog, schema, table]: [&str; 3]) -> String {
        let mut condition = format!("{table} = {}", literal(&self.table));
        for (name, value) in [(catalog, &self.catalog), (schema, &self.schema)] {
            if let Some(value) = value {
                condition += &format!(" AND {name} = {}", literal(value));
            }
        }
        condition
    }
}

/// A column of a foreign key a row. The list has the names of the table and the columns that are referred
/// to as the statement spelled them, so they are looked up in the key that they mean, without regard to
/// case. Foreign keys do not leave their schema. Where a primary key and a UNIQUE constraint have the same
/// columns, the primary key is taken.
const FOREIGN_KEYS: &str = "
    WITH constraints AS MATERIALIZED (
        SELECT *, list_transform(constraint_column_names, lambda name: lower(name)) AS folded
        FROM system.main.duckdb_constraints() WHERE constraint_type IN ('PRIMARY KEY', 'UNIQUE', 'FOREIGN KEY')
    ), matched AS (
        SELECT f.*, p.table_name AS pk_table, p.constraint_column_names AS pk_columns, p.constraint_name AS pk_name
        FROM constraints f JOIN constraints p
          ON p.constraint_type <> 'FOREIGN KEY'
         AND p.database_name = f.database_name AND p.schema_name = f.schema_name
         AND lower(p.table_name) = lower(f.referenced_table)
         AND p.folded = list_transform(f.referenced_column_names, lambda name: lower(name))
        WHERE f.constraint_type = 'FOREIGN KEY'
        QUALIFY row_number() OVER (PARTITION BY f.constraint_index ORDER BY p.constraint_type) = 1
    ), keys AS (
        SELECT database_name AS pk_catalog, schema_name AS pk_schema, pk_table, unnest(pk_columns) AS pk_column,
               database_name AS fk_catalog, schema_name AS fk_schema, table_name AS fk_table,
               unnest(constraint_column_names) AS fk_column,
               generate_subscripts(constraint_column_names, 1)::INTEGER AS position,
               constraint_name AS fk_name, pk_name
        FROM matched
    )";
