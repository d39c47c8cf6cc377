//! The loaders: each sends one unit after the other, every one until it is acknowledged, whatever becomes of the
//! server meanwhile, and reports each acknowledgement to the judge. Those that are here send a unit a call.

use std::{
    io::Write,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use arrow_flight::{FlightData, flight_service_client::FlightServiceClient};
use clap::Args;
use futures::{Stream, StreamExt, future::try_join_all};
use merganser::{Error, IngestAck};
use merganser_tests::put_streamed;
use tokio::{io::AsyncWriteExt, net::UnixStream, sync::watch};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

use crate::{
    Failure, latest,
    numbers::mixed,
    report::{Answer, Report},
    stream,
    unit::{Kind, Unit},
};

/// The header with a unit's key.
const KEY: &str = "x-merganser-ingest-key";
/// The header with what rows are matched by.
const MERGE_KEYS: &str = "x-merganser-merge-keys";
/// One unit in so many is sent once more although it was acknowledged.
pub(crate) const REPEAT_EVERY: u64 = 16;
/// Between two attempts. A server that was killed is back within some hundred milliseconds.
pub(crate) const PAUSE: Duration = Duration::from_millis(15);
/// How long a bulk upload rests in its middle, so that there is a middle in which to kill.
const REST: Duration = Duration::from_millis(20);
/// How long a loader that was released goes on without a server.
pub(crate) const LEAVE: Duration = Duration::from_secs(10);
/// An answer that takes longer never comes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who the loaders of a process are.
#[derive(Debug, Args)]
pub(crate) struct Assignment {
    /// Where the server listens.
    server: String,
    /// Socket of the judge.
    judge: PathBuf,
    /// Number of the first loader.
    first: u64,
    /// How many there are.
    count: u64,
}

/// The part `loader`: loads until stdin ends, and then up to the acknowledgement of the units under way. Prints a
/// line whenever a bulk upload is in its middle.
pub(crate) async fn run(assignment: Assignment) -> Result<ExitCode, Failure> {
    let (release, released) = watch::channel(false);
    let stdin = {
        tokio::task::spawn_blocking(move || {
            // A stdin that cannot be read has no director behind it either.
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            release.send_replace(true);
        })
    };
    let mut loaders = Vec::new();
    for number in assignment.first..assignment.first + assignment.count {
        // Connects at the first call, and again after each crash.
        let channel = Endpoint::from_shared(assignment.server.clone())?.tcp_nodelay(true).connect_lazy();
        let loader = Loader {
            number,
            flight: FlightServiceClient::new(channel),
            judge: UnixStream::connect(&assignment.judge).await?,
            released: released.clone(),
            interrupted: false,
        };
        loaders.push(loader.load(&assignment.server));
    }
    try_join_all(loaders).await?;
    stdin.await?;
    Ok(ExitCode::SUCCESS)
}

/// One loader.
pub(crate) struct Loader {
    pub(crate) number: u64,
    flight: FlightServiceClient<Channel>,
    judge: UnixStream,
    /// Whether to begin no further unit.
    pub(crate) released: watch::Receiver<bool>,
    /// Whether the last unit took more than one attempt.
    interrupted: bool,
}

impl Loader {
    /// Loads until released, or until the server answers what no crash excuses.
    async fn load(self, server: &str) -> Result<(), Failure> {
        match Kind::of(self.number) {
            Kind::StreamedAppend => stream::load(self, server).await,
            _ => self.load_by_calls().await,
        }
    }

    async fn load_by_calls(mut self) -> Result<(), Failure> {
        for sequence in 1.. {
            if *self.released.borrow() {
                break;
            }
            let unit = Unit { loader: self.number, sequence };
            let Some(answer) = self.settled(unit).await? else { break };
            let interrupted = self.interrupted;
            self.report(&Report::Acknowledged(answer)).await?;
            // What was acknowledged before a crash is known after it, as is what was acknowledged just now.
            let again = if interrupted && sequence > 1 {
                Some(Unit { sequence: sequence - 1, ..unit })
            } else {
                mixed(self.number << 32 ^ sequence).is_multiple_of(REPEAT_EVERY).then_some(unit)
            };
            if let Some(again) = again {
                self.repeat(again).await?;
            }
        }
        Ok(())
    }

    /// Sends a unit once more that was acknowledged.
    pub(crate) async fn repeat(&mut self, unit: Unit) -> Result<(), Failure> {
        match self.settled(unit).await? {
            Some(answer) => self.report(&Report::Repeated(answer)).await,
            None => Ok(()),
        }
    }

    /// Sends a unit until it is acknowledged; `None` when it is refused for good, which the
    /// judge is told, or nobody is left.
    async fn settled(&mut self, unit: Unit) -> Result<Option<Answer>, Failure> {
        let messages = unit.messages()?;
        self.interrupted = false;
        let begun = Instant::now();
        loop {
            let error = match self.put(unit, messages.clone()).await {
                Ok(IngestAck { rows, commit_id, duplicate, .. }) => {
                    let Unit { loader, sequence } = unit;
                    return Ok(Some(Answer { loader, sequence, rows, commit: commit_id, duplicate }));
                }
                Err(error) => error,
            };
            if !may_be_sent_again(&error) {
                self.refused(unit.sequence, &error).await?;
                return Ok(None);
            }
            if *self.released.borrow() && begun.elapsed() > LEAVE {
                return Ok(None);
            }
            self.interrupted = true;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn put(&self, unit: Unit, messages: Vec<FlightData>) -> Result<IngestAck, Error> {
        let key = unit.key();
        let headers = [(KEY, &*key), (MERGE_KEYS, latest::KEYS)];
        let headers = if unit.kind().upserts() { &headers[..] } else { &headers[..1] };
        let put = put_streamed(&self.flight, headers, paced(unit, messages));
        match tokio::time::timeout(PATIENCE, put).await {
            Ok(answer) => answer.map_err(Error::from),
            Err(_) => Err(Error::Protocol("no answer came within a minute".into())),
        }
    }

    /// Tells the judge of an answer that no crash excuses.
    pub(crate) async fn refused(&mut self, sequence: u64, error: &Error) -> Result<(), Failure> {
        let (loader, error) = (self.number, error.to_string());
        self.report(&Report::Refused { loader, sequence, error }).await
    }

    pub(crate) async fn report(&mut self, report: &Report) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(report)?;
        line.push(b'\n');
        Ok(self.judge.write_all(&line).await?)
    }
}

/// The messages of a unit. In the middle of a bulk upload it rests, and the director is told.
fn paced(unit: Unit, messages: Vec<FlightData>) -> impl Stream<Item = FlightData> + Send + 'static {
    let middle = if unit.kind().is_bulk() { messages.len() / 2 } else { usize::MAX };
    futures::stream::iter(messages).enumerate().then(move |(at, message)| async move {
        if at == middle {
            // A director that has gone needs no word; stdin tells.
            let _ = writeln!(std::io::stdout(), "a bulk upload is under way");
            tokio::time::sleep(REST).await;
        }
        message
    })
}

/// Whether the unit may have failed because the server died or is not yet well.
fn may_be_sent_again(error: &Error) -> bool {
    match error {
        Error::Connect(_) | Error::Disconnected(_) => true,
        Error::Server { code: Code::Unavailable | Code::ResourceExhausted, .. } => true,
        Error::Server { code: Code::Aborted, slug, .. } => slug != "FENCED",
        _ => false,
    }
}
