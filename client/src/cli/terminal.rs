//! What depends on whether a person is watching.

use std::{
    fmt::Display,
    io::{IsTerminal, stderr, stdout},
};

use clap::builder::styling::{AnsiColor, Style};

/// Prints `error: ...`, in colour where that is wanted.
pub(crate) fn print_error(error: &dyn Display) {
    let style = if colours_wanted() { AnsiColor::Red.on_default().bold() } else { Style::new() };
    eprintln!("{style}error:{style:#} {error}");
}

/// Prints a remark about the result, for a person only: a script that collects stderr wants errors.
pub(crate) fn print_remark(remark: &dyn Display) {
    if stderr().is_terminal() {
        eprintln!("{remark}");
    }
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
