//! What the server says of itself: exact schemas, SqlInfo, types.

use std::collections::{BTreeMap, HashSet};

use arrow_array::{Array, RecordBatch, cast::AsArray, types::UInt32Type};
use arrow_flight::sql::{
    CommandGetCatalogs, CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys,
    CommandGetImportedKeys, CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables,
    CommandGetXdbcTypeInfo, ProstMessageExt, SqlInfo,
};
use merganser_tests::{TestServer, integer, texts};
use prost::Message;

use super::{FlightDescriptor, Schema, ask, column, rows};

/// FlightSql.proto's notation of a schema.
fn notation(schema: &Schema) -> String {
    let fields = schema.fields().iter().map(|field| {
        let data_type = format!("{:?}", field.data_type()).to_lowercase();
        let data_type = match data_type.as_str() {
            list if list.starts_with("list") => "list<utf8>",
            union if union.starts_with("union") => "dense_union",
            "boolean" => "bool",
            "binary" => "bytes",
            other => other,
        };
        format!("{}: {data_type}{}", field.name(), if field.is_nullable() { "" } else { " not null" })
    });
    fields.collect::<Vec<_>>().join(", ")
}

const FOREIGN_KEYS: &str = "pk_catalog_name: utf8, pk_db_schema_name: utf8, pk_table_name: utf8 not null, \
     pk_column_name: utf8 not null, fk_catalog_name: utf8, fk_db_schema_name: utf8, fk_table_name: utf8 not null, \
     fk_column_name: utf8 not null, key_sequence: int32 not null, fk_key_name: utf8, pk_key_name: utf8, \
     update_rule: uint8 not null, delete_rule: uint8 not null";

#[tokio::test(flavor = "multi_thread")]
async fn every_command_has_exactly_the_schema_of_the_protocol() {
    async fn schema(server: &TestServer, command: impl ProstMessageExt) -> String {
        let mut flight = server.flight().await;
        ask(&mut flight, &command).await;
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        let result = flight.get_schema(descriptor).await.unwrap().into_inner();
        notation(&Schema::try_from(&result).unwrap())
    }
    let server = TestServer::start().await;
    let server = &server;
    let tables =
        "catalog_name: utf8, db_schema_name: utf8, table_name: utf8 not null, table_type: utf8 not null";
    assert_eq!(schema(server, CommandGetCatalogs {}).await, "catalog_name: utf8 not null");
    assert_eq!(
        schema(server, CommandGetDbSchemas::default()).await,
        "catalog_name: utf8, db_schema_name: utf8 not null"
    );
    assert_eq!(schema(server, CommandGetTables::default()).await, tables);
    assert_eq!(
        schema(server, CommandGetTables { include_schema: true, ..CommandGetTables::default() }).await,
        format!("{tables}, table_schema: bytes not null")
    );
    assert_eq!(schema(server, CommandGetTableTypes {}).await, "table_type: utf8 not null");
    assert_eq!(
        schema(server, CommandGetPrimaryKeys::default()).await,
        "catalog_name: utf8, db_schema_name: utf8, table_name: utf8 not null, column_name: utf8 not null, \
         key_name: utf8, key_sequence: int32 not null"
    );
    assert_eq!(schema(server, CommandGetExportedKeys::default()).await, FOREIGN_KEYS);
    assert_eq!(schema(server, CommandGetImportedKeys::default()).await, FOREIGN_KEYS);
    assert_eq!(schema(server, CommandGetCrossReference::default()).await, FOREIGN_KEYS);
    assert_eq!(
        schema(server, CommandGetSqlInfo::default()).await,
        "info_name: uint32 not null, value: dense_union not null"
    );
    assert_eq!(
        schema(server, CommandGetXdbcTypeInfo::default()).await,
        "type_name: utf8 not null, data_type: int32 not null, column_size: int32, literal_prefix: utf8, \
         literal_suffix: utf8, create_params: list<utf8>, nullable: int32 not null, case_sensitive: bool not null, \
         searchable: int32 not null, unsigned_attribute: bool, fixed_prec_scale: bool not null, \
         auto_increment: bool, local_type_name: utf8, minimum_scale: int32, maximum_scale: int32, \
         sql_data_type: int32 not null, datetime_subcode: int32, num_prec_radix: int32, interval_precision: int32"
    );
}

/// By id: the child of the union that the value is in, and the value as text.
fn infos(batches: &[RecordBatch]) -> BTreeMap<u32, (i8, String)> {
    let values = column(batches, 1);
    let ids = batches.iter().flat_map(|batch| {
        let union = batch.column(1).as_union();
        let ids = batch.column(0).as_primitive::<UInt32Type>();
        (0..union.len()).map(|row| (ids.value(row), union.type_id(row))).collect::<Vec<_>>()
    });
    ids.zip(values).map(|((id, child), value)| (id, (child, value))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_info_has_every_id_in_the_type_that_drivers_cast_to() {
    let server = TestServer::start().await;
    let mut flight = server.flight().await;
    let all = infos(&ask(&mut flight, &CommandGetSqlInfo::default()).await);
    let defined: Vec<u32> =
        (0..10_000).filter(|id| SqlInfo::try_from(*id).is_ok()).map(|id| id as u32).collect();
    assert_eq!(all.keys().copied().collect::<Vec<_>>(), defined);
    let (boolean, wide, narrow) = (1, 2, 3);
    for (id, (child, _)) in &all {
        let name = SqlInfo::try_from(*id as i32).unwrap().as_str_name();
        if name.starts_with("SQL_MAX_") && name != "SQL_MAX_ROW_SIZE_INCLUDES_BLOBS" {
            assert_eq!(*child, wide, "{name}");
        }
    }
    for (id, child, value) in [
        (SqlInfo::FlightSqlServerTransaction, narrow, "1"),
        (SqlInfo::SqlDefaultTransactionIsolation, wide, "3"),
        (SqlInfo::SqlSupportedTransactionsIsolationLevels, narrow, "8"),
        (SqlInfo::SqlDbSchemaNameLength, wide, "255"),
        (SqlInfo::SqlMaxStatementLength, wide, "1048576"),
        (SqlInfo::SqlNullOrdering, narrow, "3"),
        (SqlInfo::SqlSupportedSubqueries, narrow, "15"),
        (SqlInfo::SqlSavepointsSupported, boolean, "false"),
        (SqlInfo::FlightSqlServerReadOnly, boolean, "false"),
        (SqlInfo::SqlDdlTable, boolean, "true"),
    ] {
        let (its_child, its_value) = &all[&(id as u32)];
        assert_eq!(*its_child, child, "{}", id.as_str_name());
        assert!(its_value.contains(&format!("={value}}}")), "{} is {its_value}", id.as_str_name());
    }
    let some = CommandGetSqlInfo { info: vec![504, 0, 9_999, 12_345, 508] };
    assert_eq!(infos(&ask(&mut flight, &some).await).into_keys().collect::<Vec<_>>(), [0, 504, 508]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_server_says_so() {
    let file = TestServer::start().await.shutdown().await;
    let server = TestServer::open(file, |config| config.engine.read_only = true).await;
    let command = CommandGetSqlInfo { info: vec![3, 10, 501, 502] };
    let all = infos(&ask(&mut server.flight().await, &command).await);
    let values: Vec<_> = all.values().map(|(_, value)| value.contains("true")).collect();
    assert_eq!(values, [true, false, false, false]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_of_duckdb_has_its_type_info() {
    let server = TestServer::start().await;
    let (client, mut flight) = (server.client().await, server.flight().await);
    let all = ask(&mut flight, &CommandGetXdbcTypeInfo::default()).await;
    let names: HashSet<_> = column(&all, 0).into_iter().collect();
    // Of NULL and of types there are values, but no columns that a client could meet.
    let sql = "SELECT DISTINCT logical_type FROM duckdb_types() \
               WHERE database_name = 'system' AND logical_type NOT IN ('NULL', 'TYPE')";
    let types: HashSet<_> = texts(&client, sql).await.unwrap().into_iter().collect();
    let missing: Vec<_> = types.difference(&names).collect();
    assert!(missing.is_empty(), "{missing:?}");

    let order: Vec<_> =
        rows(&all).iter().map(|row| (row[1].parse::<i32>().unwrap(), row[0].clone())).collect();
    assert!(order.is_sorted(), "{order:?}");
    for row in rows(&all) {
        let wanted: i32 = row[1].parse().unwrap();
        let some = ask(&mut flight, &CommandGetXdbcTypeInfo { data_type: Some(wanted) }).await;
        assert!(column(&some, 0).contains(&row[0]));
        assert!(column(&some, 1).iter().all(|data_type| *data_type == row[1]));
    }
    assert!(rows(&ask(&mut flight, &CommandGetXdbcTypeInfo { data_type: Some(77) }).await).is_empty());
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_literals_of_the_types_are_values_of_them() {
    let server = TestServer::start().await;
    let (client, mut flight) = (server.client().await, server.flight().await);
    let samples = |name: &str| match name {
        "DATE" => "2026-01-31",
        "INTERVAL" => "3 days",
        "UUID" => "7e9b0b8e-1f0a-4a55-8d1c-1d1b2b3c4d5e",
        "GEOMETRY" => "POINT(1 2)",
        "TIME" | "TIME_NS" => "01:02:03",
        "TIME WITH TIME ZONE" => "01:02:03+02",
        timestamp if timestamp.starts_with("TIMESTAMP") => "2026-01-31 01:02:03",
        _ => "1",
    };
    for row in rows(&ask(&mut flight, &CommandGetXdbcTypeInfo::default()).await) {
        let (name, prefix, suffix) = (row[0].as_str(), &row[3], &row[4]);
        if prefix == "NULL" {
            continue;
        }
        let literal = format!("{prefix}{}{suffix}", samples(name));
        let name = if ["JSON", "ENUM"].contains(&name) { "VARCHAR" } else { name };
        let same = format!("SELECT (typeof({literal}) = '{name}')::BIGINT");
        assert_eq!(integer(&client, &same).await, 1, "{literal}");
    }
    server.shutdown().await;
}
