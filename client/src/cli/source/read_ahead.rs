//! Batches decoded on a thread of their own, a little ahead of the network.

use std::io;

use arrow_array::RecordBatch;
use futures::{Stream, StreamExt, stream};
use merganser::Error;
use tokio::{sync::mpsc, task::JoinHandle};

/// Batches read ahead of the network: one is being sent while the next is decoded.
const BATCHES_AHEAD: usize = 2;

/// Decodes on a blocking thread. The stream ends only when the reader has returned: a reader that
/// panics must not look like the end of the file.
pub(super) fn read_ahead(
    batches: impl Iterator<Item = Result<RecordBatch, Error>> + Send + 'static,
) -> impl Stream<Item = Result<RecordBatch, Error>> + Send {
    let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
    let thread = tokio::task::spawn_blocking(move || {
        for batch in batches {
            let failed = batch.is_err();
            if sender.blocking_send(batch).is_err() || failed {
                return;
            }
        }
    });
    stream::unfold((receiver, Some(thread)), |(mut receiver, mut thread)| async {
        let item = match receiver.recv().await {
            Some(batch) => batch,
            None => Err(outcome(thread.take()?).await?),
        };
        Some((item, (receiver, thread)))
    })
    // Whoever cuts the batches into units may ask once more at the end.
    .fuse()
}

/// What became of the reading thread: nothing to tell, or that it panicked.
async fn outcome(thread: JoinHandle<()>) -> Option<Error> {
    let error = thread.await.err()?;
    Some(Error::Io(io::Error::other(format!("the file could not be read: {error}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_not_the_end_of_the_file() {
        let batches = (0..2).map(|_| -> Result<RecordBatch, Error> { panic!("broken file") });
        let items: Vec<_> = read_ahead(batches).collect().await;
        assert!(matches!(items.as_slice(), [Err(Error::Io(_))]), "{items:?}");
    }
}
