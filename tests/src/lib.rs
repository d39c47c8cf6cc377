//! What the integration tests stand on: a server in this process on port 0 over a fresh database file,
//! uploads that a test feeds by hand, and rows to send and to compare.
//!
//! Nothing here sleeps. A test waits for an answer, or for a condition by [`until`].

#![allow(clippy::expect_used, reason = "a fixture fails by panicking")]

mod certificates;
mod failing_syncs;
mod http;
mod keyed;
mod lake;
mod pipe;
mod process;
mod proxy;
mod put;
mod raw_body;
mod rows;
mod server;
mod small_disk;
mod upload;

use std::{fmt::Debug, time::Duration};

pub use certificates::{Authority, Signed};
pub use failing_syncs::FailingSyncs;
pub use http::{HttpAnswer, HttpClient};
pub use keyed::{LongStream, mark, put_keyed, put_streamed, put_with};
pub use lake::configure;
pub use pipe::Pipe;
pub use process::Process;
pub use proxy::{Proxy, Silenced};
pub use put::Put;
pub use raw_body::{RawBody, announced, ended_with, framed};
pub use rows::{ids, integer, integers, put, texts, unit, wide};
pub use server::{DatabaseFile, TestServer};
pub use small_disk::SmallDisk;
pub use upload::{RawUpload, Upload, messages, messages_at};

use merganser::Error;
use tonic::Code;

/// Far longer than anything here takes, and shorter than anybody waits for a test that hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again until `condition` holds; each time other tasks go first.
///
/// # Panics
/// When it never holds within [`PATIENCE`]; the message says `what` did not happen.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let holds = async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    };
    if tokio::time::timeout(PATIENCE, holds).await.is_err() {
        panic!("waited in vain: {what}");
    }
}

/// Waits for something that must come.
///
/// # Panics
/// When it has not come within [`PATIENCE`].
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain: {what}"),
    }
}

/// The text of a refusal, which must have this code and slug.
///
/// # Panics
/// When it is none, or another one.
#[track_caller]
pub fn refused<T: Debug>(result: Result<T, Error>, code: Code, slug: &str) -> String {
    match result {
        Err(Error::Server { code: its_code, slug: its_slug, message, .. })
            if its_code == code && its_slug == slug =>
        {
            message
        }
        other => panic!("not refused with {code:?} {slug}, but {other:?}"),
    }
}
