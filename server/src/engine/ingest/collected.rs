//! An upload as far as it is in memory.

use arrow_array::{Array, ArrayRef, RecordBatch, cast::AsArray};
use arrow_schema::DataType;

use super::{Reservation, Rows};
use crate::engine::{Result, expansion::written_by_server};

/// The rows of an upload so far, and what they hold of the byte budget.
pub(super) struct Collected {
    pub(super) batches: Vec<RecordBatch>,
    pub(super) rows: usize,
    pub(super) bytes: usize,
    pub(super) reserved: Reservation,
    /// The rest waits for room, perhaps for what this holds.
    pub(super) in_the_way: bool,
}

impl Collected {
    /// Nothing so far, of an upload that has reserved this.
    pub(super) fn nothing(reserved: Reservation) -> Self {
        Self { batches: Vec::new(), rows: 0, bytes: 0, reserved, in_the_way: false }
    }

    /// The same rows once more; what they hold of the budget stays with the first copy.
    pub(super) fn copy(&self) -> Self {
        let Self { rows, bytes, .. } = *self;
        Self { batches: self.batches.clone(), rows, bytes, ..Self::nothing(self.reserved.beside()) }
    }

    /// Takes all of it out.
    pub(super) fn take(&mut self) -> Self {
        let nothing = Self::nothing(self.reserved.beside());
        std::mem::replace(self, nothing)
    }

    /// Takes a batch in the place of its message, waiting for what it needs beyond that.
    pub(super) async fn add(&mut self, rows: Rows) -> Result<()> {
        let Rows { batch, room } = rows;
        self.reserved.take_in(room, bytes_of(&batch)).await?;
        self.push(batch);
        Ok(())
    }

    /// Takes a batch if there is room for it just now; gives it back if not.
    pub(super) fn try_add(&mut self, rows: Rows) -> Option<Rows> {
        let Rows { batch, room } = rows;
        match self.reserved.try_take_in(room, bytes_of(&batch)) {
            Ok(()) => {
                self.push(batch);
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
        self.reserved.merge(more.reserved);
    }

    /// Gives the first `rows` rows, and keeps the others with what they hold of the budget.
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
        self.reserved = front.reserved.split(self.bytes);
        front
    }

    fn push(&mut self, batch: RecordBatch) {
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
