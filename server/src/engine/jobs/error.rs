//! What a run that failed tells everybody.

use tokio::runtime::Handle;

use crate::engine::{Engine, Error, Result, error::Class};

/// What came of a part of a run, as every client may read it: without hosts and paths, and with the name of the catalog
/// that does not answer. On a thread of the runtime that may block.
pub(super) fn for_clients<T>(engine: &Engine, outcome: Result<T>) -> Result<T> {
    Handle::current().block_on(engine.named(outcome)).map_err(|error| {
        let (class, told) = match error.class() {
            // All catalogs answer, so that it is storage, or was out of reach for a moment.
            Some(class @ (Class::Unreachable | Class::Storage)) => {
                (class, "a server, or the storage of files, that the job needs could not be reached")
            }
            Some(class @ Class::Io) => (class, "a file that the job needs could not be read or written"),
            _ => return error,
        };
        tracing::warn!(%error, "a job needs what it cannot reach");
        Error::Duck { class, message: format!("{told}; the server's log says which") }
    })
}
