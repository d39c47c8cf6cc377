//! DoPut of statements that are run for their effect, and of parameters.

use arrow_flight::{
    FlightData, FlightDescriptor, PutResult,
    sql::{Command, CommandPreparedStatementQuery, DoPutPreparedStatementResult, DoPutUpdateResult},
};
use prost::Message;
use tonic::{Request, Status, Streaming};

use super::{
    Answers, Flight, Reply,
    asked::{Asked, Query},
    caller::connection_of,
    error::{bad_request, engine_status, is_stalled, session_status, unimplemented},
    ingest::RowsAsked,
    ingest_options::IngestOptions,
    stream,
    units::Destination,
    upload::Upload,
};
use crate::{
    engine::{Outcome, Statement},
    session::Session,
};

/// A statement's rows are not its effect; the protocol's word for "unknown".
const UNKNOWN_COUNT: i64 = -1;

/// What a DoPut is.
enum Put {
    Rows(Box<RowsAsked>),
    Command(Box<Command>),
}

impl Put {
    fn of(descriptor: &FlightDescriptor, options: IngestOptions, loader: u64) -> Result<Self, Status> {
        match Asked::of(descriptor)? {
            Asked::Table(table) => {
                RowsAsked::of_path(table, &options, loader).map(|rows| Self::Rows(Box::new(rows)))
            }
            Asked::Query(_) | Asked::Sql(_) => Err(bad_request(
                "BAD_COMMAND",
                "DoPut takes a table path or a Flight SQL command; send SQL text as a ticket or the action \"query\"",
            )),
            Asked::Command(command) => match *command {
                Command::CommandStatementIngest(command) => {
                    RowsAsked::of_command(command, options, loader).map(|rows| Self::Rows(Box::new(rows)))
                }
                other => Ok(Self::Command(Box::new(other))),
            },
        }
    }
}

impl Flight {
    /// DoPut: the first message's descriptor says what the stream is.
    pub(super) async fn put(&self, request: Request<Streaming<FlightData>>) -> Reply<Answers<PutResult>> {
        let session = self.session(&request)?;
        let loader = connection_of(&request).map_or(0, |connection| connection.0);
        let options = IngestOptions::of_headers(request.metadata());
        let mut upload = Upload::open(request, self.engine.stall_timeout()).await?;
        let asked = options.and_then(|options| Put::of(upload.descriptor(), options, loader));
        let answer = match asked {
            Ok(Put::Rows(rows)) => match upload.schema().await.map_err(engine_status) {
                Ok(schema) if upload.is_long_stream() => {
                    return self.put_units(Destination { session, rows: *rows, schema }, upload).await;
                }
                Ok(schema) => self.ingest(&session, &mut upload, *rows, schema).await,
                Err(status) => Err(status),
            },
            Ok(Put::Command(command)) => self.put_command(&session, &mut upload, *command).await,
            Err(status) => Err(status),
        };
        if answer.as_ref().is_err_and(|status| !is_stalled(status)) {
            // A client that is still sending would otherwise see a broken pipe in place of the reason. One
            // that has stalled sends nothing.
            upload.drain().await;
        }
        answer
    }

    async fn put_command(
        &self,
        session: &Session,
        upload: &mut Upload,
        command: Command,
    ) -> Reply<Answers<PutResult>> {
        match command {
            Command::CommandStatementUpdate(update) => {
                let query = Query {
                    transaction: update.transaction_id.unwrap_or_default().to_vec(),
                    ..Query::new(Statement::new(update.query))
                };
                self.update(session, query).await
            }
            Command::CommandPreparedStatementQuery(query) => self.bind(session, upload, query).await,
            Command::CommandPreparedStatementUpdate(update) => {
                let mut query = self.prepared_query(session, &update.prepared_statement_handle)?;
                let sent = upload.parameters().await?;
                if sent.is_some() {
                    query.statement.parameters = sent;
                }
                self.update(session, query).await
            }
            _ => Err(unimplemented("this command in DoPut")),
        }
    }

    async fn update(&self, session: &Session, query: Query) -> Reply<Answers<PutResult>> {
        let mut entry = self.log.begin(session, "write", &query.statement.sql);
        let outcome = entry.run(session.write(&query.transaction, query.statement)).await;
        let outcome = outcome.map_err(session_status)?;
        let record_count = match outcome {
            Outcome::Changed(rows) => {
                entry.rows(rows);
                i64::try_from(rows).unwrap_or(UNKNOWN_COUNT)
            }
            Outcome::Rows(_) => {
                entry.done();
                UNKNOWN_COUNT
            }
        };
        Ok(stream::one(put_result(&DoPutUpdateResult { record_count })))
    }

    async fn bind(
        &self,
        session: &Session,
        upload: &mut Upload,
        query: CommandPreparedStatementQuery,
    ) -> Reply<Answers<PutResult>> {
        let handle = query.prepared_statement_handle;
        let parameters = upload.parameters().await?;
        self.bind_parameters(session, &handle, parameters)?;
        let result = DoPutPreparedStatementResult { prepared_statement_handle: Some(handle) };
        Ok(stream::one(put_result(&result)))
    }
}

/// A PutResult that carries a message.
pub(super) fn put_result(message: &impl Message) -> PutResult {
    PutResult { app_metadata: message.encode_to_vec().into() }
}
