//! Who waits for something that another holds, so that the holder can make room.

use tokio::sync::watch;

/// Counts those who wait.
pub(crate) struct Wanted {
    count: watch::Sender<usize>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { count: watch::Sender::new(0) }
    }
}

impl Wanted {
    /// Waits, until the guard is dropped.
    pub(crate) fn wait(&self) -> Waiting<'_> {
        self.count.send_modify(|count| *count += 1);
        Waiting { wanted: self }
    }

    /// True when somebody waits.
    pub(crate) fn by_somebody(&self) -> bool {
        *self.count.borrow() > 0
    }

    /// For the holder.
    pub(crate) fn watch(&self) -> Watch {
        Watch { count: self.count.subscribe() }
    }
}

/// One who waits.
pub(crate) struct Waiting<'a> {
    wanted: &'a Wanted,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.wanted.count.send_modify(|count| *count -= 1);
    }
}

/// The holder's view.
pub(crate) struct Watch {
    count: watch::Receiver<usize>,
}

impl Watch {
    /// Resolves when somebody waits.
    pub(crate) async fn wanted(&mut self) {
        if self.count.wait_for(|count| *count > 0).await.is_err() {
            // Nobody can come to wait any more.
            std::future::pending::<()>().await;
        }
    }
}
