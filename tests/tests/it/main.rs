//! The promises of the server, one module a subject, each test named after what it holds the server to.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod activity;
mod answer_files;
mod arriving;
mod atomic_uploads;
mod authentication;
mod backpressure;
mod backup;
mod bad_arrow;
mod bulk_uploads;
mod catalogs;
mod changing_tables;
mod checkpoints;
mod client_command;
mod command_line;
mod constraints;
mod continued_loads;
mod corpus;
mod crash;
mod cut_log;
mod disguised_writes;
mod disk_full;
mod exports;
mod failure_isolation;
mod full_disk_checkpoints;
mod group_commit;
mod hard_logs;
mod health;
mod hidden_statements;
mod http;
mod http_api;
mod kept_from_clients;
mod keys;
mod log_lines;
mod long_streams;
mod long_writes;
mod lost_answers;
mod many_connections;
#[cfg(target_os = "linux")]
mod memory;
mod merge_groups;
mod metadata;
mod named_queries;
mod new_columns;
mod open_modes;
mod out_of_memory;
mod overdue;
mod overload;
mod pipelines;
mod poll;
mod reads;
mod refused_starts;
mod replaced_tables;
mod resting;
mod schema_changes;
mod several_steps;
mod shutdown;
mod signals;
mod signs_of_life;
mod slow_tables;
mod snapshots;
mod sources;
mod statement_timeout;
mod supervision;
#[cfg(target_os = "linux")]
mod synced;
mod text_files;
mod tls;
mod transaction_uploads;
mod unknown_commits;
mod upserts;
mod whole_parameters;

/// The binary under test, for [`merganser_tests::Process`].
const SERVER: &str = env!("CARGO_BIN_EXE_merganser-server-under-test");
