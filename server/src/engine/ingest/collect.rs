//! The beginning of an upload, which is collected in memory: mostly all of it.

use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::time::error::Elapsed;

use super::{Arrived, Collected};
use crate::engine::{Engine, Error, Result};

/// Messages without rows are a sign of life, but for no longer than so many times the patience with a client that sends
/// nothing: whoever keeps a place has to use it.
const WITHOUT_ROWS: u32 = 5;

impl Engine {
    /// Collects an upload until it is complete, or larger than what is collected.
    pub(super) async fn collect(
        &self,
        loader: u64,
        batches: &mut (impl Stream<Item = Result<Arrived>> + Unpin),
    ) -> Result<Collected> {
        let mut collected = Collected::nothing(self.reservation(loader));
        let mut no_room = false;
        while !self.is_bulk(&collected) {
            let may_be_in_the_way = no_room && collected.rows > 0;
            let next = self.next_arrived(batches, &mut no_room);
            let next = match may_be_in_the_way {
                true => tokio::time::timeout(self.grace(), next).await,
                false => Ok(next.await),
            };
            collected.in_the_way = next.is_err();
            let Ok(next) = next else { break };
            let Some(arrived) = next? else { break };
            if let Arrived::Rows(rows) = arrived {
                collected.add(rows).await?;
            }
        }
        Ok(collected)
    }

    /// How long what is collected may stay while the rest of its upload waits for room. Most find some soon; but where all
    /// wait for what all hold, somebody has to go on without it.
    fn grace(&self) -> Duration {
        const LONGEST: Duration = Duration::from_secs(1);
        LONGEST.min(self.shared.options.wait / 2)
    }

    /// Whether an upload is written piece by piece, of which so much has been collected.
    pub(super) fn is_bulk(&self, collected: &Collected) -> bool {
        collected.in_the_way || collected.bytes > self.collected_at_most()
    }

    /// An upload larger than this is not collected any further.
    fn collected_at_most(&self) -> usize {
        self.shared.options.bulk_bytes.min(self.shared.budget.collectable())
    }

    /// The next rows of an upload, unless its client stalls. What has `no_room`, which is kept here from one call to the
    /// next, is its client's to send only once there is some.
    pub(in crate::engine) async fn next_arrived(
        &self,
        batches: &mut (impl Stream<Item = Result<Arrived>> + Unpin),
        no_room: &mut bool,
    ) -> Result<Option<Arrived>> {
        let patience: Duration = self.shared.options.stall_timeout;
        let longest = match *no_room {
            // The wait, the message that waited, and one more, should that be none with rows.
            true => self.shared.options.wait + 2 * patience,
            false => patience,
        };
        let next = async {
            loop {
                match tokio::time::timeout(longest, batches.next()).await? {
                    Some(Ok(Arrived::Rows(rows))) if rows.batch.num_rows() == 0 => {}
                    next => return Ok::<_, Elapsed>(next),
                }
            }
        };
        let Ok(Ok(next)) = tokio::time::timeout(longest.saturating_mul(WITHOUT_ROWS), next).await else {
            return Err(Error::Stalled(patience));
        };
        *no_room = matches!(next, Some(Ok(Arrived::NoRoom)));
        next.transpose()
    }
}
