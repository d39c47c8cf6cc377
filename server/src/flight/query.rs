//! DoGet of statements and of kept results.

use arrow_flight::{FlightData, sql::Command};
use arrow_schema::Schema;
use std::sync::Arc;

use super::{
    Answers, Flight, Reply,
    asked::Query,
    error::{engine_status, result_expired, session_status},
    stream,
};
use crate::{
    engine::{Error, Outcome},
    session::Session,
};

impl Flight {
    /// Runs a statement and streams its rows. A ticket may be used any number of times; each time the
    /// statement is planned anew, in the transaction that it runs in.
    pub(super) async fn stream_query(&self, session: &Session, query: Query) -> Reply<Answers<FlightData>> {
        let mut entry = self.log.begin(session, "read", &query.statement.sql);
        let outcome = entry.run(session.run(&query.transaction, query.statement)).await;
        match outcome.map_err(session_status)? {
            Outcome::Rows(rows) => {
                let schema = rows.schema();
                if query.schema != 0 && self.tickets.fingerprint(&schema) != query.schema {
                    entry.failed(&Error::SchemaChanged);
                    return Err(engine_status(Error::SchemaChanged));
                }
                stream::rows(rows, entry)
            }
            Outcome::Changed(rows) => {
                entry.rows(rows);
                stream::ready(Arc::new(Schema::empty()), Vec::new())
            }
        }
    }

    /// What a statement returned that ran when its FlightInfo was made.
    pub(super) async fn stream_result(&self, session: &Session, handle: &[u8]) -> Reply<Answers<FlightData>> {
        let kept = self.results.get(handle, session.principal()).await.map_err(engine_status)?;
        Ok(stream::kept(kept.ok_or_else(result_expired)?))
    }

    /// DoGet with a Flight SQL command as its own ticket.
    pub(super) async fn stream_command(
        &self,
        session: &Session,
        command: Command,
    ) -> Reply<Answers<FlightData>> {
        match command {
            Command::CommandPreparedStatementQuery(query) => {
                let query = self.prepared_query(session, &query.prepared_statement_handle)?;
                self.stream_query(session, query).await
            }
            command => {
                let batch = self.metadata(session, command).await?;
                stream::ready(batch.schema(), vec![batch])
            }
        }
    }
}
