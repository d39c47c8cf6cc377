//! FlightInfo and schemas: what a request will give, before it is fetched.
//!
//! A statement that is run for its effect runs here, exactly once: clients send DDL through
//! GetFlightInfo and never come back for the rows.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use arrow_array::RecordBatch;
use arrow_flight::{
    FlightDescriptor, FlightEndpoint, FlightInfo, SchemaAsIpc, SchemaResult, Ticket, sql::Command,
};
use arrow_ipc::writer::IpcWriteOptions;
use arrow_schema::{Schema, SchemaRef};
use prost::bytes::Bytes;
use tonic::{Response, Status};

use super::{
    Answers, Flight, Reply,
    asked::{Asked, Call, Query},
    error::{bad_request, engine_status, internal, session_status},
    metadata, stream,
    ticket::LIFETIME,
};
use crate::{
    engine::{Description, Error, Execution, Outcome, QUERIES, QueryCard, Statement, TableRef, counted},
    session::{RESULT_IDLE, Session, SessionError},
    sql::{has_returning, mentions, quote},
};

/// What GetFlightInfo has to do.
pub(super) enum Planned {
    /// Nothing more.
    Info(FlightInfo),
    /// Run this statement.
    RunsAtOnce(Query),
}

impl Flight {
    /// GetFlightInfo.
    pub(super) async fn info(
        &self,
        session: &Session,
        asked: Asked,
        descriptor: FlightDescriptor,
    ) -> Result<FlightInfo, Status> {
        match self.plan(session, asked, &descriptor).await? {
            Planned::Info(info) => Ok(info),
            Planned::RunsAtOnce(query) => {
                self.run_at_once(session, query, descriptor, &Execution::default()).await
            }
        }
    }

    /// Looks at what is asked, and runs nothing.
    pub(super) async fn plan(
        &self,
        session: &Session,
        asked: Asked,
        descriptor: &FlightDescriptor,
    ) -> Result<Planned, Status> {
        let query = match asked {
            Asked::Table(table) => Query::new(Statement::new(select_all(&table))),
            Asked::Sql(sql) => Query::new(Statement::new(sql)),
            Asked::Query(call) => return self.plan_call(session, call, descriptor).await.map(Planned::Info),
            Asked::Command(command) => match *command {
                Command::CommandStatementQuery(query) => Query {
                    transaction: query.transaction_id.unwrap_or_default().to_vec(),
                    ..Query::new(Statement::new(query.query))
                },
                Command::CommandPreparedStatementQuery(query) => {
                    self.prepared_query(session, &query.prepared_statement_handle)?
                }
                command => {
                    let schema = metadata::schema(&command)?;
                    let ticket = descriptor.cmd.clone();
                    return flight_info(Some(&schema), ticket, descriptor.clone(), -1).map(Planned::Info);
                }
            },
        };
        let sql = &query.statement.sql;
        let described = self.log.plan(session, sql, session.describe(&query.transaction, sql)).await;
        let described = described.map_err(session_status)?;
        if described.kind.runs_at_once() {
            return Ok(Planned::RunsAtOnce(query));
        }
        let schema = announced(&described, &query.statement);
        let fingerprint = schema.as_deref().map_or(0, |schema| self.tickets.fingerprint(schema));
        // What is fetched later is what was planned just now, whatever USE does meanwhile.
        let names = Some(session.names_in(&query.transaction));
        let statement = Statement { names, ..query.statement };
        let ticket = self.tickets.query(Query { statement, schema: fingerprint, ..query }, session.id())?;
        flight_info(schema.as_deref(), ticket, descriptor.clone(), -1).map(Planned::Info)
    }

    /// What a descriptor asks for.
    pub(super) fn asked(&self, descriptor: &FlightDescriptor) -> Result<Asked, Status> {
        if self.engine.queries().is_empty() { Asked::of(descriptor) } else { Asked::with_queries(descriptor) }
    }

    /// A named query was planned when the server started: its columns are known.
    async fn plan_call(
        &self,
        session: &Session,
        call: Call,
        descriptor: &FlightDescriptor,
    ) -> Result<FlightInfo, Status> {
        let card = self.engine.query(&call.name).map_err(engine_status)?;
        if card.input.is_some() {
            return Err(bad_request(
                "ROWS_WANTED",
                "this query answers from rows that are sent with it; call it by DoExchange",
            ));
        }
        let (statement, count) = call.statements(&self.engine, card).await.map_err(engine_status)?;
        let total = match count {
            Some(count) => self.count(session, count).await.map_err(session_status)?,
            None => -1,
        };
        let statement = Statement { names: Some(session.names_in(&[])), ..statement };
        let query = Query { schema: self.tickets.fingerprint(&card.schema), ..Query::new(statement) };
        let ticket = self.tickets.query(query, session.id())?;
        flight_info(Some(&card.schema), ticket, descriptor.clone(), total)
    }

    /// Runs a statement that counts.
    async fn count(&self, session: &Session, statement: Statement) -> Result<i64, SessionError> {
        let mut entry = self.log.begin(session, "read", &statement.sql);
        let counting = async {
            match session.run(&[], statement).await? {
                Outcome::Rows(rows) => Ok::<_, SessionError>(counted(rows).await?),
                Outcome::Changed(_) => Err(Error::Refused("a count reads, and nothing else".into()).into()),
            }
        };
        let total = entry.run(counting).await?;
        entry.done();
        Ok(total)
    }

    /// Runs a statement for its effect.
    pub(super) async fn run_at_once(
        &self,
        session: &Session,
        query: Query,
        descriptor: FlightDescriptor,
        execution: &Execution,
    ) -> Result<FlightInfo, Status> {
        // What EXECUTE runs stands elsewhere.
        let returns = has_returning(&query.statement.sql) || mentions(&query.statement.sql, "execute");
        let reserved = returns.then(|| self.results.admit(session)).transpose().map_err(session_status)?;
        let mut entry = self.log.begin(session, "write", &query.statement.sql);
        let outcome = entry.run(session.write_watched(&query.transaction, query.statement, execution)).await;
        match outcome.map_err(session_status)? {
            Outcome::Changed(rows) => {
                entry.rows(rows);
                let ticket = self.tickets.result(self.results.keep_empty(), session.id());
                flight_info(Some(&Schema::empty()), ticket, descriptor, i64::try_from(rows).unwrap_or(-1))
            }
            Outcome::Rows(rows) => {
                let schema = rows.schema();
                let handle = self.results.keep(reserved, session, rows).await.map_err(session_status)?;
                entry.done();
                let ticket = self.tickets.result(handle, session.id());
                let info = flight_info(Some(&schema), ticket.clone(), descriptor, -1)?;
                Ok(FlightInfo { endpoint: vec![kept_endpoint(ticket)], ..info })
            }
        }
    }

    /// GetSchema: never runs anything.
    pub(super) async fn schema_result(
        &self,
        session: &Session,
        asked: Asked,
    ) -> Result<SchemaResult, Status> {
        let (transaction, sql) = match asked {
            Asked::Table(table) => (Bytes::new(), select_all(&table)),
            Asked::Sql(sql) => (Bytes::new(), sql),
            Asked::Query(call) => {
                return schema_result(&self.engine.query(&call.name).map_err(engine_status)?.schema);
            }
            Asked::Command(command) => match *command {
                Command::CommandStatementQuery(query) => {
                    (query.transaction_id.unwrap_or_default(), query.query)
                }
                Command::CommandPreparedStatementQuery(query) => {
                    let query = self.prepared_query(session, &query.prepared_statement_handle)?;
                    (query.transaction.into(), query.statement.sql)
                }
                command => return schema_result(&metadata::schema(&command)?),
            },
        };
        let described = self.log.plan(session, &sql, session.describe(&transaction, &sql)).await;
        let described = described.map_err(session_status)?;
        schema_result(&described.schema)
    }

    /// ListFlights: every table and view, with its schema, as a path; and every named query.
    pub(super) async fn list_relations(&self, session: &Session) -> Reply<Answers<FlightInfo>> {
        let relations = session.catalog().relations().await.map_err(engine_status)?;
        let infos = relations.iter().filter_map(|relation| {
            let path = [&relation.catalog, &relation.schema, &relation.name].map(Clone::clone).to_vec();
            // SQL makes names that no path may have. Nobody could ask for such a path, and the others are to be found.
            let table = TableRef::from_path(&path).ok()?;
            // The fingerprint stays 0: a list must not go stale because a column was added.
            let ticket = self.tickets.query(Query::new(Statement::new(select_all(&table))), session.id());
            Some(ticket.and_then(|ticket| {
                flight_info(Some(&relation.columns), ticket, FlightDescriptor::new_path(path), -1)
            }))
        });
        let queries = self.engine.queries().iter().map(|card| listed(card));
        let infos = infos.chain(queries).collect::<Result<Vec<_>, _>>()?;
        Ok::<Response<_>, Status>(stream::many(infos))
    }
}

/// A named query with the columns of its result. It has no endpoint: there is nothing to fetch before GetFlightInfo, or
/// DoExchange, has got its parameters or rows.
fn listed(card: &QueryCard) -> Result<FlightInfo, Status> {
    let path = vec![QUERIES.to_owned(), card.name.clone()];
    let info = flight_info(Some(&card.schema), Bytes::new(), FlightDescriptor::new_path(path), -1)?;
    Ok(FlightInfo { endpoint: Vec::new(), ..info })
}

/// The columns, where they are known before the statement runs. With parameters they may depend on the
/// values, unless those have the very types that the statement was planned with.
fn announced(described: &Description, statement: &Statement) -> Option<SchemaRef> {
    let expected = described.parameters.fields();
    let sent = statement.parameters.as_ref().map(RecordBatch::schema);
    let as_expected = match &sent {
        Some(sent) => {
            expected.len() == sent.fields().len()
                && expected
                    .iter()
                    .zip(sent.fields())
                    .all(|(expected, sent)| expected.data_type() == sent.data_type())
        }
        None => expected.is_empty(),
    };
    (as_expected && described.typed).then(|| Arc::clone(&described.schema))
}

fn select_all(table: &TableRef) -> String {
    let parts = [table.catalog.as_deref(), table.schema.as_deref(), Some(table.table.as_str())];
    let name: Vec<_> = parts.into_iter().flatten().map(quote).collect();
    format!("SELECT * FROM {}", name.join("."))
}

fn schema_result(schema: &Schema) -> Result<SchemaResult, Status> {
    let options = IpcWriteOptions::default();
    SchemaAsIpc::new(schema, &options).try_into().map_err(|error| internal(&error))
}

/// One endpoint without a location: the client stays on this connection. A schema that is not known yet is
/// sent as no bytes at all; with bytes, drivers would insist on it.
fn flight_info(
    schema: Option<&Schema>,
    ticket: Bytes,
    descriptor: FlightDescriptor,
    records: i64,
) -> Result<FlightInfo, Status> {
    let schema = schema.map(|schema| Ok::<_, Status>(schema_result(schema)?.schema)).transpose()?;
    Ok(FlightInfo {
        schema: schema.unwrap_or_default(),
        flight_descriptor: Some(descriptor),
        endpoint: vec![endpoint(ticket)],
        total_records: records,
        total_bytes: -1,
        ordered: true,
        app_metadata: Bytes::new(),
    })
}

/// An endpoint that any client of this connection may fetch, until its ticket expires.
pub(super) fn endpoint(ticket: Bytes) -> FlightEndpoint {
    endpoint_for(LIFETIME, ticket)
}

/// One of rows that are kept, until nobody has asked for them for too long.
pub(super) fn kept_endpoint(ticket: Bytes) -> FlightEndpoint {
    endpoint_for(RESULT_IDLE, ticket)
}

fn endpoint_for(time: Duration, ticket: Bytes) -> FlightEndpoint {
    FlightEndpoint {
        expiration_time: Some((SystemTime::now() + time).into()),
        ..FlightEndpoint::new().with_ticket(Ticket::new(ticket))
    }
}
