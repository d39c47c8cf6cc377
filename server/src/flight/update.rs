//! DoPut of statements that are run for their effect, and of parameters.

use arrow_flight::{
    FlightData, PutResult,
    sql::{Command, CommandPreparedStatementQuery, DoPutPreparedStatementResult, DoPutUpdateResult},
};
use prost::{Message, bytes::Bytes};
use tonic::{Code, Request, Status, Streaming};

use super::{
    Answers, Flight, Reply,
    asked::Asked,
    error::{bad_request, engine_status, unimplemented},
    stream,
    upload::Upload,
};
use crate::engine::{IfExists, IfMissing, Outcome, Statement};

/// A statement's rows are not its effect; the protocol's word for "unknown".
const UNKNOWN_COUNT: i64 = -1;

impl Flight {
    /// DoPut: the first message's descriptor says what the stream is.
    pub(super) async fn put(&self, request: Request<Streaming<FlightData>>) -> Reply<Answers<PutResult>> {
        let loader = super::ingest::loader_of(&request);
        let mut upload = Upload::open(request.into_inner(), self.engine.stall_timeout()).await?;
        let answer = self.put_asked(&mut upload, loader).await;
        if answer.as_ref().is_err_and(|status| status.code() != Code::Aborted) {
            // A client that is still sending would otherwise see a broken pipe in place of the reason. One
            // that has stalled sends nothing.
            upload.drain().await;
        }
        answer
    }

    async fn put_asked(&self, upload: &mut Upload, loader: u64) -> Reply<Answers<PutResult>> {
        let command = match Asked::of(upload.descriptor())? {
            Asked::Table(table) => {
                return self.ingest(upload, table, IfMissing::Create, IfExists::Append, loader).await;
            }
            Asked::Sql(_) => {
                return Err(bad_request(
                    "BAD_COMMAND",
                    "DoPut takes a table path or a Flight SQL command; send SQL text as a ticket or the action \"query\"",
                ));
            }
            Asked::Command(command) => *command,
        };
        match command {
            Command::CommandStatementUpdate(update) => {
                check_transaction(update.transaction_id.as_ref())?;
                self.update(Statement::new(update.query)).await
            }
            Command::CommandStatementIngest(command) => self.statement_ingest(upload, command, loader).await,
            Command::CommandPreparedStatementQuery(query) => self.bind(upload, query).await,
            Command::CommandPreparedStatementUpdate(update) => {
                let mut statement = self.prepared_statement(&update.prepared_statement_handle)?;
                let sent = upload.parameters().await?;
                if sent.is_some() {
                    statement.parameters = sent;
                }
                self.update(statement).await
            }
            _ => Err(unimplemented("this command in DoPut")),
        }
    }

    async fn update(&self, statement: Statement) -> Reply<Answers<PutResult>> {
        let mut entry = self.log.begin("write", &statement.sql);
        let outcome = self.engine.write(statement).await.inspect_err(|error| entry.failed(error));
        let record_count = match outcome.map_err(engine_status)? {
            Outcome::Changed(rows) => {
                entry.rows(rows);
                i64::try_from(rows).unwrap_or(UNKNOWN_COUNT)
            }
            Outcome::Rows(_) => UNKNOWN_COUNT,
        };
        Ok(stream::one(put_result(&DoPutUpdateResult { record_count })))
    }

    async fn bind(
        &self,
        upload: &mut Upload,
        query: CommandPreparedStatementQuery,
    ) -> Reply<Answers<PutResult>> {
        let handle = query.prepared_statement_handle;
        let parameters = upload.parameters().await?;
        self.bind_parameters(&handle, parameters)?;
        let result = DoPutPreparedStatementResult { prepared_statement_handle: Some(handle) };
        Ok(stream::one(put_result(&result)))
    }
}

/// Transactions by handle are not kept yet; a client that sends one must not believe that they are.
pub(super) fn check_transaction(transaction: Option<&Bytes>) -> Result<(), Status> {
    match transaction {
        Some(id) if !id.is_empty() => Err(unimplemented("a transaction by handle")),
        _ => Ok(()),
    }
}

/// A PutResult that carries a message.
pub(super) fn put_result(message: &impl Message) -> PutResult {
    PutResult { app_metadata: message.encode_to_vec().into() }
}
