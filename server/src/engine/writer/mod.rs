//! The single writer: one named thread that ingests into the database, in order, committing in groups.
//!
//! [`handle`] is what the rest of the server holds; [`command`] is what it sends; [`actor`] is the thread's
//! loop; [`pipeline`] lets a group append while the one before it commits on the thread of [`syncer`]; [`committer`]
//! commits groups in turn, and decides who is committed with whom and who is to blame; [`apart`] is who commits alone for
//! a while, and [`queue`] has them wait [`aside`]; [`group`] is what commits together; [`duck`] and its [`lane`]s are where, behind [`storage`]; [`doubt`] is what
//! a failed COMMIT leaves; [`checkpoint`] keeps the write-ahead log small. While one commit runs, the next group gathers: no
//! timer.

mod actor;
mod apart;
mod aside;
mod bulk_commit;
mod checkpoint;
mod command;
mod committer;
mod doubt;
mod duck;
mod gather;
mod group;
mod handle;
mod lane;
#[cfg(test)]
mod model_tests;
mod outage;
mod pipeline;
mod queue;
mod rows;
mod storage;
mod syncer;

pub(crate) use actor::commit_error;
pub(crate) use apart::Apart;
pub(crate) use command::{BulkCommit, Command, Enter, Held, Part, Unit};
pub(crate) use committer::Committer;
pub(crate) use doubt::Doubt;
pub(crate) use gather::gather;
pub(crate) use group::{Size, groups_of};
pub(crate) use handle::WriterHandle;
pub(crate) use outage::{refuse_all, sit_out};
pub(crate) use queue::Queue;
pub(crate) use rows::insert_units;
pub(crate) use storage::{Failure, Storage, may_be_of_one};
