//! An upload, handed piece by piece to the thread that writes it while the rest arrives.

use futures::Stream;
use tokio::sync::mpsc;

use super::{Arrived, Collected, fit::Fit};
use crate::engine::{Engine, Error, Result, append::Sink, disk::DiskRoom};

/// What goes to the thread that writes.
pub(super) enum Step {
    /// The next rows.
    Rows(Collected),
    /// There is no room in the budget: whatever is kept back must go now.
    MakeRoom,
    /// The upload is complete; without this step it is rolled back.
    Finish,
}

/// Appends what arrives until the upload is complete.
pub(super) fn append_pieces(
    mut sink: Sink<'_>,
    fit: &Fit,
    disk: &DiskRoom,
    steps: &mut mpsc::Receiver<Step>,
) -> Result<()> {
    loop {
        match steps.blocking_recv() {
            Some(Step::Rows(piece)) => {
                disk.check(piece.bytes as u64)?;
                let batches = fit.apply(piece.batches)?;
                batches.iter().try_for_each(|batch| sink.take(batch))?;
                drop((batches, piece.reserved));
            }
            Some(Step::MakeRoom) => {}
            Some(Step::Finish) => return sink.finish(),
            None => return Err(Error::Disconnected),
        }
    }
}

impl Engine {
    /// Cuts the upload into pieces of about `piece_bytes` and hands them over; returns the numbers of rows and
    /// bytes. Dropping `steps` before the end rolls the upload back.
    pub(super) async fn feed(
        &self,
        piece_bytes: usize,
        mut collected: Collected,
        batches: &mut (impl Stream<Item = Result<Arrived>> + Unpin + Send),
        steps: mpsc::Sender<Step>,
    ) -> Result<(usize, usize)> {
        let mut sent = Sent { steps, rows: 0, bytes: 0 };
        let mut no_room = collected.in_the_way;
        if no_room {
            sent.make_room(&mut collected).await;
        }
        while let Some(arrived) = self.next_arrived(batches, &mut no_room).await? {
            // What waits here holds its share of the budget; without room it must move on first.
            let waiting = match arrived {
                Arrived::Rows(rows) => collected.try_add(rows),
                Arrived::NoRoom => None,
            };
            if no_room || waiting.is_some() {
                sent.make_room(&mut collected).await;
            }
            if let Some(rows) = waiting {
                collected.add(rows).await?;
            }
            if collected.bytes >= piece_bytes {
                sent.piece(&mut collected).await;
            }
            if sent.steps.is_closed() {
                break;
            }
        }
        sent.piece(&mut collected).await;
        sent.step(Step::Finish).await;
        Ok((sent.rows, sent.bytes))
    }
}

/// What has been handed over so far.
struct Sent {
    steps: mpsc::Sender<Step>,
    rows: usize,
    bytes: usize,
}

impl Sent {
    /// Lets go of all that is held.
    async fn make_room(&mut self, collected: &mut Collected) {
        self.piece(collected).await;
        self.step(Step::MakeRoom).await;
    }

    async fn piece(&mut self, collected: &mut Collected) {
        let piece = collected.take();
        self.rows += piece.rows;
        self.bytes += piece.bytes;
        self.step(Step::Rows(piece)).await;
    }

    /// A closed channel means that writing failed; its own error says why.
    async fn step(&self, step: Step) {
        let _ = self.steps.send(step).await;
    }
}
