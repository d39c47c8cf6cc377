//! The dictionaries that the decoder of an upload keeps for rows to come, in the memory for uploads.

use std::collections::HashMap;

use arrow_flight::FlightData;

use super::delivered::Delivered;
use crate::engine::{Error, Share};

/// Small dictionaries need no room up to so many bytes, so that uploads that take all of it keep none from beginning.
const SMALL_BYTES: usize = 1 << 20;

/// What the decoder has been given to keep.
#[derive(Default)]
pub(super) struct Dictionaries {
    by_id: HashMap<i64, Kept>,
    /// All that they have,
    bytes: usize,
    /// and what of it has no room.
    beside: usize,
}

/// A dictionary with what was added to it.
#[derive(Default)]
struct Kept {
    bytes: usize,
    beside: usize,
    rooms: Vec<Share>,
}

/// A message that is a dictionary.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dictionary {
    id: i64,
    /// It adds to the one that is there.
    adds: bool,
    bytes: usize,
}

impl Dictionary {
    /// What a message brings, if it brings one.
    pub(super) fn of(message: &FlightData) -> Option<Self> {
        let bytes = message.data_header.len() + message.data_body.len();
        let message = arrow_ipc::root_as_message(&message.data_header).ok()?;
        let dictionary = message.header_as_dictionary_batch()?;
        Some(Self { id: dictionary.id(), adds: dictionary.isDelta(), bytes })
    }
}

impl Dictionaries {
    /// Keeps what a dictionary's message holds, or makes room for it, as long as the decoder has the dictionary.
    ///
    /// # Errors
    /// [`Error::BadArrow`] when all of them are too large, [`Error::QueueFull`] when there is no room.
    pub(super) fn keep(
        &mut self,
        dictionary: Dictionary,
        room: Option<Share>,
        delivered: &Delivered,
    ) -> Result<(), Error> {
        let Dictionary { id, adds, bytes } = dictionary;
        if !adds && let Some(replaced) = self.by_id.remove(&id) {
            self.bytes -= replaced.bytes;
            self.beside -= replaced.beside;
        }
        let room = room.or_else(|| delivered.room(bytes));
        let beside = if room.is_some() { 0 } else { bytes };
        let kept = self.by_id.entry(id).or_default();
        kept.bytes += bytes;
        kept.beside += beside;
        kept.rooms.extend(room);
        self.bytes += bytes;
        self.beside += beside;
        if self.bytes > delivered.kept_at_most() {
            let text = "the dictionaries of the upload are too large for the server's memory for uploads; send plain \
                        columns";
            return Err(Error::BadArrow(text.into()));
        }
        if self.beside > SMALL_BYTES {
            return Err(Error::QueueFull);
        }
        Ok(())
    }
}
