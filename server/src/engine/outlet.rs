//! The bounded channel from a query's thread to its client. What the client does not take can be taken back.

use std::{
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use arrow_array::RecordBatch;
use parking_lot::Mutex;
use tokio::sync::mpsc;

/// Batches that may wait between the query's thread and the network. With batches of about 2 MB this
/// bounds what a slow client can hold.
const BATCHES_IN_FLIGHT: usize = 2;

/// The query's end.
pub(crate) struct Inlet {
    send: mpsc::Sender<RecordBatch>,
    other_end: Weak<Mutex<mpsc::Receiver<RecordBatch>>>,
}

/// The client's end.
pub(crate) struct Outlet(Arc<Mutex<mpsc::Receiver<RecordBatch>>>);

/// Both ends.
pub(crate) fn channel() -> (Inlet, Outlet) {
    let (send, receive) = mpsc::channel(BATCHES_IN_FLIGHT);
    let receive = Arc::new(Mutex::new(receive));
    (Inlet { send, other_end: Arc::downgrade(&receive) }, Outlet(receive))
}

impl Inlet {
    /// The way in.
    pub(crate) fn sender(&self) -> &mpsc::Sender<RecordBatch> {
        &self.send
    }

    /// Takes back what waits, unless the client has just begun to take it: false. `before` runs when it is sure,
    /// and before the client can see the end.
    pub(crate) fn take_back(&self, before: impl FnOnce()) -> bool {
        let Some(other_end) = self.other_end.upgrade() else { return true };
        let mut receive = other_end.lock();
        // A client that waits for rows would not learn of the end; but none does while the channel is full.
        if self.send.capacity() > 0 {
            return false;
        }
        before();
        receive.close();
        while receive.try_recv().is_ok() {}
        true
    }
}

impl Outlet {
    /// The next batch; `None` at the end.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<RecordBatch>> {
        self.0.lock().poll_recv(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use arrow_schema::Schema;

    use super::*;

    #[tokio::test]
    async fn what_nobody_takes_is_taken_back_and_what_is_being_taken_is_not() {
        let (inlet, mut outlet) = channel();
        let batch = || RecordBatch::new_empty(Arc::new(Schema::empty()));
        inlet.sender().try_send(batch()).unwrap();
        inlet.sender().try_send(batch()).unwrap();
        assert!(poll_fn(|context| outlet.poll_next(context)).await.is_some());
        assert!(!inlet.take_back(|| panic!("its client has just taken something")));
        inlet.sender().try_send(batch()).unwrap();
        let mut sure = false;
        assert!(inlet.take_back(|| sure = true) && sure);
        assert!(poll_fn(|context| outlet.poll_next(context)).await.is_none());
        drop(outlet);
        assert!(inlet.take_back(|| panic!("nobody is there")));
    }
}
