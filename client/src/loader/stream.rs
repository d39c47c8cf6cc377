//! The long stream: one DoPut with many units, opened again whenever it breaks.

use std::{collections::VecDeque, sync::Arc};

use arrow_flight::{FlightData, FlightDescriptor};
use arrow_schema::SchemaRef;
use futures::{Stream, StreamExt, stream};
use merganser_proto::IngestAck;
use prost::Message;
use tokio::sync::watch;
use tonic::Status;

use super::{
    backlog::{Backlog, State},
    unit::opening,
};
use crate::{Client, Error, retry::Retries, upload};

/// Sends what is in the backlog until it is finished, or until there is no hope.
pub(super) struct Sender {
    pub(super) client: Client,
    pub(super) target: FlightDescriptor,
    pub(super) retries: Retries,
    pub(super) backlog: Arc<Backlog>,
}

impl Sender {
    pub(super) async fn run(mut self) {
        // A stream is opened for a unit only, so that a loader at rest does not keep dialling.
        while let Some(schema) = self.backlog.work().await {
            let before = self.backlog.acknowledged().units;
            let sent = self.send(schema).await;
            if self.backlog.acknowledged().units > before {
                self.retries.succeeded();
            }
            let Err(error) = sent else { continue };
            // Whatever it was, nothing is missing; if it lasts, the next unit will meet it.
            if self.backlog.waiting().is_none() {
                continue;
            }
            if let Err(error) = self.retries.wait_after(&self.client, error).await {
                self.backlog.fail(error);
                return;
            }
            self.backlog.retry();
        }
    }

    /// One stream: from the first unit that is not acknowledged, for as long as the columns stay the same.
    async fn send(&self, schema: SchemaRef) -> Result<(), Error> {
        let first = opening(&schema, self.target.clone()).await?;
        let units =
            Units { changes: self.backlog.subscribe(), schema, sent: None, messages: VecDeque::new() };
        let schema = units.schema.clone();
        let mut answers = upload::open(self.client.transport(), units.after(first)).await?;
        while let Some(answer) = answers.message().await? {
            let ack = IngestAck::decode(answer.app_metadata).map_err(|error| {
                Error::Protocol(format!("the acknowledgement cannot be decoded: {error}"))
            })?;
            self.backlog.acknowledge(&ack)?;
        }
        match self.backlog.waiting() {
            Some(waiting) if waiting.fields() == schema.fields() => {
                Err(Error::Disconnected("the server ended the stream before it acknowledged all".into()))
            }
            _ => Ok(()),
        }
    }
}

/// The request: the units of the backlog, as they come.
struct Units {
    changes: watch::Receiver<State>,
    schema: SchemaRef,
    sent: Option<u64>,
    /// Those of the unit that is being sent.
    messages: VecDeque<FlightData>,
}

impl Units {
    fn after(self, first: FlightData) -> impl Stream<Item = Result<FlightData, Status>> + Send + 'static {
        let units = stream::unfold(self, |mut units| async {
            let message = units.next().await?;
            Some((message, units))
        });
        stream::iter([Ok(first)]).chain(units)
    }

    async fn next(&mut self) -> Option<Result<FlightData, Status>> {
        if let Some(message) = self.messages.pop_front() {
            return Some(Ok(message));
        }
        let sent = self.sent;
        let ready = |state: &State| state.finished || state.after(sent).is_some();
        let Ok(state) = self.changes.wait_for(ready).await else {
            // The loader is gone: the request must not look as if it had been ended.
            return Some(Err(Status::aborted("the loader was dropped")));
        };
        let unit = state.after(sent).filter(|unit| unit.schema.fields() == self.schema.fields())?.clone();
        drop(state);
        self.sent = Some(unit.key.sequence);
        self.messages.extend(unit.messages.iter().cloned());
        self.messages.pop_front().map(Ok)
    }
}
