//! The first bytes of a connection: whoever connects has to say something, and soon.
//!
//! The HTTP/2 library waits for its preface for ever, and begins to ask for signs of life only behind it. So a
//! client that sends nothing, or half of it, would keep its place among the connections.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

/// Bytes of HTTP/2's preface. A client that begins with TLS has sent more when it has begun.
const PREFACE: usize = 24;

/// What a connection still has to say.
pub(crate) struct Greeting {
    missing: usize,
    deadline: Pin<Box<Sleep>>,
}

impl Greeting {
    /// To be said within this time.
    pub(crate) fn within(patience: Duration) -> Self {
        Self { missing: PREFACE, deadline: Box::pin(sleep(patience)) }
    }

    /// Takes note of so many bytes; true when it is complete.
    pub(crate) fn heard(&mut self, bytes: usize) -> bool {
        self.missing = self.missing.saturating_sub(bytes);
        self.missing == 0
    }

    /// Pending while there is time.
    pub(crate) fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        self.deadline
            .as_mut()
            .poll(context)
            .map(|()| io::Error::new(io::ErrorKind::TimedOut, "the connection did not begin in time"))
    }
}
