//! The side of a long stream that keeps the units, and breaks the stream where a test wants it to.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use arrow_array::{ArrayRef, RecordBatch, UInt64Array};
use arrow_flight::{FlightData, PutResult, sql::server::PeekableFlightDataStream};
use futures::StreamExt;
use merganser::IngestAck;
use merganser_proto::IngestUnit;
use prost::Message;
use tokio::sync::{Semaphore, mpsc};
use tonic::{Code, Status};

/// How one stream ends before its time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Break {
    /// Units that are stored and acknowledged before.
    pub(crate) acknowledged: usize,
    /// Units that are stored after these, and never acknowledged.
    pub(crate) stored: usize,
    pub(crate) code: Code,
    pub(crate) message: &'static str,
}

/// What is stored, and what is to go wrong.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// One for each stream, until they run out.
    pub(crate) breaks: Mutex<VecDeque<Break>>,
    /// Keys of the units of each stream.
    pub(crate) streams: Mutex<Vec<Vec<String>>>,
    /// Messages with rows of each unit that is stored.
    pub(crate) units: Mutex<BTreeMap<String, usize>>,
    /// An acknowledgement takes a permit.
    pub(crate) permits: Semaphore,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            breaks: Mutex::default(),
            streams: Mutex::default(),
            units: Mutex::default(),
            permits: Semaphore::new(1000),
        }
    }
}

type Answer = Result<PutResult, Status>;

impl Ledger {
    /// Takes one stream, and answers it unit by unit.
    pub(crate) fn answer(self: Arc<Self>, upload: PeekableFlightDataStream) -> mpsc::Receiver<Answer> {
        let (answers, receiver) = mpsc::channel(100);
        tokio::spawn(async move {
            let next = self.breaks.lock().unwrap().pop_front();
            self.streams.lock().unwrap().push(Vec::new());
            if let Err(status) = self.take(upload, next, &answers).await {
                let _ = answers.send(Err(status)).await;
            }
        });
        receiver
    }

    async fn take(
        &self,
        mut upload: PeekableFlightDataStream,
        stop: Option<Break>,
        answers: &mpsc::Sender<Answer>,
    ) -> Result<(), Status> {
        // The first message is the schema.
        upload.next().await.unwrap()?;
        let mut units = 0;
        let mut messages = 0;
        let due = |units| stop.filter(|stop| units == stop.acknowledged + stop.stored);
        loop {
            if let Some(stop) = due(units) {
                return Err(Status::new(stop.code, stop.message));
            }
            let Some(message) = upload.next().await else { return Ok(()) };
            let message: FlightData = message?;
            let unit = IngestUnit::decode(message.app_metadata).unwrap();
            messages += usize::from(!message.data_header.is_empty());
            if unit.more {
                continue;
            }
            units += 1;
            self.streams.lock().unwrap().last_mut().unwrap().push(unit.key.clone());
            let sequence = unit.key.rsplit('/').next().unwrap().parse().unwrap();
            let duplicate = self.units.lock().unwrap().insert(unit.key, messages).is_some();
            messages = 0;
            if stop.is_some_and(|stop| units > stop.acknowledged) {
                continue;
            }
            self.permits.acquire().await.unwrap().forget();
            let ack = IngestAck { rows: 3, commit_id: sequence, duplicate, sequence, ..IngestAck::default() };
            let _ = answers.send(Ok(PutResult { app_metadata: ack.encode_to_vec().into() })).await;
        }
    }

    /// What `merganser_ingest()` tells of the loader "known".
    pub(crate) fn row() -> RecordBatch {
        let column = |value| -> ArrayRef { Arc::new(UInt64Array::from(vec![value])) };
        RecordBatch::try_from_iter([("epoch", column(4)), ("sequence", column(17))]).unwrap()
    }
}
