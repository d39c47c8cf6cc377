//! A Flight SQL server that does as it is told and reports what it sees.

mod gateway;
mod ledger;

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_flight::{
    FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest, HandshakeResponse, PutResult, Ticket,
    encode::FlightDataEncoderBuilder,
    error::FlightError,
    flight_service_server::{FlightService, FlightServiceServer},
    sql::{
        Any, CommandStatementIngest, CommandStatementQuery, CommandStatementUpdate, DoPutUpdateResult,
        ProstMessageExt, SqlInfo, TicketStatementQuery,
        server::{FlightSqlService, PeekableFlightDataStream},
    },
};
use arrow_schema::Schema;
use futures::{Stream, StreamExt, TryFutureExt, TryStreamExt, stream};
use merganser::Client;
use prost::Message;
use tokio::{sync::mpsc, task::JoinHandle};
use tonic::{Request, Response, Status, Streaming, transport::server::TcpIncoming};

use self::gateway::{Gateway, Lost};
pub(crate) use self::ledger::{Break, Ledger};

/// Far longer than anything here takes, and shorter than anybody waits for a test that hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the server saw of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    UploadBegan,
    UploadEnded,
    UploadBroke,
    QueryCancelled,
}

/// The server; it stops when it is dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) ledger: Arc<Ledger>,
    /// Ingests that come to nothing yet: each takes one, and is refused.
    pub(crate) refusals: Arc<AtomicU64>,
    /// Answers that do not come through.
    pub(crate) lost: Lost,
    seen: mpsc::UnboundedReceiver<Seen>,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let url = format!("grpc://{}", incoming.local_addr().unwrap());
        let (sender, seen) = mpsc::unbounded_channel();
        let (ledger, refusals) = (Arc::<Ledger>::default(), Arc::<AtomicU64>::default());
        let service = Scripted(sender, ledger.clone(), refusals.clone());
        let lost = Lost::default();
        let service = Gateway { service: FlightServiceServer::new(service), lost: lost.clone() };
        let server = tonic::transport::Server::builder().add_service(service);
        let task = tokio::spawn(server.serve_with_incoming(incoming));
        Self { url, ledger, refusals, lost, seen, task }
    }

    pub(crate) async fn connect() -> (Client, Self) {
        let server = Self::start();
        let client = Client::connect(&server.url).await.unwrap();
        (client, server)
    }

    /// Waits for the next thing that the server sees.
    pub(crate) async fn next(&mut self) -> Seen {
        let seen = tokio::time::timeout(PATIENCE, self.seen.recv()).await;
        seen.unwrap().unwrap()
    }

    /// Whether the server has seen no more than what was waited for.
    pub(crate) fn nothing_else(&mut self) -> bool {
        self.seen.try_recv().is_err()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Scripted(mpsc::UnboundedSender<Seen>, Arc<Ledger>, Arc<AtomicU64>);

type Answers<T> = Response<Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>>;

fn batch() -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    RecordBatch::try_from_iter([("a", column)]).unwrap()
}

impl Scripted {
    /// Reads an upload to its end and returns the number of its messages; in a task of its own, because
    /// hyper drops a method whose call is reset, and this server wants to see how the upload ends.
    async fn drain(self, upload: PeekableFlightDataStream) -> Result<i64, Status> {
        tokio::spawn(self.count_messages(upload)).await.unwrap()
    }

    async fn count_messages(self, mut upload: PeekableFlightDataStream) -> Result<i64, Status> {
        let mut messages = 0;
        while let Some(message) = upload.next().await {
            if message.is_err() {
                let _ = self.0.send(Seen::UploadBroke);
                return Err(Status::aborted("BROKEN: the upload broke"));
            }
            if messages == 0 {
                let _ = self.0.send(Seen::UploadBegan);
            }
            messages += 1;
        }
        let _ = self.0.send(Seen::UploadEnded);
        Ok(messages)
    }
}

/// Reports when the rows of a query are dropped before their end, which never comes.
struct CancelReport(mpsc::UnboundedSender<Seen>);

impl Drop for CancelReport {
    fn drop(&mut self) {
        let _ = self.0.send(Seen::QueryCancelled);
    }
}

#[tonic::async_trait]
impl FlightSqlService for Scripted {
    type FlightService = Self;

    async fn do_handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Answers<HandshakeResponse>, Status> {
        // Basic ada:secret
        if request.metadata().get("authorization").unwrap() != "Basic YWRhOnNlY3JldA==" {
            return Err(Status::unauthenticated("CREDENTIALS: wrong user or password"));
        }
        let answer = stream::iter([Ok(HandshakeResponse::default())]);
        let mut response: Answers<HandshakeResponse> = Response::new(answer.boxed());
        let token = "Bearer token-of-ada".parse().unwrap();
        response.metadata_mut().insert("authorization", token);
        Ok(response)
    }

    async fn get_flight_info_statement(
        &self,
        command: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let ticket = TicketStatementQuery { statement_handle: command.query.clone().into() };
        let ticket = Ticket::new(ticket.as_any().encode_to_vec());
        let info = FlightInfo::new().with_endpoint(FlightEndpoint::new().with_ticket(ticket));
        let info = match command.query.as_str() {
            "endless" => info.try_with_schema(&batch().schema()).unwrap(),
            sql if sql.contains("merganser_ingest()") => {
                info.try_with_schema(&Ledger::row().schema()).unwrap()
            }
            "dml" => info.try_with_schema(&Schema::empty()).unwrap().with_total_records(7),
            "whoami" => {
                let token = request.metadata().get("authorization").unwrap();
                let token = token.to_str().unwrap();
                return Err(Status::not_found(format!("TOKEN: {token}")));
            }
            other => {
                return Err(Status::invalid_argument(format!("SYNTAX: near {other:?}")));
            }
        };
        Ok(Response::new(info))
    }

    async fn do_get_statement(
        &self,
        ticket: TicketStatementQuery,
        _request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        if String::from_utf8_lossy(&ticket.statement_handle).contains("loader = 'known' AND") {
            let rows = stream::iter([Ok(Ledger::row())]);
            let data = FlightDataEncoderBuilder::new().build(rows);
            return Ok(Response::new(data.map_err(Status::from).boxed()));
        }
        if ticket.statement_handle.starts_with(b"SELECT epoch") {
            let rows = stream::empty();
            let data = FlightDataEncoderBuilder::new().with_schema(Ledger::row().schema()).build(rows);
            return Ok(Response::new(data.map_err(Status::from).boxed()));
        }
        let report = CancelReport(self.0.clone());
        let batches = stream::repeat_with(move || {
            let _ = &report;
            Ok::<_, FlightError>(batch())
        });
        let data = FlightDataEncoderBuilder::new().with_schema(batch().schema()).build(batches);
        Ok(Response::new(data.map_err(Status::from).boxed()))
    }

    async fn do_put_fallback(
        &self,
        request: Request<PeekableFlightDataStream>,
        _message: Any,
    ) -> Result<Response<<Self as FlightService>::DoPutStream>, Status> {
        let mut request = request;
        let first = request.get_mut().peek().await.unwrap().as_ref().unwrap();
        if first.flight_descriptor.as_ref().unwrap().path == ["ledger"] {
            let answers = self.1.clone().answer(request.into_inner());
            let answers =
                stream::unfold(answers, |mut answers| async { Some((answers.recv().await?, answers)) });
            return Ok(Response::new(answers.boxed()));
        }
        let answer = self.clone().drain(request.into_inner()).map_ok(|rows| {
            let result = DoPutUpdateResult { record_count: rows };
            PutResult { app_metadata: result.encode_to_vec().into() }
        });
        Ok(Response::new(stream::once(answer).boxed()))
    }

    async fn do_put_statement_ingest(
        &self,
        command: CommandStatementIngest,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let less = |left: u64| left.checked_sub(1);
        if self.2.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
            return Err(match command.table.as_str() {
                "expired" => Status::unauthenticated("UNAUTHENTICATED: the token has expired"),
                "unknown" => Status::unknown("COMMIT_UNKNOWN: look before sending again"),
                _ => Status::unavailable("ENGINE_DOWN: try again in a moment"),
            });
        }
        self.clone().drain(request.into_inner()).await
    }

    async fn do_put_statement_update(
        &self,
        _command: CommandStatementUpdate,
        _request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        Ok(7)
    }

    async fn register_sql_info(&self, _id: i32, _result: &SqlInfo) {}
}
