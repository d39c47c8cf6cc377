//! What the body of an upload tells its reader, past the decoder of messages between them: the memory that each message
//! holds, whether the next one waits for some, and why there is none.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use http_body_util::BodyExt;
use parking_lot::Mutex;
use tonic::{Request, body::Body};

use crate::engine::{Arriving, Error, Share};

/// Between the body of one request and its reader. Clones are the same one.
#[derive(Clone, Default)]
pub(super) struct Delivered {
    state: Arc<Mutex<State>>,
    /// Where messages get their memory from; `None` where nobody counts it.
    arriving: Option<Arriving>,
}

#[derive(Default)]
struct State {
    /// Messages that have begun, and those that were read.
    begun: u64,
    read: u64,
    /// What messages hold that have begun and were not read, by their numbers; small ones hold nothing.
    rooms: VecDeque<(u64, Share)>,
    /// The next message waits for room,
    waits: bool,
    /// which its reader has not been told.
    untold: bool,
    refusal: Option<Refusal>,
    rest: Option<Body>,
}

/// Why a body is not read any further.
#[derive(Debug, Clone, Copy)]
pub(super) enum Refusal {
    /// There was no room for a message in time.
    NoRoom,
    /// A message has begun, and the rest has not come in so long.
    Stalled(Duration),
    /// A message is larger than any of its kind.
    TooLarge,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoRoom => Self::QueueFull,
            Refusal::Stalled(patience) => Self::Stalled(patience),
            Refusal::TooLarge => Self::MessageTooLarge,
        }
    }
}

impl Delivered {
    /// That of a request.
    pub(super) fn of<T>(request: &Request<T>) -> Self {
        request.extensions().get().cloned().unwrap_or_default()
    }

    /// For the body of a request whose messages get their memory from there.
    pub(super) fn from(arriving: Arriving) -> Self {
        Self { arriving: Some(arriving), ..Self::default() }
    }

    /// The body: a message begins, and holds `room`.
    pub(super) fn begin(&self, room: Option<Share>) {
        let mut state = self.state.lock();
        let number = state.begun;
        state.begun += 1;
        state.rooms.extend(room.map(|room| (number, room)));
        (state.waits, state.untold) = (false, false);
    }

    /// The body: the next message waits for room.
    pub(super) fn wait(&self) {
        let mut state = self.state.lock();
        (state.waits, state.untold) = (true, true);
    }

    /// The body: no more of it comes.
    pub(super) fn refuse(&self, refusal: Refusal, rest: Body) {
        let mut state = self.state.lock();
        state.refusal = Some(refusal);
        // Who has stalled sends nothing that could be read.
        state.rest = Some(rest).filter(|_| !matches!(refusal, Refusal::Stalled(_)));
        (state.waits, state.untold) = (false, false);
    }

    /// The reader: what the message holds that has just been read.
    pub(super) fn read(&self) -> Option<Share> {
        let mut state = self.state.lock();
        let number = state.read;
        state.read += 1;
        match state.rooms.front() {
            Some((first, _)) if *first == number => state.rooms.pop_front().map(|(_, room)| room),
            _ => None,
        }
    }

    /// The reader: room for something small that it keeps, if there is any just now.
    pub(super) fn room(&self, bytes: usize) -> Option<Share> {
        self.arriving.as_ref()?.try_take(bytes)
    }

    /// The reader: how many bytes it may keep for as long as it reads.
    pub(super) fn kept_at_most(&self) -> usize {
        self.arriving.as_ref().map_or(usize::MAX, Arriving::kept_at_most)
    }

    /// The reader: whether the next message waits for room. That is not its sender's time.
    pub(super) fn waits(&self) -> bool {
        self.state.lock().waits
    }

    /// The reader: whether it waits for room, once for each time that it does.
    pub(super) fn begins_to_wait(&self) -> bool {
        std::mem::take(&mut self.state.lock().untold)
    }

    /// The reader: why no more came.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.state.lock().refusal
    }

    /// The reader: reads what is left of a body that was refused, and keeps nothing. Its sender would otherwise see a
    /// broken pipe in place of the reason.
    pub(super) async fn drain(&self) {
        let rest = self.state.lock().rest.take();
        if let Some(mut rest) = rest {
            while let Some(Ok(_)) = rest.frame().await {}
        }
    }
}
