//! The promises of the server, one module a subject, each test named after what it holds the server to.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod atomic_uploads;
mod authentication;
mod backup;
mod bad_arrow;
mod bulk_uploads;
mod checkpoints;
mod command_line;
mod constraints;
mod continued_loads;
mod crash;
mod disguised_writes;
mod failure_isolation;
mod group_commit;
mod health;
mod http;
mod keys;
mod long_streams;
mod long_writes;
mod metadata;
mod new_columns;
mod no_room;
mod open_modes;
mod overload;
mod poll;
mod reads;
mod schema_changes;
mod shutdown;
mod snapshots;
mod statement_timeout;
mod tls;
mod upserts;
