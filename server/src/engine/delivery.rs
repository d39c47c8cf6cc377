//! From a query's thread to its client: fetch, coalesce, send, and wait for room on the way.

use std::{path::Path, sync::Arc, time::Duration};

use arrow_array::RecordBatch;
use tokio::{runtime::Handle, sync::mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    Engine, Error, Result,
    activity::{self, RunningStatement, State, StateOf},
    batch_stream::Cancel,
    coalesce::Coalescer,
    error::Class,
    ffi::Rows,
    outlet::{self, Inlet, Outlet},
    spool::Spool,
    types::Wire,
    wanted::Watch,
};

/// The way to one client.
pub(crate) struct Delivery {
    pub(crate) cancel: Cancel,
    send: Inlet,
    runtime: Handle,
    /// Cancelled when the rows will never come, because the instance that computes them has failed.
    failure: CancellationToken,
    /// How long the client may take nothing before it loses its place.
    patience: Duration,
    /// What the rows are of, where anybody can look at it.
    statement: Option<Arc<RunningStatement>>,
}

/// What became of a batch that was to be sent.
enum Sent {
    Yes,
    /// The connection is needed for something else; the batch comes back.
    NotNow(RecordBatch),
}

impl Engine {
    /// The way to the client of a statement that `cancel` stops, and the end at which its rows come out.
    pub(super) fn delivery(&self, cancel: &Cancel) -> (Delivery, Outlet) {
        let (send, batches) = outlet::channel();
        let delivery = Delivery {
            cancel: cancel.clone(),
            send,
            runtime: Handle::current(),
            failure: self.shared.database.failure(),
            patience: self.shared.options.stall_timeout,
            statement: activity::current(),
        };
        (delivery, batches)
    }
}

impl Delivery {
    /// Sends all rows, waiting for the client where it is slow.
    pub(crate) fn send_all(&self, rows: Rows, wire: &Wire) -> Result<()> {
        self.each(rows, wire, |batch| self.send_batch(batch))
    }

    /// Sends rows until somebody else needs their connection; the rest is put aside, in `folder` where it
    /// is large, and returned.
    pub(crate) fn send_until_wanted(
        &self,
        rows: Rows,
        wire: &Wire,
        wanted: &mut Watch,
        folder: &Path,
    ) -> Result<Option<Spool>> {
        let mut aside: Option<Spool> = None;
        self.each(rows, wire, |batch| {
            if let Some(spool) = &mut aside {
                return if self.cancel.is_cancelled() { Err(cancelled()) } else { spool.push(batch) };
            }
            match self.send_unless(batch, wanted.wanted())? {
                Sent::Yes => Ok(()),
                Sent::NotNow(batch) => aside.insert(Spool::new(folder)).push(batch),
            }
        })?;
        Ok(aside)
    }

    /// Sends what was put aside.
    pub(crate) fn send_spooled(&self, spool: Spool) -> Result<()> {
        spool.into_batches()?.try_for_each(|batch| self.send_batch(batch?))
    }

    fn each(
        &self,
        mut rows: Rows,
        wire: &Wire,
        mut give: impl FnMut(RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let mut coalescer = Coalescer::new(wire.schema());
        while let Some(batch) = coalescer.fetch(&mut rows)? {
            if let Some(large) = coalescer.push(wire.convert(batch)?)? {
                give(large)?;
            }
        }
        coalescer.finish()?.map_or(Ok(()), give)?;
        // All of them are computed, and some may still wait for the client.
        if let Some(statement) = &self.statement {
            statement.set_state(State::Sending);
        }
        Ok(())
    }

    /// Hands a batch to the network, and waits for room there unless the read is to stop.
    fn send_batch(&self, batch: RecordBatch) -> Result<()> {
        self.send_unless(batch, std::future::pending()).map(drop)
    }

    /// Waits for room, but not for ever: whoever stalls would keep a place, a connection and a snapshot.
    async fn room(&self) -> Result<mpsc::Permit<'_, RecordBatch>> {
        loop {
            match tokio::time::timeout(self.patience, self.send.sender().reserve()).await {
                Ok(room) => return room.map_err(|_| cancelled()),
                Err(_) => {
                    let stalled = Error::NotTaken(self.patience);
                    // The rows end here, so their client must find the reason behind them.
                    if self.send.take_back(|| self.cancel.fail(stalled.clone())) {
                        return Err(stalled);
                    }
                }
            }
        }
    }

    /// The same, unless something else comes first.
    fn send_unless(&self, batch: RecordBatch, first: impl Future<Output = ()>) -> Result<Sent> {
        let Some(batch) = self.try_send(batch)? else { return Ok(Sent::Yes) };
        let _sending = StateOf::of(self.statement.clone(), State::Sending);
        self.runtime.block_on(async {
            tokio::select! {
                room = self.room() => {
                    room?.send(batch);
                    Ok(Sent::Yes)
                }
                () = first => Ok(Sent::NotNow(batch)),
                () = self.cancel.cancelled() => Err(cancelled()),
                () = self.failure.cancelled() => Err(Error::EngineDown),
            }
        })
    }

    /// Sends if there is room just now; gives the batch back if not.
    fn try_send(&self, batch: RecordBatch) -> Result<Option<RecordBatch>> {
        match self.send.sender().try_send(batch) {
            Ok(()) if self.cancel.is_cancelled() => Err(cancelled()),
            Ok(()) => Ok(None),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(cancelled()),
            Err(mpsc::error::TrySendError::Full(batch)) => Ok(Some(batch)),
        }
    }
}

pub(crate) fn cancelled() -> Error {
    Error::Duck { class: Class::Interrupted, message: "the query was cancelled".into() }
}
