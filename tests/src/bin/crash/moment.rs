//! When the server is killed.

use crate::numbers::Numbers;

/// A kind of moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Some time after the loaders have begun again.
    Load,
    /// While it writes its log into the database file.
    Checkpoint,
    /// In the middle of a bulk upload.
    BulkUpload,
    /// Under load, and then while it starts and reads its log: three times.
    StartUp,
}

impl Moment {
    /// All kinds, in the order of the table.
    pub(crate) const ALL: [Self; 4] = [Self::Load, Self::Checkpoint, Self::BulkUpload, Self::StartUp];

    /// The moment of a round: each kind in turn, and then any.
    pub(crate) fn of_round(round: u32, numbers: &mut Numbers) -> Self {
        let any = numbers.below(4) as usize;
        Self::ALL.get(round as usize % 5).copied().unwrap_or(Self::ALL[any])
    }

    /// As the table calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Load => "under load",
            Self::Checkpoint => "in a checkpoint",
            Self::BulkUpload => "in a bulk upload",
            Self::StartUp => "at start-up",
        }
    }

    /// The server's option for a round that ends so, in bytes. A small size makes it checkpoint several times a
    /// second; a large one leaves it a log that takes a while to read.
    pub(crate) fn checkpoint_size(self) -> u64 {
        match self {
            Self::Checkpoint => 1 << 20,
            Self::Load | Self::BulkUpload => 16 << 20,
            Self::StartUp => 1 << 30,
        }
    }
}
