//! What the writer is asked to do.

use std::time::Instant;

use arrow_array::RecordBatch;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::engine::{
    Result,
    database::Pooled,
    ffi::Connection,
    gates::{Appending, Excluding},
    ingest::{Ack, Share},
    insert::Target,
    ledger::Keyed,
    open_writes::OpenWrite,
    turn::TurnPermit,
};

/// Everything that may be sent to the writer's thread.
pub(crate) enum Command {
    /// Append the rows of one upload, together with whatever else is waiting.
    Unit(Box<Unit>),
    /// Commit an upload that has appended on a connection of its own.
    Bulk(Box<BulkCommit>),
    /// Learn what other servers have committed.
    CatchUp(oneshot::Sender<Result<()>>),
    /// Make the ledger, so that a transaction that begins afterwards can write to it.
    MakeLedger(oneshot::Sender<Result<()>>),
    /// Look at a commit that has failed on the second thread.
    Settle,
    /// Finish what was accepted, checkpoint, and end.
    Shutdown(oneshot::Sender<()>),
}

/// One upload: all of its rows or none.
pub(crate) struct Unit {
    pub(crate) target: Target,
    pub(crate) batches: Vec<RecordBatch>,
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
    /// Creates or replaces the table first, in the same transaction. Such a unit holds the turn.
    pub(crate) create: Option<String>,
    /// Whose upload it is: one that just failed runs apart for a while.
    pub(crate) loader: u64,
    /// By what it is known when it is sent again.
    pub(crate) keyed: Option<Keyed>,
    /// When its last byte had come.
    pub(crate) received: Instant,
    pub(crate) answer: oneshot::Sender<Result<Ack>>,
    pub(crate) span: tracing::Span,
    pub(crate) held: Held,
}

/// Brings staged rows into their table, in the transaction that is open; again after that was rolled back.
pub(crate) type BringIn = Box<dyn Fn(&Connection) -> Result<()> + Send>;

/// How staged rows are brought into their table.
pub(crate) struct Enter {
    pub(crate) run: BringIn,
    /// Rows that are there are changed, so that it must not be committed beside another such upload.
    pub(crate) merges: bool,
}

/// An upload, or several that were staged together, whose rows only lack their COMMIT.
pub(crate) struct BulkCommit {
    /// With the transaction open, where there is nothing to enter; dropping it rolls back.
    pub(crate) connection: Pooled,
    /// What is still to be done in a transaction that the writer opens.
    pub(crate) enter: Option<Enter>,
    /// The table was created or replaced in the same transaction.
    pub(crate) creates: bool,
    /// The name of the table.
    pub(crate) table: String,
    pub(crate) parts: Vec<Part>,
    pub(crate) span: tracing::Span,
    pub(crate) held: Held,
}

/// One upload of a [`BulkCommit`].
pub(crate) struct Part {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
    /// Whose upload it is, where it has to be committed behind what came before. One that is merged has the turn, so that
    /// it had better not wait, and the ledger has been asked whether it comes too early.
    pub(crate) loader: Option<u64>,
    /// By what it is known when it is sent again.
    pub(crate) keyed: Option<Keyed>,
    /// When its last byte had come.
    pub(crate) received: Instant,
    /// Where it cannot be committed together with the others, [`Error::NotTogether`].
    ///
    /// [`Error::NotTogether`]: crate::engine::Error::NotTogether
    pub(crate) answer: oneshot::Sender<Result<Ack>>,
}

/// What an upload keeps until it is committed or refused; dropping it lets the next one go on.
#[expect(dead_code, reason = "the fields are there to be dropped")]
pub(crate) struct Held {
    /// Bytes of the ingest budget.
    pub(crate) budget: Option<Share>,
    /// The place in the queue.
    pub(crate) slot: Option<Share>,
    /// Keeps ALTER and DROP away.
    pub(crate) appending: Option<Appending>,
    /// Keeps appends away, where the upload replaces its table.
    pub(crate) alone: Excluding,
    /// The place of a bulk upload.
    pub(crate) place: Option<OwnedSemaphorePermit>,
    /// Its transaction among the open writes.
    pub(crate) open: Option<OpenWrite>,
    /// The turn, where the upload changes what tables there are. It outlives what was excluded under it.
    pub(crate) turn: Option<TurnPermit>,
}

impl Held {
    /// Of an upload that keeps nothing from anybody yet.
    pub(crate) fn nothing() -> Self {
        Self {
            budget: None,
            slot: None,
            appending: None,
            alone: Excluding::default(),
            place: None,
            open: None,
            turn: None,
        }
    }
}
