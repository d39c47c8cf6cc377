//! What depends on whether a person is watching.

use std::{
    fmt::Display,
    io::{IsTerminal, Write, stderr, stdout},
};

use clap::builder::styling::{AnsiColor, Style};

/// Prints `error: ...`, in colour where that is wanted.
pub(crate) fn print_error(error: &dyn Display) {
    let style = if colours_wanted() { AnsiColor::Red.on_default().bold() } else { Style::new() };
    print(&format_args!("{style}error:{style:#} {error}"));
}

/// Prints what was done. That it is done does not depend on whether anybody can read it: a pipe that is closed and a
/// disk that is full change nothing.
pub(crate) fn print_outcome(outcome: &dyn Display) {
    let _ = writeln!(stdout(), "{outcome}");
}

/// Prints an error after which it is tried again. Not for a person only: who reads the log of a load that takes
/// minutes wants to know what it waits for.
pub(crate) fn print_trouble(error: &dyn Display) {
    print(&format_args!("{error}; trying again"));
}

/// Prints a remark about the result, for a person only: a script that collects stderr wants errors.
pub(crate) fn print_remark(remark: &dyn Display) {
    if stderr().is_terminal() {
        print(remark);
    }
}

/// When nobody can be told any more, the exit code has to do: `eprintln!` would panic.
fn print(text: &dyn Display) {
    let _ = writeln!(stderr(), "{text}");
}

/// Whether something that moves on stderr disturbs nothing: rows that scroll by on the same screen
/// would be torn apart.
pub(crate) fn progress_wanted(rows_scroll_by: bool) -> bool {
    stderr().is_terminal() && !(rows_scroll_by && stdout().is_terminal())
}

/// As <https://no-color.org> has it: any value but the empty one switches colours off.
fn colours_wanted() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    stderr().is_terminal() && !refused
}
