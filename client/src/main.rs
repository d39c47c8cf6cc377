//! `merganser`: query, load and look around from the command line.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
