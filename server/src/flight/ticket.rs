//! Tickets: what they carry, sealed against change.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arrow_array::RecordBatch;
use arrow_flight::sql::{Any, Command, ProstMessageExt, TicketStatementQuery};
use arrow_ipc::{reader::StreamReader, writer::StreamWriter};
use arrow_schema::Schema;
use merganser_proto as proto;
use prost::{Message, bytes::Bytes};
use tonic::Status;

use super::{
    asked::{Query, TicketFor, command, sql_text},
    error::{bad_request, internal, not_found},
};
use crate::engine::{Names, Statement};

/// How long a ticket works, unless it is renewed.
pub(super) const LIFETIME: Duration = Duration::from_secs(3600);
/// Bytes of the seal in front of a ticket's content.
const SEAL: usize = 8;

/// Makes and reads tickets. The seal is a keyed hash under a key of this process: a ticket that was
/// changed on its way, or that another server made, is refused before it is looked into.
#[derive(Default)]
pub(super) struct Codec {
    key: RandomState,
    made: AtomicU64,
}

impl Codec {
    /// A ticket that runs a statement in the session with this id.
    pub(super) fn query(&self, query: Query, session: &[u8]) -> Result<Bytes, Status> {
        let Query { statement, schema, transaction } = query;
        let parameters = statement.parameters.as_ref().map(to_ipc).transpose()?.unwrap_or_default();
        let (catalog, schema_in_use) =
            statement.names.map_or_else(Default::default, |names| (names.catalog, names.schema));
        let sql = statement.sql;
        let query = proto::Query { sql, parameters, schema, transaction, catalog, schema_in_use };
        Ok(self.seal(proto::ticket::What::Query(query), session))
    }

    /// A ticket for the kept rows of a statement that ran already.
    pub(super) fn result(&self, handle: Vec<u8>, session: &[u8]) -> Bytes {
        self.seal(proto::ticket::What::Result(handle), session)
    }

    /// The command of a descriptor that asks after a statement under way.
    pub(super) fn poll(&self, handle: Vec<u8>, session: &[u8]) -> Bytes {
        self.seal(proto::ticket::What::Poll(handle), session)
    }

    /// The handle in the command of such a descriptor; `None` when it is another command.
    pub(super) fn polled(&self, bytes: &Bytes) -> Result<Option<Vec<u8>>, Status> {
        let Some(Command::TicketStatementQuery(ours)) = command(bytes)? else { return Ok(None) };
        match self.open(&ours.statement_handle)?.what {
            Some(proto::ticket::What::Poll(handle)) => Ok(Some(handle)),
            _ => Err(bad_ticket()),
        }
    }

    /// The same ticket with its whole time before it.
    pub(super) fn renew(&self, ticket: &Bytes) -> Result<Bytes, Status> {
        match command(ticket)? {
            Some(Command::TicketStatementQuery(ours)) => {
                let ticket = self.open(&ours.statement_handle)?;
                Ok(self.seal(ticket.what.ok_or_else(bad_ticket)?, &ticket.session))
            }
            _ => Ok(ticket.clone()),
        }
    }

    fn seal(&self, what: proto::ticket::What, session: &[u8]) -> Bytes {
        let expires = now() + LIFETIME.as_secs();
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let content =
            proto::Ticket { what: Some(what), session: session.to_vec(), expires, number }.encode_to_vec();
        let mut handle = self.hash(&content).to_le_bytes().to_vec();
        handle.extend_from_slice(&content);
        TicketStatementQuery { statement_handle: handle.into() }.as_any().encode_to_vec().into()
    }

    fn hash(&self, content: &[u8]) -> u64 {
        let mut hasher = self.key.build_hasher();
        hasher.write(content);
        hasher.finish()
    }

    /// Reads any ticket: ours, a Flight SQL command, or SQL text.
    pub(super) fn read(&self, ticket: &Bytes) -> Result<TicketFor, Status> {
        match command(ticket)? {
            Some(Command::TicketStatementQuery(ours)) => self.open(&ours.statement_handle).and_then(unpack),
            Some(command) => Ok(TicketFor::Command(Box::new(command))),
            None if looks_like_any(ticket) => Err(bad_ticket()),
            None => Ok(TicketFor::Query(Query::new(Statement::new(sql_text(ticket)?)), Vec::new())),
        }
    }

    fn open(&self, handle: &[u8]) -> Result<proto::Ticket, Status> {
        let (seal, content) = handle.split_at_checked(SEAL).ok_or_else(bad_ticket)?;
        if self.hash(content).to_le_bytes() != seal {
            return Err(bad_ticket());
        }
        let ticket = proto::Ticket::decode(content).map_err(|_| bad_ticket())?;
        // Kept rows have a time of their own, which each use makes longer.
        let is_result = matches!(ticket.what, Some(proto::ticket::What::Result(_)));
        if ticket.expires < now() && !is_result {
            return Err(not_found("TICKET_EXPIRED", "the ticket has expired; ask for a new FlightInfo"));
        }
        Ok(ticket)
    }

    /// A number that changes when a schema does, for comparing what was announced with what comes.
    pub(super) fn fingerprint(&self, schema: &Schema) -> u64 {
        // 0 says that nothing was announced.
        self.key.hash_one(schema.fields()).max(1)
    }
}

fn unpack(ticket: proto::Ticket) -> Result<TicketFor, Status> {
    match ticket.what {
        Some(proto::ticket::What::Query(query)) => {
            let parameters = match query.parameters.is_empty() {
                true => None,
                false => Some(from_ipc(&query.parameters)?),
            };
            let names = Names { catalog: query.catalog, schema: query.schema_in_use };
            let names = (!names.catalog.is_empty()).then_some(names);
            let query = Query {
                statement: Statement { sql: query.sql, parameters, by_name: false, names },
                schema: query.schema,
                transaction: query.transaction,
            };
            Ok(TicketFor::Query(query, ticket.session))
        }
        Some(proto::ticket::What::Result(handle)) => Ok(TicketFor::Result(handle)),
        Some(proto::ticket::What::Poll(_)) | None => Err(bad_ticket()),
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A damaged `Any` is told from SQL by its first byte: field 1 with a length, which is a line feed.
fn looks_like_any(ticket: &[u8]) -> bool {
    ticket.first() == Some(&0x0a) && Any::decode(ticket).is_ok()
}

fn bad_ticket() -> Status {
    bad_request(
        "BAD_TICKET",
        "this ticket was not made by this server since its start, or was changed; ask for a new FlightInfo, unless its statement \
         writes: that has run already",
    )
}

fn to_ipc(batch: &RecordBatch) -> Result<Vec<u8>, Status> {
    let write = || {
        let mut writer = StreamWriter::try_new(Vec::new(), batch.schema_ref())?;
        writer.write(batch)?;
        writer.into_inner()
    };
    write().map_err(|error| internal(&error))
}

fn from_ipc(bytes: &[u8]) -> Result<RecordBatch, Status> {
    let mut reader = StreamReader::try_new(bytes, None).map_err(|_| bad_ticket())?;
    reader.next().ok_or_else(bad_ticket)?.map_err(|_| bad_ticket())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_reads_back_and_a_changed_one_is_refused() {
        let codec = Codec::default();
        let names = Some(Names { catalog: "c".into(), schema: "s".into() });
        let statement = Statement { names: names.clone(), ..Statement::new("SELECT 1") };
        let ticket = codec.query(Query { schema: 7, ..Query::new(statement) }, b"s").unwrap();
        match codec.read(&ticket).unwrap() {
            TicketFor::Query(query, session) => {
                assert_eq!((query.statement.sql.as_str(), &session[..]), ("SELECT 1", &b"s"[..]));
                assert_eq!((query.schema, query.statement.names), (7, names));
            }
            other => panic!("{other:?}"),
        }
        for bit in 0..ticket.len() * 8 {
            let mut changed = ticket.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            if let Ok(TicketFor::Query(query, _)) = codec.read(&changed.into()) {
                assert_ne!(query.schema, 7, "bit {bit} was not noticed");
            }
        }
        assert!(Codec::default().read(&ticket).is_err(), "another server's ticket");
    }
}
