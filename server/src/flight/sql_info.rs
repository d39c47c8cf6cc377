//! GetSqlInfo: what this server is and can do. Only true values stand here.

use arrow_array::RecordBatch;
use arrow_flight::sql::{
    CommandGetSqlInfo, SqlInfo,
    metadata::{SqlInfoData, SqlInfoDataBuilder},
};
use arrow_schema::SchemaRef;
use std::sync::Arc;
use tonic::Status;

use super::error::internal;

/// The version of the Arrow library, which the protocol asks for.
const ARROW_VERSION: &str = "58";

/// The schema of the answer.
pub(super) fn schema() -> SchemaRef {
    Arc::new(SqlInfoDataBuilder::schema().clone())
}

/// The values that were asked for; all of them when none are named.
pub(super) fn answer(
    command: CommandGetSqlInfo,
    read_only: bool,
    duckdb: &str,
) -> Result<RecordBatch, Status> {
    let data = values(read_only, duckdb).map_err(|error| internal(&error))?;
    command.into_builder(&data).build().map_err(|error| internal(&error))
}

fn values(read_only: bool, duckdb: &str) -> arrow_flight::error::Result<SqlInfoData> {
    let mut info = SqlInfoDataBuilder::new();
    info.append(SqlInfo::FlightSqlServerName, "Merganser");
    info.append(
        SqlInfo::FlightSqlServerVersion,
        // Tools that know DuckDB recognise it by how this begins.
        format!("duckdb {duckdb} (merganser {})", env!("CARGO_PKG_VERSION")).as_str(),
    );
    info.append(SqlInfo::FlightSqlServerArrowVersion, ARROW_VERSION);
    info.append(SqlInfo::FlightSqlServerReadOnly, read_only);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    // An int32, or ADBC cannot read it: transactions by handle.
    info.append(SqlInfo::FlightSqlServerTransaction, 1_i32);
    info.append(SqlInfo::FlightSqlServerCancel, true);
    info.append(SqlInfo::FlightSqlServerBulkIngestion, true);
    info.append(SqlInfo::FlightSqlServerIngestTransactionsSupported, true);
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    info.append(SqlInfo::SqlDdlCatalog, true);
    info.append(SqlInfo::SqlDdlSchema, true);
    info.append(SqlInfo::SqlDdlTable, true);
    info.build()
}
