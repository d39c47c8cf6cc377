//! An upload as far as it is in memory.

use arrow_array::{Array, ArrayRef, RecordBatch, cast::AsArray};
use arrow_schema::DataType;

use super::{Budget, Rows, Share, Sharer};
use crate::engine::{Result, expansion::written_by_server};

/// The rows of an upload so far, and their share of the byte budget.
pub(super) struct Collected {
    sharer: Sharer,
    pub(super) batches: Vec<RecordBatch>,
    pub(super) rows: usize,
    pub(super) bytes: usize,
    pub(super) budget: Option<Share>,
    /// The rest waits for room, perhaps for what this holds.
    pub(super) in_the_way: bool,
}

impl Collected {
    /// Nothing so far, of an upload of this loader.
    pub(super) fn of(loader: u64) -> Self {
        Self::nothing(Sharer::new(loader))
    }

    fn nothing(sharer: Sharer) -> Self {
        Self { sharer, batches: Vec::new(), rows: 0, bytes: 0, budget: None, in_the_way: false }
    }

    /// The same rows once more; their share of the budget stays with the first copy.
    pub(super) fn copy(&self) -> Self {
        let Self { sharer, rows, bytes, .. } = *self;
        Self { batches: self.batches.clone(), rows, bytes, ..Self::nothing(sharer) }
    }

    /// Takes all of it out.
    pub(super) fn take(&mut self) -> Self {
        let nothing = Self::nothing(self.sharer);
        std::mem::replace(self, nothing)
    }

    /// Takes a batch in the place of its message, waiting for what it needs beyond that.
    pub(super) async fn add(&mut self, rows: Rows, budget: &Budget) -> Result<()> {
        let Rows { batch, room } = rows;
        let bytes = bytes_of(&batch);
        let share = match room {
            Some(mut share) => {
                budget.grow(&mut share, bytes).await?;
                share
            }
            None => budget.take(self.sharer, bytes).await?,
        };
        self.push(batch, share);
        Ok(())
    }

    /// Takes a batch if there is room for it just now; gives it back if not.
    pub(super) fn try_add(&mut self, rows: Rows, budget: &Budget) -> Option<Rows> {
        let Rows { batch, room } = rows;
        let bytes = bytes_of(&batch);
        let taken = match room {
            Some(mut share) => match budget.try_grow(&mut share, bytes) {
                true => Ok(share),
                false => Err(Some(share)),
            },
            None => budget.try_take(self.sharer, bytes).ok_or(None),
        };
        match taken {
            Ok(share) => {
                self.push(batch, share);
                None
            }
            Err(room) => Some(Rows { batch, room }),
        }
    }

    /// Takes all that `more` has.
    pub(super) fn extend(&mut self, more: Self) {
        self.batches.extend(more.batches);
        self.rows += more.rows;
        self.bytes += more.bytes;
        if let Some(share) = more.budget {
            share.join(&mut self.budget);
        }
    }

    /// Gives the first `rows` rows, and keeps the others with their share of the budget.
    pub(super) fn split_front(&mut self, rows: usize) -> Self {
        let mut front = self.take();
        let mut taken = 0;
        for batch in std::mem::take(&mut front.batches) {
            let here = batch.num_rows().min(rows - taken);
            taken += here;
            if here > 0 {
                front.batches.push(batch.slice(0, here));
            }
            if here < batch.num_rows() {
                let rest = batch.slice(here, batch.num_rows() - here);
                self.rows += rest.num_rows();
                self.bytes += bytes_of(&rest);
                self.batches.push(rest);
            }
        }
        front.rows -= self.rows;
        front.bytes = front.bytes.saturating_sub(self.bytes);
        self.budget = front.budget.as_mut().map(|share| share.split(self.bytes));
        front
    }

    fn push(&mut self, batch: RecordBatch, share: Share) {
        // What comes without room of its own belongs to the same upload.
        self.sharer = share.sharer();
        share.join(&mut self.budget);
        self.rows += batch.num_rows();
        self.bytes += bytes_of(&batch);
        if batch.num_rows() > 0 {
            self.batches.push(batch);
        }
    }
}

/// What a column takes besides its values: its arrays, and the message it came in.
const COLUMN_BYTES: usize = 64;

/// What a batch itself occupies, or will where the server writes it out: the columns of one message share its buffer,
/// which must not be counted once a column. Rows without values (of type null, say) count as well, because each is
/// written.
pub(crate) fn bytes_of(batch: &RecordBatch) -> usize {
    let column = |array: &ArrayRef| {
        let size = array.to_data().get_slice_memory_size().unwrap_or(0).saturating_add(view_bytes(array));
        let written = usize::try_from(written_by_server(array)).unwrap_or(usize::MAX);
        size.max(array.len()).max(written).saturating_add(COLUMN_BYTES)
    };
    batch.columns().iter().map(column).fold(0, usize::saturating_add)
}

/// What views refer to, which the size of their array leaves out. Where they are inside of something else, they may be
/// many more than the rows, and count with what is written out.
fn view_bytes(array: &ArrayRef) -> usize {
    match array.data_type() {
        DataType::Utf8View => array.as_string_view().lengths().map(|length| length as usize).sum(),
        DataType::BinaryView => array.as_binary_view().lengths().map(|length| length as usize).sum(),
        _ => 0,
    }
}
