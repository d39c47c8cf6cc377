//! GetSqlInfo: what this server is and can do. Every id below 10,000 has a value, because ODBC drivers ask
//! for all and fail on gaps; none has one above, because JDBC drivers fail on ids that they do not know. An
//! id without a value is left out of the answer, so that newer clients can ask.
//!
//! Limits and the default isolation are 64 bits wide, which JDBC insists on; 0 means no limit.

use std::{collections::BTreeMap, sync::Arc};

use arrow_array::RecordBatch;
use arrow_flight::{
    error::FlightError,
    sql::{
        CommandGetSqlInfo,
        SqlInfo::{self, *},
        SqlNullOrdering, SqlOuterJoinsSupportLevel, SqlSupportedCaseSensitivity, SqlSupportedElementActions,
        SqlSupportedGroupBy, SqlSupportedResultSetConcurrency, SqlSupportedResultSetType,
        SqlSupportedSubqueries, SqlSupportedTransaction, SqlSupportedUnions, SqlSupportsConvert,
        SqlTransactionIsolationLevel, SupportedSqlGrammar,
        metadata::{SqlInfoData, SqlInfoDataBuilder},
    },
};
use arrow_schema::SchemaRef;
use tonic::Status;

use crate::{
    engine::{CatalogView, Dialect, MAX_NAME_BYTES, NullOrder},
    flight::error::{engine_status, internal},
    session::PREPARED_IDLE,
    sql::MAX_SQL_BYTES,
};

/// The version of the Arrow library, which the protocol asks for.
const ARROW_VERSION: &str = "58";

/// `SupportedAnsi92SqlGrammarLevel::Ansi92EntrySql`, which the Arrow library does not export.
const ANSI92_ENTRY: i32 = 0;

/// The ids whose values stand in the database.
const OF_DIALECT: [SqlInfo; 6] = [
    SqlNullOrdering,
    SqlKeywords,
    SqlNumericFunctions,
    SqlStringFunctions,
    SqlSystemFunctions,
    SqlDatetimeFunctions,
];

/// The schema of the answer.
pub(super) fn schema() -> SchemaRef {
    Arc::new(SqlInfoDataBuilder::schema().clone())
}

/// The values that were asked for; all of them when none are named.
pub(super) async fn answer(view: &CatalogView, command: CommandGetSqlInfo) -> Result<RecordBatch, Status> {
    let asked = |info: &SqlInfo| command.info.contains(&(*info as u32));
    // Drivers ask for one value at each connect; that is no reason to read the lists.
    let dialect = if command.info.is_empty() || OF_DIALECT.iter().any(asked) {
        Some(view.dialect().await.map_err(engine_status)?)
    } else {
        None
    };
    let engine = view.engine();
    let data = values(engine.read_only(), &engine.duckdb_version(), dialect);
    let answered = data.and_then(|data| command.into_builder(&data).build());
    answered.map_err(|error: FlightError| internal(&error))
}

fn values(read_only: bool, duckdb: &str, dialect: Option<Dialect>) -> Result<SqlInfoData, FlightError> {
    let mut info = SqlInfoDataBuilder::new();
    server(&mut info, read_only, duckdb);
    identifiers(&mut info, read_only);
    queries(&mut info);
    limits(&mut info);
    transactions(&mut info);
    results(&mut info);
    if let Some(dialect) = dialect {
        words(&mut info, dialect);
    }
    info.build()
}

fn server(info: &mut SqlInfoDataBuilder, read_only: bool, duckdb: &str) {
    info.append(FlightSqlServerName, "Merganser");
    // Tools that know DuckDB recognise it by how this begins.
    let version = format!("duckdb {duckdb} (merganser {})", env!("CARGO_PKG_VERSION"));
    info.append(FlightSqlServerVersion, version.as_str());
    info.append(FlightSqlServerArrowVersion, ARROW_VERSION);
    info.append(FlightSqlServerReadOnly, read_only);
    info.append(FlightSqlServerSql, true);
    info.append(FlightSqlServerSubstrait, false);
    // The protocol says null here, for which the answer has no place.
    info.append(FlightSqlServerSubstraitMinVersion, "");
    info.append(FlightSqlServerSubstraitMaxVersion, "");
    // An int32, or ADBC cannot read it.
    info.append(FlightSqlServerTransaction, SqlSupportedTransaction::Transaction as i32);
    info.append(FlightSqlServerCancel, true);
    info.append(FlightSqlServerBulkIngestion, !read_only);
    info.append(FlightSqlServerIngestTransactionsSupported, !read_only);
    info.append(
        FlightSqlServerStatementTimeout,
        i32::try_from(PREPARED_IDLE.as_millis()).unwrap_or(i32::MAX),
    );
    info.append(FlightSqlServerTransactionTimeout, 0_i32);
}

/// Names, and what can be created.
fn identifiers(info: &mut SqlInfoDataBuilder, read_only: bool) {
    let insensitive = SqlSupportedCaseSensitivity::SqlCaseSensitivityCaseInsensitive as i32;
    let in_indexes = bits([SqlSupportedElementActions::SqlElementInIndexDefinitions as i32]);
    // A catalog is attached and detached, not created and dropped.
    info.append(SqlDdlCatalog, false);
    info.append(SqlDdlSchema, !read_only);
    info.append(SqlDdlTable, !read_only);
    // Names keep the case that they were created with, and are found in any, in quotes or not.
    info.append(SqlIdentifierCase, insensitive);
    info.append(SqlIdentifierQuoteChar, "\"");
    info.append(SqlQuotedIdentifierCase, insensitive);
    info.append(SqlAllTablesAreSelectable, true);
    info.append(SqlSearchStringEscape, "\\");
    info.append(SqlExtraNameCharacters, "$");
    info.append(SqlSchemaTerm, "schema");
    // There are none.
    info.append(SqlProcedureTerm, "");
    info.append(SqlCatalogTerm, "catalog");
    info.append(SqlCatalogAtStart, true);
    info.append(SqlSchemasSupportedActions, in_indexes);
    info.append(SqlCatalogsSupportedActions, in_indexes);
}

/// What a statement may say.
fn queries(info: &mut SqlInfoDataBuilder) {
    info.append(SqlSupportsColumnAliasing, true);
    info.append(SqlNullPlusNullIsNull, true);
    info.append(SqlSupportsConvert, conversions());
    info.append(SqlSupportsTableCorrelationNames, true);
    // An alias may be the table's own name.
    info.append(SqlSupportsDifferentTableCorrelationNames, false);
    info.append(SqlSupportsExpressionsInOrderBy, true);
    info.append(SqlSupportsOrderByUnrelated, true);
    info.append(
        SqlSupportedGroupBy,
        bits([
            SqlSupportedGroupBy::SqlGroupByUnrelated as i32,
            SqlSupportedGroupBy::SqlGroupByBeyondSelect as i32,
        ]),
    );
    info.append(SqlSupportsLikeEscapeClause, true);
    info.append(SqlSupportsNonNullableColumns, true);
    info.append(
        SqlSupportedGrammar,
        bits([SupportedSqlGrammar::SqlMinimumGrammar as i32, SupportedSqlGrammar::SqlCoreGrammar as i32]),
    );
    info.append(SqlAnsi92SupportedLevel, bits([ANSI92_ENTRY]));
    // Primary and foreign keys, UNIQUE, CHECK, DEFAULT.
    info.append(SqlSupportsIntegrityEnhancementFacility, true);
    info.append(SqlOuterJoinsSupportLevel, SqlOuterJoinsSupportLevel::SqlFullOuterJoins as i32);
    info.append(SqlSupportedPositionedCommands, bits([]));
    info.append(SqlSelectForUpdateSupported, false);
    info.append(SqlStoredProceduresSupported, false);
    info.append(
        SqlSupportedSubqueries,
        bits([
            SqlSupportedSubqueries::SqlSubqueriesInComparisons as i32,
            SqlSupportedSubqueries::SqlSubqueriesInExists as i32,
            SqlSupportedSubqueries::SqlSubqueriesInIns as i32,
            SqlSupportedSubqueries::SqlSubqueriesInQuantifieds as i32,
        ]),
    );
    info.append(SqlCorrelatedSubqueriesSupported, true);
    info.append(
        SqlSupportedUnions,
        bits([SqlSupportedUnions::SqlUnion as i32, SqlSupportedUnions::SqlUnionAll as i32]),
    );
    info.append(SqlNamedParametersSupported, false);
    info.append(SqlStoredFunctionsUsingCallSyntaxSupported, false);
}

fn limits(info: &mut SqlInfoDataBuilder) {
    for unlimited in [
        SqlMaxBinaryLiteralLength,
        SqlMaxCharLiteralLength,
        SqlMaxColumnNameLength,
        SqlMaxColumnsInGroupBy,
        SqlMaxColumnsInIndex,
        SqlMaxColumnsInOrderBy,
        SqlMaxColumnsInSelect,
        SqlMaxColumnsInTable,
        SqlMaxConnections,
        SqlMaxCursorNameLength,
        SqlMaxIndexLength,
        SqlMaxProcedureNameLength,
        SqlMaxRowSize,
        SqlMaxStatements,
        SqlMaxTablesInSelect,
        SqlMaxUsernameLength,
    ] {
        info.append(unlimited, 0_i64);
    }
    for name in [SqlDbSchemaNameLength, SqlMaxCatalogNameLength, SqlMaxTableNameLength] {
        info.append(name, MAX_NAME_BYTES as i64);
    }
    info.append(SqlMaxStatementLength, MAX_SQL_BYTES as i64);
    info.append(SqlMaxRowSizeIncludesBlobs, true);
}

/// DuckDB gives every transaction one snapshot and refuses to commit over another's change of the same rows.
/// That is more than REPEATABLE READ asks for, and less than SERIALIZABLE: two transactions may each read what
/// the other changes.
fn transactions(info: &mut SqlInfoDataBuilder) {
    let level = SqlTransactionIsolationLevel::SqlTransactionRepeatableRead as i32;
    info.append(SqlDefaultTransactionIsolation, i64::from(level));
    info.append(SqlTransactionsSupported, true);
    info.append(SqlSupportedTransactionsIsolationLevels, bits([level]));
    info.append(SqlDataDefinitionCausesTransactionCommit, false);
    info.append(SqlDataDefinitionsInTransactionsIgnored, false);
    info.append(SqlSavepointsSupported, false);
}

/// Results are streams: forward, and nobody writes through them.
fn results(info: &mut SqlInfoDataBuilder) {
    let read_only = SqlSupportedResultSetConcurrency::SqlResultSetConcurrencyReadOnly as i32;
    let forward_only = SqlSupportedResultSetType::SqlResultSetTypeForwardOnly as i32;
    info.append(SqlSupportedResultSetTypes, bits([forward_only]));
    info.append(SqlSupportedConcurrenciesForResultSetUnspecified, bits([]));
    info.append(SqlSupportedConcurrenciesForResultSetForwardOnly, bits([read_only]));
    info.append(SqlSupportedConcurrenciesForResultSetScrollSensitive, bits([]));
    info.append(SqlSupportedConcurrenciesForResultSetScrollInsensitive, bits([]));
    info.append(SqlBatchUpdatesSupported, true);
    // There are no locators.
    info.append(SqlLocatorsUpdateCopy, false);
}

fn words(info: &mut SqlInfoDataBuilder, dialect: Dialect) {
    let null_order = match dialect.null_order {
        NullOrder::First => SqlNullOrdering::SqlNullsSortedAtStart,
        NullOrder::Last => SqlNullOrdering::SqlNullsSortedAtEnd,
        NullOrder::Low => SqlNullOrdering::SqlNullsSortedLow,
        NullOrder::High => SqlNullOrdering::SqlNullsSortedHigh,
    };
    info.append(SqlNullOrdering, null_order as i32);
    info.append(SqlKeywords, dialect.keywords);
    info.append(SqlNumericFunctions, dialect.numeric_functions);
    info.append(SqlStringFunctions, dialect.string_functions);
    info.append(SqlSystemFunctions, dialect.system_functions);
    info.append(SqlDatetimeFunctions, dialect.datetime_functions);
}

/// A bit mask as the protocol makes them: value 1 is the second bit.
fn bits<const N: usize>(values: [i32; N]) -> i32 {
    values.into_iter().fold(0, |mask, value| mask | 1 << value)
}

/// What CAST takes to what.
fn conversions() -> BTreeMap<i32, Vec<i32>> {
    use SqlSupportsConvert::*;
    let numbers = [
        SqlConvertBigint,
        SqlConvertBit,
        SqlConvertDecimal,
        SqlConvertFloat,
        SqlConvertInteger,
        SqlConvertNumeric,
        SqlConvertReal,
        SqlConvertSmallint,
        SqlConvertTinyint,
    ];
    let texts = [SqlConvertChar, SqlConvertLongvarchar, SqlConvertVarchar];
    let bytes = [SqlConvertBinary, SqlConvertLongvarbinary, SqlConvertVarbinary];
    let intervals = [SqlConvertIntervalDayTime, SqlConvertIntervalYearMonth];
    let times = [SqlConvertDate, SqlConvertTime, SqlConvertTimestamp];
    let everything = [&numbers[..], &texts, &bytes, &intervals, &times].concat();
    let kinds: [(&[SqlSupportsConvert], Vec<SqlSupportsConvert>); 7] = [
        (&numbers, numbers.to_vec()),
        (&texts, everything),
        (&bytes, bytes.to_vec()),
        (&intervals, intervals.to_vec()),
        (&[SqlConvertDate], vec![SqlConvertDate, SqlConvertTimestamp]),
        (&[SqlConvertTime], vec![SqlConvertTime]),
        (&[SqlConvertTimestamp], times.to_vec()),
    ];
    let mut conversions = BTreeMap::new();
    for (from, to) in kinds {
        // Everything has a text.
        let mut to: Vec<_> = to.into_iter().chain(texts).map(|to| to as i32).collect();
        to.sort_unstable();
        to.dedup();
        conversions.extend(from.iter().map(|from| (*from as i32, to.clone())));
    }
    conversions
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{cast::AsArray, types::UInt32Type};

    #[test]
    fn there_are_no_gaps_and_nothing_above() {
        let dialect = Dialect {
            keywords: Vec::new(),
            numeric_functions: Vec::new(),
            string_functions: Vec::new(),
            system_functions: Vec::new(),
            datetime_functions: Vec::new(),
            null_order: NullOrder::Last,
        };
        let data = values(false, "v1.5.5", Some(dialect)).unwrap().record_batch([]).unwrap();
        let ids = data.column(0).as_primitive::<UInt32Type>().values().to_vec();
        let defined = (0..10_000).filter(|id| SqlInfo::try_from(*id).is_ok());
        assert_eq!(ids, defined.map(|id| id as u32).collect::<Vec<_>>());
        assert_eq!(*data.schema(), *schema());
    }
}
