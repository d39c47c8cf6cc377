//! The single writer: one named thread that ingests into the database, in order, committing in groups.
//!
//! [`handle`] is what the rest of the server holds; [`command`] is what it sends; [`actor`] is the thread's
//! loop; [`group`] is one transaction. While one commit runs, the next group gathers: no timer.

mod actor;
mod command;
mod group;
mod handle;
mod outage;

pub(crate) use actor::commit_error;
pub(crate) use command::{BulkCommit, Held, Unit};
pub(crate) use handle::WriterHandle;
