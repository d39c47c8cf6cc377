//! The protocol: the only home of tonic and arrow_flight. Every method of the service delegates in a few
//! lines; what is asked is told apart in [`asked`], answers leave through [`stream`], and [`error`] turns
//! every failure into its status.

mod action;
mod action_query;
mod asked;
mod authenticate;
mod broken_off;
mod caller;
mod cancel;
mod cookie;
mod delivered;
mod dictionaries;
mod error;
mod exchange;
mod framing;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod handshake;
mod incoming;
mod info;
mod ingest;
mod ingest_options;
mod metadata;
mod poll;
mod prepared;
mod query;
mod session_options;
mod stream;
mod ticket;
mod transaction;
mod undecodable;
mod units;
mod update;
mod upload;

use std::{pin::Pin, sync::Arc};

use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket, flight_service_server::FlightService,
};
use futures::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    engine::Engine,
    session::{Authenticator, Directory, PreparedStatements, Results, Sessions},
    statement_log::StatementLog,
};
use asked::TicketFor;
pub(crate) use authenticate::Authenticated;
pub(crate) use broken_off::fail_when_broken_off;
use caller::line_of;
pub(crate) use incoming::let_in;
pub(crate) use undecodable::tell_undecodable;

/// A stream of answers.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
/// What a method returns.
type Reply<T> = Result<Response<T>, Status>;

/// The Flight service over one engine. Clones are cheap and share everything: what goes on without a request owns
/// one.
#[derive(Clone)]
pub(crate) struct Flight {
    engine: Engine,
    sessions: Arc<Sessions>,
    prepared: Arc<PreparedStatements>,
    results: Arc<Results>,
    tickets: Arc<ticket::Codec>,
    running: Arc<cancel::Running>,
    polls: Arc<poll::Polls>,
    log: Arc<StatementLog>,
    authenticator: Arc<Authenticator>,
    /// Cancelled when the server stops: streams that could go on for ever end.
    stopping: CancellationToken,
}

impl Flight {
    /// Serves `engine` until `stopping`; every statement gets its line in `log`.
    pub(crate) fn new(
        engine: Engine,
        sessions: Arc<Sessions>,
        log: Arc<StatementLog>,
        authenticator: Arc<Authenticator>,
        stopping: CancellationToken,
    ) -> Self {
        let prepared = Arc::default();
        engine.activity().ask_for_sessions(Directory::of(&sessions, &prepared));
        let results = Arc::new(Results::new(engine.temporary_folder()));
        Self {
            engine,
            sessions,
            prepared,
            results,
            tickets: Arc::default(),
            running: Arc::default(),
            polls: Arc::default(),
            log,
            authenticator,
            stopping,
        }
    }
}

#[tonic::async_trait]
impl FlightService for Flight {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = Answers<FlightData>;
    type DoPutStream = Answers<PutResult>;
    type DoExchangeStream = Answers<FlightData>;
    type DoActionStream = Answers<arrow_flight::Result>;
    type ListActionsStream = Answers<ActionType>;

    async fn handshake(&self, request: Request<Streaming<HandshakeRequest>>) -> Reply<Self::HandshakeStream> {
        self.shake_hands(request).await
    }

    async fn list_flights(&self, request: Request<Criteria>) -> Reply<Self::ListFlightsStream> {
        let session = self.session(&request)?;
        self.list_relations(&session).await
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Reply<FlightInfo> {
        let session = self.session(&request)?;
        let descriptor = request.into_inner();
        let asked = self.asked(&descriptor)?;
        self.info(&session, asked, descriptor).await.map(Response::new)
    }

    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Reply<PollInfo> {
        let session = self.session(&request)?;
        self.poll(&session, request.into_inner()).await.map(Response::new)
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Reply<SchemaResult> {
        let session = self.session(&request)?;
        let asked = self.asked(&request.into_inner())?;
        self.schema_result(&session, asked).await.map(Response::new)
    }

    async fn do_get(&self, request: Request<Ticket>) -> Reply<Self::DoGetStream> {
        let session = self.session(&request)?;
        let ticket = request.into_inner().ticket;
        match self.tickets.read(&ticket)? {
            TicketFor::Query(query, id) => {
                let cancel = self.running.begin(cancel::CancelKey::of(ticket, &id, session.id()))?;
                let session = self.session_of_ticket(&id, &session)?;
                cancel.or_cancelled(self.stream_query(&session, query)).await
            }
            TicketFor::Result(handle) => self.stream_result(&session, &handle).await,
            TicketFor::Command(command) => self.stream_command(&session, *command).await,
        }
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Reply<Self::DoPutStream> {
        self.put(request).await
    }

    async fn do_exchange(&self, request: Request<Streaming<FlightData>>) -> Reply<Self::DoExchangeStream> {
        self.exchange(request).await
    }

    async fn do_action(&self, request: Request<Action>) -> Reply<Self::DoActionStream> {
        let session = self.session(&request)?;
        let line = line_of(&request).cloned();
        self.act(&session, line.as_ref(), request.into_inner()).await
    }

    async fn list_actions(&self, _: Request<Empty>) -> Reply<Self::ListActionsStream> {
        action::list()
    }
}
