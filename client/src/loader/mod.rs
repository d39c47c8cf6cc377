//! A loader: many units over one stream, none lost and none repeated.

mod backlog;
mod ledger;
mod options;
mod stream;
mod unit;

use std::sync::Arc;

use arrow_array::RecordBatch;
use tokio::task::JoinHandle;

pub use self::{
    backlog::Acknowledged,
    ledger::Committed,
    options::{LoaderOptions, Start, Window},
};
use self::{backlog::Backlog, stream::Sender, unit::Unit};
use crate::{Client, Error, IngestKey, TablePath, ingest::target, retry::Retries};

/// Sends numbered units to one table over one stream, many of them at once on their way.
///
/// Each [`send`](Self::send) is one atomic unit with a key of its own. When the connection breaks, the server is
/// started again, or asks to wait, the loader opens another stream and sends again what is not acknowledged, with
/// the same keys; the server's ledger tells what it has already. So every unit is stored once.
///
/// Call [`finish`](Self::finish) at the end: a loader that is dropped leaves open what became of the units that were
/// not acknowledged. The next one, with [`Start::Resume`], goes on where the ledger stands.
///
/// ```no_run
/// use merganser::{Client, Error, Loader, LoaderOptions, TablePath};
/// # use arrow_array::RecordBatch;
/// # fn unit(sequence: u64) -> Option<RecordBatch> { None }
///
/// # async fn example() -> Result<(), Error> {
/// let client = Client::connect("grpc://127.0.0.1:8815").await?;
/// let table = TablePath::new("measurements");
/// let mut loader = Loader::open(&client, &table, LoaderOptions::new("plant-7")).await?;
/// // The source must be able to go on from any unit: after a crash, this is where the last one stopped.
/// while let Some(batch) = unit(loader.next_sequence()) {
///     loader.send(vec![batch]).await?;
/// }
/// let acknowledged = loader.finish().await?;
/// println!("{} rows are on disk", acknowledged.rows);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Loader {
    options: LoaderOptions,
    epoch: u64,
    next: u64,
    committed: Option<Committed>,
    backlog: Arc<Backlog>,
    sending: JoinHandle<()>,
}

impl Loader {
    /// Begins to load into `table`. The stream itself is opened with the first unit.
    ///
    /// # Errors
    /// [`Error::Usage`] for options that make no sense; those of [`Client::committed`] when the ledger has to be
    /// asked, which is for [`Start::Resume`] and for an epoch that is not given.
    pub async fn open(client: &Client, table: &TablePath, options: LoaderOptions) -> Result<Self, Error> {
        options.check()?;
        let target = target(table, &options.ingest())?;
        // A unit has a key, and to ask the ledger twice does no harm either.
        let retries = || Retries::new(options.retry, true).telling(options.on_trouble.clone());
        let committed = match (options.position, options.epoch) {
            (Start::At(_), Some(_)) => None,
            _ => retries().run(client, || client.committed(&options.name, table.catalog())).await?,
        };
        let backlog = Arc::new(Backlog::new());
        let sender = Sender { client: client.clone(), target, retries: retries(), backlog: backlog.clone() };
        Ok(Self {
            epoch: options.epoch.unwrap_or_else(|| committed.map_or(1, |last| last.epoch + 1)),
            next: match options.position {
                Start::At(sequence) => sequence,
                Start::Resume => committed.map_or(1, |last| last.sequence + 1),
            },
            committed,
            backlog,
            sending: tokio::spawn(sender.run()),
            options,
        })
    }

    /// Sends the next unit, and returns its sequence number as soon as there is room for it in the window. Waits
    /// while the window is full. A batch without rows is a unit, too: it skips a number.
    ///
    /// # Errors
    /// [`Error::Unit`] with the first unit that is not acknowledged and the reason; then the loader is at its end,
    /// and every other call returns the same. [`Error::Usage`] for no batches at all, or batches of different
    /// columns: the unit is not sent, and the loader goes on.
    pub async fn send(&mut self, batches: Vec<RecordBatch>) -> Result<u64, Error> {
        let sequence = self.next;
        self.push(self.epoch, sequence, batches).await?;
        self.next += 1;
        Ok(sequence)
    }

    /// Sends the last committed unit of an earlier life of the loader once more, before any other: the server takes
    /// it for a duplicate if it is the same, and so proves that the input goes on where it stopped. Another one ends
    /// the loader with `KEY_REUSED`.
    ///
    /// # Errors
    /// Those of [`send`](Self::send), and [`Error::Usage`] where there is no such unit, or others were sent before.
    pub async fn send_last_again(&mut self, batches: Vec<RecordBatch>) -> Result<u64, Error> {
        let last = self.committed.filter(|last| last.sequence + 1 == self.next && self.nothing_sent());
        let Some(Committed { epoch, sequence }) = last else {
            return Err(Error::Usage("there is no unit to send again".to_owned()));
        };
        // With the key that it has, so that it does not begin a new epoch.
        self.push(epoch, sequence, batches).await?;
        Ok(sequence)
    }

    async fn push(&self, epoch: u64, sequence: u64, batches: Vec<RecordBatch>) -> Result<(), Error> {
        let key = IngestKey::new(&self.options.name, epoch, sequence);
        self.backlog.push(Unit::encode(key, batches).await?, self.options.window).await
    }

    fn nothing_sent(&self) -> bool {
        let nothing = self.backlog.acknowledged() == Acknowledged::default();
        nothing && self.backlog.waiting().is_none()
    }

    /// Which life of the loader this is.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Sequence number of the next unit.
    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    /// The last unit that the ledger had when the loader was opened; none when it had none or was not asked.
    pub fn committed(&self) -> Option<Committed> {
        self.committed
    }

    /// What is acknowledged so far: it is on disk.
    pub fn acknowledged(&self) -> Acknowledged {
        self.backlog.acknowledged()
    }

    /// Waits until all units that were sent are acknowledged.
    ///
    /// # Errors
    /// Those of [`send`](Self::send).
    pub async fn flush(&mut self) -> Result<Acknowledged, Error> {
        self.backlog.flushed().await?;
        Ok(self.backlog.acknowledged())
    }

    /// Waits until all units are acknowledged, and ends the stream.
    ///
    /// # Errors
    /// Those of [`send`](Self::send).
    pub async fn finish(mut self) -> Result<Acknowledged, Error> {
        self.backlog.finish();
        let acknowledged = self.flush().await?;
        // Ends by itself now; a sender that had panicked would have left units behind.
        let _ = (&mut self.sending).await;
        Ok(acknowledged)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // A stream that is cut between two units, or within one, leaves no half of one behind.
        self.sending.abort();
    }
}
