//! The loaders that send their units over one long stream, several on their way at once. It is the Rust client's own
//! loader that does, and that opens another stream where one has broken; now and then it is replaced by another one
//! that begins with the first unit which is not acknowledged, as an application does that was started again.

use std::time::Duration;

use merganser::{
    Acknowledged, Client, ClientOptions, Loader as Stream, LoaderOptions, RetryPolicy, Start, TablePath,
    Window,
};

use crate::{
    Failure,
    loader::{LEAVE, Loader, PAUSE, REPEAT_EVERY},
    numbers::mixed,
    report::{Report, UpTo},
    unit::{EPOCH, TABLE, Unit},
};

/// Units on their way at once.
const WINDOW: usize = 8;
/// Nobody waits for longer than for the server to be started again, or the end of the run.
const RETRY: RetryPolicy = RetryPolicy { first: PAUSE, largest: PAUSE, total: Duration::from_secs(300) };
/// One break in so many makes an end of the loader, and not of its stream alone.
const REPLACE_EVERY: u64 = 2;

/// Loads until released, or until the server answers what no crash excuses.
pub(crate) async fn load(loader: Loader, server: &str) -> Result<(), Failure> {
    let mut released = loader.released.clone();
    let left_alone = async {
        // The sender is in a task that lives as long as the process.
        let _ = released.wait_for(|released| *released).await;
        tokio::time::sleep(LEAVE).await;
    };
    tokio::select! {
        loaded = Streaming { loader, acknowledged: 0 }.load(server) => loaded,
        () = left_alone => Ok(()),
    }
}

struct Streaming {
    loader: Loader,
    /// The last unit that is acknowledged, and with it all before it.
    acknowledged: u64,
}

impl Streaming {
    async fn load(mut self, server: &str) -> Result<(), Failure> {
        let client = RETRY.connect(server, &ClientOptions::default(), |_| ()).await?;
        loop {
            let stream = self.open(&client).await?;
            if self.feed(stream).await?.is_at_its_end() {
                return Ok(());
            }
        }
    }

    async fn open(&self, client: &Client) -> Result<Stream, Failure> {
        let options = LoaderOptions {
            epoch: Some(EPOCH),
            position: Start::At(self.acknowledged + 1),
            window: Window { units: WINDOW, ..Window::default() },
            retry: RETRY,
            ..LoaderOptions::new(Unit { loader: self.loader.number, sequence: 1 }.name())
        };
        Ok(Stream::open(client, &TablePath::new(TABLE), options).await?)
    }

    /// Sends unit after unit, and reports what comes back.
    async fn feed(&mut self, mut stream: Stream) -> Result<Next, Failure> {
        let mut before = Acknowledged::default();
        loop {
            let is_released = *self.loader.released.borrow();
            let sent = if is_released {
                stream.flush().await.map(drop)
            } else {
                let unit = Unit { loader: self.loader.number, sequence: stream.next_sequence() };
                // Where the window is full, it waits for an acknowledgement.
                stream.send(unit.batches()?).await.map(drop)
            };
            let now = stream.acknowledged();
            let has_broken = now.retries > before.retries;
            self.report(before, now, has_broken).await?;
            if let Err(error) = sent {
                self.loader.refused(self.acknowledged + 1, &error).await?;
                return Ok(Next::End);
            }
            if is_released {
                return Ok(Next::End);
            }
            if has_broken && self.chance(REPLACE_EVERY) {
                return Ok(Next::AnotherLoader);
            }
            before = now;
        }
    }

    /// Reports what is acknowledged since `before`, and sends the last of it once more where a stream has broken, and
    /// now and then.
    async fn report(
        &mut self,
        before: Acknowledged,
        now: Acknowledged,
        has_broken: bool,
    ) -> Result<(), Failure> {
        let Some(sequence) = now.sequence.filter(|sequence| *sequence > self.acknowledged) else {
            return Ok(());
        };
        self.acknowledged = sequence;
        let (loader, duplicates) = (self.loader.number, now.duplicates - before.duplicates);
        let up_to = UpTo { loader, sequence, commit: now.commit_id, duplicates };
        self.loader.report(&Report::AcknowledgedUpTo(up_to)).await?;
        if has_broken || self.chance(REPEAT_EVERY) {
            self.loader.repeat(Unit { loader, sequence }).await?;
        }
        Ok(())
    }

    /// True once in so many units.
    fn chance(&self, once_in: u64) -> bool {
        mixed(self.loader.number << 32 ^ self.acknowledged).is_multiple_of(once_in)
    }
}

/// How it goes on.
enum Next {
    AnotherLoader,
    End,
}

impl Next {
    fn is_at_its_end(&self) -> bool {
        matches!(self, Self::End)
    }
}
