//! DoExchange: rows go up, and the answer of a query over them comes down.
//!
//! The path is `["queries", name, "parameter=value", ...]` for a named query that takes rows, or
//! `["posted", table, sql]` for any query, which knows the rows as `table`. The client sends its rows and closes its
//! side; then it reads the answer.

use arrow_flight::FlightData;
use tonic::{Request, Status, Streaming};

use super::{
    Answers, Flight, Reply,
    asked::Call,
    caller::connection_of,
    error::{bad_request, engine_status, session_status},
    stream,
    upload::Upload,
};
use crate::{
    engine::{Error, Posted, Statement},
    session::{Session, SessionError},
};

/// The first part of the path of a query that brings its SQL along.
const POSTED: &str = "posted";

/// FlightInfo is where a total is told, and a DoExchange has none.
const NO_TOTAL: &str =
    "a DoExchange tells no total; read all rows, or post them over HTTP, where total=true counts them";

/// What is to be answered from the rows.
enum Exchange {
    Named(Call),
    Sql { table: String, sql: String },
}

impl Exchange {
    fn of_path(path: &[String]) -> Result<Self, Status> {
        if let Some(call) = Call::of_path(path)? {
            return Ok(Self::Named(call));
        }
        match path {
            [first, table, sql] if first == POSTED => {
                Ok(Self::Sql { table: table.clone(), sql: sql.clone() })
            }
            _ => Err(bad_request(
                "NO_DESCRIPTOR",
                "the path of a DoExchange is [\"queries\", name, \"parameter=value\", ...], or \
                 [\"posted\", name of the rows, SQL]",
            )),
        }
    }
}

impl Flight {
    /// Takes the rows, and answers from them.
    pub(super) async fn exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Reply<Answers<FlightData>> {
        let session = self.session(&request)?;
        let sender = connection_of(&request).map_or(0, |connection| connection.0);
        let mut upload = Upload::open(request, self.engine.stall_timeout()).await?;
        let answer = self.answer(&session, &mut upload, sender).await;
        if answer.is_err() {
            upload.drain().await;
        }
        answer
    }

    async fn answer(
        &self,
        session: &Session,
        upload: &mut Upload,
        sender: u64,
    ) -> Reply<Answers<FlightData>> {
        let asked = Exchange::of_path(&upload.descriptor().path)?;
        let (statement, posted) = match asked {
            Exchange::Named(call) => {
                let card = self.engine.query(&call.name).map_err(engine_status)?;
                let (statement, count) = call.statements(&self.engine, card).await.map_err(engine_status)?;
                if count.is_some() {
                    return Err(engine_status(Error::BadParameter(NO_TOTAL.into())));
                }
                let posted =
                    self.posted(&card.name, upload, sender).await.and_then(|rows| rows.as_input_of(card));
                (statement, posted)
            }
            Exchange::Sql { table, sql } => (Statement::new(sql), self.posted(&table, upload, sender).await),
        };
        let mut entry = self.log.begin(session, "exchange", &statement.sql);
        let rows = match posted.map_err(SessionError::from) {
            Ok(posted) => entry.run(session.read_posted(statement, posted)).await,
            Err(error) => Err(error),
        };
        stream::rows(rows.inspect_err(|error| entry.failed(error)).map_err(session_status)?, entry)
    }

    async fn posted(&self, name: &str, upload: &mut Upload, sender: u64) -> Result<Posted, Error> {
        let schema = upload.schema().await?;
        self.engine.take_posted(name, &schema, upload, sender).await
    }
}
