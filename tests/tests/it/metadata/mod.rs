//! Flight SQL's catalog commands: exact schemas, and what DuckDB's catalog says, whatever the names.

mod keys;
mod server;
mod tables;

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_flight::{
    FlightDescriptor, IpcMessage,
    decode::FlightRecordBatchStream,
    error::FlightError,
    flight_service_client::FlightServiceClient,
    sql::{CommandGetTables, ProstMessageExt},
};
use arrow_schema::Schema;
use futures::TryStreamExt;
use merganser_tests::{TestServer, soon};
use prost::Message;
use tonic::transport::Channel;

/// A command's answer. What GetFlightInfo and GetSchema announce must be its schema.
async fn ask(flight: &mut FlightServiceClient<Channel>, command: &impl ProstMessageExt) -> Vec<RecordBatch> {
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let info = soon("its info", flight.get_flight_info(descriptor.clone())).await.unwrap().into_inner();
    let result = soon("its schema", flight.get_schema(descriptor)).await.unwrap().into_inner();
    let schema = Schema::try_from(&result).unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    assert_eq!(info.try_decode_schema().unwrap(), schema);
    let data = soon("its rows", flight.do_get(ticket)).await.unwrap().into_inner();
    let mut stream = FlightRecordBatchStream::new_from_flight_data(data.map_err(FlightError::from));
    let mut batches = Vec::new();
    while let Some(batch) = soon("the next rows", stream.try_next()).await.unwrap() {
        batches.push(batch);
    }
    assert_eq!(**stream.schema().unwrap(), schema);
    batches
}

/// Rows as text; NULL is `NULL`.
fn rows(batches: &[RecordBatch]) -> Vec<Vec<String>> {
    let options = FormatOptions::new().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap())
            .collect();
        rows.extend(
            (0..batch.num_rows())
                .map(|row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>()),
        );
    }
    rows
}

/// One column of the rows.
fn column(batches: &[RecordBatch], index: usize) -> Vec<String> {
    rows(batches).into_iter().map(|mut row| row.swap_remove(index)).collect()
}

/// The schemas of the tables that an answer to GetTables holds.
fn table_schemas(batches: &[RecordBatch]) -> Vec<Arc<Schema>> {
    use arrow_array::cast::AsArray;
    let schemas = batches.iter().flat_map(|batch| batch.column(4).as_binary::<i32>().iter().flatten());
    schemas.map(|bytes| Arc::new(Schema::try_from(IpcMessage(bytes.to_vec().into())).unwrap())).collect()
}

/// GetTables for a pattern of names, with schemas.
fn tables_like(pattern: &str) -> CommandGetTables {
    CommandGetTables {
        table_name_filter_pattern: Some(pattern.to_owned()),
        include_schema: true,
        ..CommandGetTables::default()
    }
}

/// A server on which these statements have run.
async fn server_with(sql: &str) -> TestServer {
    let server = TestServer::start().await;
    server.client().await.execute(sql).await.unwrap();
    server
}
