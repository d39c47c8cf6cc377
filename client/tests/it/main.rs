//! The library against a scripted Flight SQL server: what goes over the wire when things go wrong.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod command_line;
mod loader;
mod scripted;
mod wire;
