//! The way to the writer.

use std::{
    sync::{Arc, mpsc},
    thread,
};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use super::{
    BulkCommit, Unit,
    actor::Actor,
    checkpoint::Sizes,
    command::{Command, Held},
};
use crate::engine::{Error, Options, Result, clock::CommitClock, database::Database, ingest::Ack, permit};

/// Sends commands to the writer's thread. The channel has no bound of its own: the slots have, and a slot
/// is taken before anything is sent.
pub(crate) struct WriterHandle {
    commands: Mutex<Option<mpsc::Sender<Command>>>,
    slots: Arc<Semaphore>,
    wait: std::time::Duration,
}

impl WriterHandle {
    /// Starts the thread, which opens its connection itself and reports the result.
    pub(crate) fn spawn(database: Arc<Database>, clock: Arc<CommitClock>, options: &Options) -> Result<Self> {
        let (commands, received) = mpsc::channel();
        let (report, opened) = mpsc::channel();
        let sizes = Sizes { checkpoint: options.checkpoint_bytes, limit: options.wal_limit_bytes };
        thread::Builder::new()
            .name("writer".into())
            .spawn(move || match database.private_connection() {
                Ok(connection) => {
                    let _ = report.send(Ok(()));
                    Actor::new(database, connection, clock, sizes).run(&received);
                }
                Err(error) => drop(report.send(Err(error))),
            })
            .map_err(|error| Error::Internal(format!("the writer's thread cannot start: {error}")))?;
        opened.recv().map_err(|_| Error::Internal("the writer's thread ended at once".into()))??;
        Ok(Self {
            commands: Mutex::new(Some(commands)),
            slots: Arc::new(Semaphore::new(options.queue_units)),
            wait: options.wait,
        })
    }

    /// Queues a unit and waits until it is committed or refused.
    pub(crate) async fn append(&self, mut unit: Unit, answer: oneshot::Receiver<Result<Ack>>) -> Result<Ack> {
        self.take_slot(&mut unit.held).await?;
        self.send(Command::Unit(Box::new(unit)))?;
        answered(answer).await
    }

    /// Queues the COMMIT of a bulk upload and waits for it.
    pub(crate) async fn commit(
        &self,
        mut bulk: BulkCommit,
        answer: oneshot::Receiver<Result<Ack>>,
    ) -> Result<Ack> {
        self.take_slot(&mut bulk.held).await?;
        self.send(Command::Bulk(Box::new(bulk)))?;
        answered(answer).await
    }

    async fn take_slot(&self, held: &mut Held) -> Result<()> {
        held.slot = Some(permit::take(&self.slots, 1, self.wait, || Error::QueueFull).await?);
        Ok(())
    }

    fn send(&self, command: Command) -> Result<()> {
        match &*self.commands.lock() {
            Some(commands) => commands.send(command).map_err(|_| Error::Stopping),
            None => Err(Error::Stopping),
        }
    }

    /// Lets the writer finish what it has accepted, then ends it.
    pub(crate) async fn shutdown(&self) {
        let Some(commands) = self.commands.lock().take() else {
            return;
        };
        let (done, ended) = oneshot::channel();
        if commands.send(Command::Shutdown(done)).is_ok() {
            let _ = ended.await;
        }
    }
}

async fn answered(answer: oneshot::Receiver<Result<Ack>>) -> Result<Ack> {
    answer.await.unwrap_or_else(|_| Err(Error::CommitUnknown("the writer ended before it answered".into())))
}
