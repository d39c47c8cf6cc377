//! The promises of the server, one module a subject, each test named after what it holds the server to.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod atomic_uploads;
mod authentication;
mod bad_arrow;
mod bulk_uploads;
mod command_line;
mod crash;
mod disguised_writes;
mod failure_isolation;
mod group_commit;
mod health;
mod long_writes;
mod metadata;
mod open_modes;
mod overload;
mod poll;
mod reads;
mod schema_changes;
mod shutdown;
mod snapshots;
mod statement_timeout;
mod supervision;
mod tls;

/// The binary under test, for [`merganser_tests::Process`].
const SERVER: &str = env!("CARGO_BIN_EXE_merganser-server-under-test");
