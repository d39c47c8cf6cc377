//! FlightInfo and schemas: what a request will give, before it is fetched.
//!
//! A statement that is run for its effect runs here, exactly once: clients send DDL through
//! GetFlightInfo and never come back for the rows.

use std::sync::Arc;

use arrow_flight::{
    FlightDescriptor, FlightEndpoint, FlightInfo, SchemaAsIpc, SchemaResult, Ticket, sql::Command,
};
use arrow_ipc::writer::IpcWriteOptions;
use arrow_schema::Schema;
use prost::bytes::Bytes;
use tonic::{Response, Status};

use super::{
    Answers, Flight, Reply,
    asked::Asked,
    error::{engine_status, internal},
    metadata,
    prepared::ipc_schema,
    stream,
};
use crate::{
    engine::{Description, Outcome, Statement, TableRef},
    sql::quote,
};

impl Flight {
    /// GetFlightInfo.
    pub(super) async fn info(
        &self,
        asked: Asked,
        descriptor: FlightDescriptor,
    ) -> Result<FlightInfo, Status> {
        match asked {
            Asked::Table(table) => self.statement_info(Statement::new(select_all(&table)), descriptor).await,
            Asked::Sql(sql) => self.statement_info(Statement::new(sql), descriptor).await,
            Asked::Command(command) => match *command {
                Command::CommandStatementQuery(query) => {
                    super::update::check_transaction(query.transaction_id.as_ref())?;
                    self.statement_info(Statement::new(query.query), descriptor).await
                }
                Command::CommandPreparedStatementQuery(query) => {
                    let statement = self.prepared_statement(&query.prepared_statement_handle)?;
                    self.statement_info(statement, descriptor).await
                }
                command => {
                    let schema = metadata::schema(&command)?;
                    flight_info(&schema, descriptor.cmd.clone(), descriptor, -1)
                }
            },
        }
    }

    async fn statement_info(
        &self,
        statement: Statement,
        descriptor: FlightDescriptor,
    ) -> Result<FlightInfo, Status> {
        let described = self.engine.describe(&statement.sql).await.map_err(engine_status)?;
        if !described.kind.runs_at_once() {
            let schema = announced(&described, &statement);
            let fingerprint = if schema.fields().is_empty() { 0 } else { self.tickets.fingerprint(&schema) };
            let ticket = self.tickets.query(statement, fingerprint)?;
            return flight_info(&schema, ticket, descriptor, -1);
        }
        let mut entry = self.log.begin("write", &statement.sql);
        let outcome = self.engine.write(statement).await.inspect_err(|error| entry.failed(error));
        match outcome.map_err(engine_status)? {
            Outcome::Changed(rows) => {
                entry.rows(rows);
                let ticket = self.tickets.result(self.results.keep_empty());
                flight_info(&Schema::empty(), ticket, descriptor, i64::try_from(rows).unwrap_or(-1))
            }
            Outcome::Rows(rows) => {
                let schema = rows.schema();
                let handle = self.results.keep(rows).await.map_err(engine_status)?;
                flight_info(&schema, self.tickets.result(handle), descriptor, -1)
            }
        }
    }

    /// GetSchema: never runs anything.
    pub(super) async fn schema_result(&self, asked: Asked) -> Result<SchemaResult, Status> {
        let schema = match asked {
            Asked::Table(table) => self.engine.table_schema(&table).await.map_err(engine_status)?,
            Asked::Sql(sql) => self.engine.describe(&sql).await.map_err(engine_status)?.schema,
            Asked::Command(command) => match *command {
                Command::CommandStatementQuery(query) => {
                    self.engine.describe(&query.query).await.map_err(engine_status)?.schema
                }
                Command::CommandPreparedStatementQuery(query) => {
                    let statement = self.prepared_statement(&query.prepared_statement_handle)?;
                    self.engine.describe(&statement.sql).await.map_err(engine_status)?.schema
                }
                command => Arc::new(metadata::schema(&command)?),
            },
        };
        let options = IpcWriteOptions::default();
        SchemaAsIpc::new(&schema, &options).try_into().map_err(|error| internal(&error))
    }

    /// ListFlights: every table and view, with its schema, as a path.
    pub(super) async fn list_relations(&self) -> Reply<Answers<FlightInfo>> {
        let relations = self.engine.relations().await.map_err(engine_status)?;
        let infos = relations.iter().map(|relation| {
            let path = [&relation.catalog, &relation.schema, &relation.name].map(Clone::clone).to_vec();
            let sql = select_all(&TableRef::from_path(&path).map_err(engine_status)?);
            // The fingerprint stays 0: a list must not go stale because a column was added.
            let ticket = self.tickets.query(Statement::new(sql), 0)?;
            flight_info(&relation.columns, ticket, FlightDescriptor::new_path(path.clone()), -1)
        });
        Ok::<Response<_>, Status>(stream::many(infos.collect::<Result<Vec<_>, _>>()?))
    }
}

/// The columns as far as they are known before the statement runs. With parameters they may depend on the
/// values; an empty schema says so.
fn announced(described: &Description, statement: &Statement) -> Schema {
    if statement.parameters.is_some() || !described.parameters.fields().is_empty() {
        return Schema::empty();
    }
    described.schema.as_ref().clone()
}

fn select_all(table: &TableRef) -> String {
    let parts = [table.catalog.as_deref(), table.schema.as_deref(), Some(table.table.as_str())];
    let name: Vec<_> = parts.into_iter().flatten().map(quote).collect();
    format!("SELECT * FROM {}", name.join("."))
}

/// One endpoint without a location: the client stays on this connection. A schema without columns is sent
/// as no bytes at all, which drivers take for "not known yet"; with bytes they would insist on it.
fn flight_info(
    schema: &Schema,
    ticket: Bytes,
    descriptor: FlightDescriptor,
    records: i64,
) -> Result<FlightInfo, Status> {
    let schema = ipc_schema(schema)?;
    Ok(FlightInfo {
        schema,
        flight_descriptor: Some(descriptor),
        endpoint: vec![FlightEndpoint::new().with_ticket(Ticket::new(ticket))],
        total_records: records,
        total_bytes: -1,
        ordered: true,
        app_metadata: Bytes::new(),
    })
}
