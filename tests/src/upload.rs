//! Uploads that a test feeds by hand, to stop in the middle.

use arrow_array::RecordBatch;
use arrow_flight::{
    FlightData, FlightDescriptor, PutResult, flight_service_client::FlightServiceClient,
    utils::batches_to_flight_data,
};
use arrow_schema::SchemaRef;
use futures::{TryStreamExt, channel::mpsc};
use merganser::{Client, Error, IngestAck, IngestMode, TablePath};
use tokio::task::JoinHandle;
use tonic::{Status, transport::Channel};

use crate::soon;

/// An upload by our own client. It goes on until it is finished or abandoned.
pub struct Upload {
    rows: mpsc::UnboundedSender<Result<RecordBatch, Error>>,
    answer: JoinHandle<Result<IngestAck, Error>>,
}

impl Upload {
    /// Begins to send rows of this schema to a table, which is created if it is missing.
    pub fn start(client: &Client, table: &str, schema: SchemaRef) -> Self {
        Self::with_mode(client, table, schema, IngestMode::CreateOrAppend)
    }

    /// As [`Upload::start`], in a mode of the test's own.
    pub fn with_mode(client: &Client, table: &str, schema: SchemaRef, mode: IngestMode) -> Self {
        let (rows, sent) = mpsc::unbounded();
        let (client, table) = (client.clone(), TablePath::new(table));
        let answer = tokio::spawn(async move { client.ingest(&table, mode, schema, sent).await });
        Self { rows, answer }
    }

    /// Sends a batch. A refusal shows in the answer only.
    pub fn send(&self, batch: RecordBatch) {
        let _ = self.rows.unbounded_send(Ok(batch));
    }

    /// Whether the server has answered.
    pub fn is_answered(&self) -> bool {
        self.answer.is_finished()
    }

    /// Says that there are no more rows, and waits for the answer.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn finish(self) -> Result<IngestAck, Error> {
        drop(self.rows);
        soon("the answer to an upload", self.answer).await.expect("the upload's task does not panic")
    }

    /// Waits for the answer of a server that has heard enough.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn refusal(self) -> Result<IngestAck, Error> {
        soon("the answer to an upload", self.answer).await.expect("the upload's task does not panic")
    }

    /// Goes away in the middle, as our own client does it: the request fails.
    pub async fn abandon(self) {
        self.answer.abort();
        let _ = self.answer.await;
    }
}

/// An upload message by message, as any other client would send it.
pub struct RawUpload {
    messages: mpsc::UnboundedSender<FlightData>,
    answer: JoinHandle<Result<Vec<PutResult>, Status>>,
}

impl RawUpload {
    /// Opens a DoPut on this connection.
    pub fn start(mut flight: FlightServiceClient<Channel>) -> Self {
        let (messages, sent) = mpsc::unbounded();
        let answer = tokio::spawn(async move { flight.do_put(sent).await?.into_inner().try_collect().await });
        Self { messages, answer }
    }

    /// Sends one message.
    pub fn send(&self, message: FlightData) {
        let _ = self.messages.unbounded_send(message);
    }

    /// Whether the server has answered.
    pub fn is_answered(&self) -> bool {
        self.answer.is_finished()
    }

    /// Ends the stream and waits for the answer.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn finish(self) -> Result<Vec<PutResult>, Status> {
        drop(self.messages);
        soon("the answer to an upload", self.answer).await.expect("the upload's task does not panic")
    }

    /// Waits for the answer of a server that has heard enough.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn refusal(self) -> Result<Vec<PutResult>, Status> {
        soon("the answer to an upload", self.answer).await.expect("the upload's task does not panic")
    }

    /// Cancels the call, as gRPC clients do when their program fails: an HTTP/2 RST_STREAM with CANCEL.
    pub async fn cancel(self) {
        self.answer.abort();
        let _ = self.answer.await;
        // Dropped, the stream of messages would end, and so the upload, well.
        std::mem::forget(self.messages);
    }
}

/// An upload to a table as its messages: the schema with the descriptor, then one for each batch.
pub fn messages(table: &str, batches: Vec<RecordBatch>) -> Vec<FlightData> {
    messages_at(&[table], batches)
}

/// The same to a table by its path.
pub fn messages_at(path: &[&str], batches: Vec<RecordBatch>) -> Vec<FlightData> {
    let schema = batches.first().expect("at least one batch").schema();
    let mut messages = batches_to_flight_data(&schema, batches).expect("batches of one schema");
    messages[0].flight_descriptor =
        Some(FlightDescriptor::new_path(path.iter().map(|part| (*part).to_owned()).collect()));
    messages
}
