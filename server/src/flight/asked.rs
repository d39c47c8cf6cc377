//! What a descriptor or a ticket asks for. Everything here is foreign bytes: what does not parse is
//! refused, nothing panics.

use arrow_flight::{
    FlightDescriptor,
    flight_descriptor::DescriptorType,
    sql::{Any, Command},
};
use prost::{Message, bytes::Bytes};
use tonic::Status;

use super::error::{bad_request, engine_status};
use crate::engine::{
    Arguments, Engine, Error, QUERIES, QueryCard, Statement, TableRef, arguments_of, page_of, total_of,
};

/// The type URLs of Flight SQL begin so; SQL text that happens to parse as protobuf does not.
const FLIGHT_SQL: &str = "type.googleapis.com/arrow.flight.protocol.sql.";

/// What a descriptor names.
#[derive(Debug)]
pub(super) enum Asked {
    /// A table, by path.
    Table(TableRef),
    /// A named query, by the path `["queries", name, "parameter=value", ...]`.
    Query(Call),
    /// SQL text, from plain Flight.
    Sql(String),
    /// A Flight SQL command.
    Command(Box<Command>),
}

/// The name and the parameters of a named query.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) arguments: Arguments,
}

impl Call {
    /// Reads a path; `None` where it is that of a table.
    pub(super) fn of_path(path: &[String]) -> Result<Option<Self>, Status> {
        let [first, name, pairs @ ..] = path else { return Ok(None) };
        if first != QUERIES {
            return Ok(None);
        }
        let arguments = arguments_of(pairs.iter().map(String::as_str)).map_err(engine_status)?;
        Ok(Some(Self { name: name.clone(), arguments }))
    }

    /// The statement that answers it, and the one that counts all rows where the call wants to know.
    pub(super) async fn statements(
        mut self,
        engine: &Engine,
        card: &QueryCard,
    ) -> Result<(Statement, Option<Statement>), Error> {
        let page = page_of(&mut self.arguments)?;
        let total = total_of(&mut self.arguments)?;
        let statement = engine.call(card, self.arguments.clone(), page).await?;
        let count = total.then(|| card.count_statement(self.arguments)).transpose()?;
        Ok((statement, count))
    }
}

impl Asked {
    /// Reads a descriptor where there are named queries, which a table of a schema `queries` cannot be then.
    pub(super) fn with_queries(descriptor: &FlightDescriptor) -> Result<Self, Status> {
        if descriptor.r#type == DescriptorType::Path as i32
            && let Some(call) = Call::of_path(&descriptor.path)?
        {
            return Ok(Self::Query(call));
        }
        Self::of(descriptor)
    }

    /// Reads a descriptor.
    pub(super) fn of(descriptor: &FlightDescriptor) -> Result<Self, Status> {
        match DescriptorType::try_from(descriptor.r#type) {
            Ok(DescriptorType::Path) => {
                TableRef::from_path(&descriptor.path).map(Self::Table).map_err(engine_status)
            }
            Ok(DescriptorType::Cmd) => match command(&descriptor.cmd)? {
                Some(command) => Ok(Self::Command(Box::new(command))),
                None => sql_text(&descriptor.cmd).map(Self::Sql),
            },
            Ok(DescriptorType::Unknown) | Err(_) => Err(bad_request(
                "NO_DESCRIPTOR",
                "the request has no descriptor; give a path such as [\"table\"], or a command",
            )),
        }
    }
}

/// What a ticket stands for.
#[derive(Debug)]
pub(super) enum TicketFor {
    /// A statement to run, in the session with this id; empty for the caller's.
    Query(Query, Vec<u8>),
    /// The kept rows of a statement that ran already.
    Result(Vec<u8>),
    /// A Flight SQL command, which is its own ticket.
    Command(Box<Command>),
}

/// A statement to run at DoGet.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) statement: Statement,
    /// Fingerprint of the schema that was announced; 0 when none was.
    pub(super) schema: u64,
    /// The transaction it runs in; empty for one of its own.
    pub(super) transaction: Vec<u8>,
}

impl Query {
    /// A statement in a transaction of its own, of which nothing was announced.
    pub(super) fn new(statement: Statement) -> Self {
        Self { statement, schema: 0, transaction: Vec::new() }
    }
}

/// A Flight SQL command, or `None` when the bytes are none.
pub(super) fn command(bytes: &Bytes) -> Result<Option<Command>, Status> {
    match Any::decode(bytes.clone()) {
        Ok(any) if any.type_url.starts_with(FLIGHT_SQL) => Command::try_from(any)
            .map(Some)
            .map_err(|_| bad_request("BAD_COMMAND", "the Flight SQL command cannot be read")),
        _ => Ok(None),
    }
}

/// SQL text from bytes.
pub(super) fn sql_text(bytes: &[u8]) -> Result<String, Status> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(bad_request(
            "BAD_COMMAND",
            "the bytes are neither a Flight SQL command nor SQL text in UTF-8",
        )),
    }
}
