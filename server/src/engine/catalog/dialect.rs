//! The SQL that this DuckDB speaks: its keywords and functions, extensions included, from its own lists.

use arrow_array::cast::AsArray;

use super::CatalogView;
use crate::engine::{Error, Result};

/// Words of the dialect, each list ordered.
#[derive(Debug, Clone)]
pub struct Dialect {
    /// Every keyword of the parser.
    pub keywords: Vec<String>,
    /// Scalar functions of numbers.
    pub numeric_functions: Vec<String>,
    /// Scalar functions of text.
    pub string_functions: Vec<String>,
    /// Scalar functions that tell of the server and the connection.
    pub system_functions: Vec<String>,
    /// Scalar functions of dates, times and intervals.
    pub datetime_functions: Vec<String>,
    /// Where NULL sorts.
    pub null_order: NullOrder,
}

/// Where NULL sorts, when the statement does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NullOrder {
    /// First, whatever the direction.
    First,
    /// Last, whatever the direction.
    Last,
    /// As smaller than every value.
    Low,
    /// As larger than every value.
    High,
}

/// Functions have few categories of their own, so the types tell: a numeric one maps numbers to a number, one
/// of dates and times has them among its arguments or as its result. Operators and functions of users are
/// left out.
const DIALECT: &str = "
    WITH functions AS (
        SELECT DISTINCT function_name AS name, categories, parameter_types AS types, return_type AS result,
               ['TINYINT', 'SMALLINT', 'INTEGER', 'BIGINT', 'HUGEINT', 'UTINYINT', 'USMALLINT', 'UINTEGER',
                'UBIGINT', 'UHUGEINT', 'FLOAT', 'DOUBLE', 'DECIMAL', 'BIGNUM', 'BOOLEAN'] AS numbers,
               ['DATE', 'TIME', 'TIME_NS', 'TIME WITH TIME ZONE', 'TIMESTAMP', 'TIMESTAMP_S', 'TIMESTAMP_MS',
                'TIMESTAMP_NS', 'TIMESTAMP WITH TIME ZONE', 'INTERVAL'] AS times
        FROM system.main.duckdb_functions()
        WHERE internal AND function_type IN ('scalar', 'macro') AND NOT starts_with(function_name, 'icu_collate_')
          AND regexp_full_match(function_name, '[a-z][a-z0-9_]*')
    )
    SELECT
        (SELECT list(DISTINCT keyword_name ORDER BY keyword_name) FROM system.main.duckdb_keywords()),
        (SELECT list(DISTINCT name ORDER BY name) FROM functions
         WHERE name IN ('pi', 'random') OR len(types) > 0 AND list_count(types) = len(types)
           AND list_has_all(numbers, types) AND list_contains(numbers, result)),
        (SELECT list(DISTINCT name ORDER BY name) FROM functions
         WHERE list_has_any(categories, ['string', 'regex', 'text_similarity'])),
        (SELECT list(DISTINCT name ORDER BY name) FROM functions
         WHERE name IN ('current_catalog', 'current_connection_id', 'current_database', 'current_query',
                        'current_query_id', 'current_role', 'current_schema', 'current_schemas',
                        'current_setting', 'current_transaction_id', 'current_user', 'in_search_path',
                        'session_user', 'txid_current', 'user', 'version')),
        (SELECT list(DISTINCT name ORDER BY name) FROM functions
         WHERE NOT list_has_any(categories, ['string', 'list', 'regex'])
           AND (name = 'current_date' OR list_has_any(times, types) OR list_contains(times, result))),
        system.main.current_setting('default_null_order')";

impl CatalogView {
    /// The dialect as it is now: an extension may have added to it.
    ///
    /// # Errors
    /// Whatever DuckDB says.
    pub async fn dialect(&self) -> Result<Dialect> {
        let batches = self.ask(DIALECT.to_owned()).await?;
        let batch = batches.first().ok_or_else(|| Error::Internal("the dialect has no row".into()))?;
        let words = |column: usize| -> Vec<String> {
            let words = batch.column(column).as_list::<i32>().value(0);
            words.as_string::<i32>().iter().flatten().map(str::to_owned).collect()
        };
        Ok(Dialect {
            keywords: words(0),
            numeric_functions: words(1),
            string_functions: words(2),
            system_functions: words(3),
            datetime_functions: words(4),
            null_order: NullOrder::of(batch.column(5).as_string::<i32>().value(0)),
        })
    }
}

impl NullOrder {
    fn of(setting: &str) -> Self {
        match setting.to_ascii_uppercase().as_str() {
            "NULLS_FIRST" => Self::First,
            "NULLS_FIRST_ON_ASC_LAST_ON_DESC" => Self::Low,
            "NULLS_LAST_ON_ASC_FIRST_ON_DESC" => Self::High,
            _ => Self::Last,
        }
    }
}
