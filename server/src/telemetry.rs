//! The log, on standard error.

use std::{
    fmt::Debug,
    io::{self, IsTerminal},
};

use tracing::field::Field;
use tracing_subscriber::{
    EnvFilter,
    field::MakeExt,
    fmt::{
        FormatFields,
        format::{Writer, debug_fn},
    },
};

use crate::config::{Log, LogFormat};

/// Starts logging. Called once, by `main`.
pub fn start(log: &Log) {
    // A line for every HTTP/2 frame helps nobody who asks for debug; what is given comes later and wins.
    let filter = EnvFilter::new(format!("h2=info,hyper_util=info,tower=info,{}", log.level));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    match log.format {
        LogFormat::Text => lines.with_target(false).fmt_fields(on_one_line()).init(),
        LogFormat::Json => lines.json().init(),
    }
}

/// Fields as they are usually written, each on the line of its event: texts of DuckDB have several lines, and those of clients
/// may look like lines of the log.
fn on_one_line() -> impl for<'writer> FormatFields<'writer> + 'static {
    debug_fn(write_field).delimited(" ")
}

fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> std::fmt::Result {
    if field.name() != "message" {
        write!(writer, "{field}=")?;
    }
    for character in format!("{value:?}").chars() {
        match character.is_control() {
            true => write!(writer, "{}", character.escape_default())?,
            false => writer.write_char(character)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Mutex};

    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_its_texts_hold() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let lines = tracing_subscriber::fmt()
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .fmt_fields(on_one_line())
            .with_writer(Mutex::new(file.reopen().unwrap()));
        tracing::subscriber::with_default(lines.finish(), || {
            let error = "Parser Error: x\n\nLINE 1: SELEC\n        ^\r\u{1b}[31m";
            tracing::info!(rows = 7, kind = "read", text = "a\nb", %error, "slow statement");
        });
        assert_eq!(
            fs::read_to_string(file.path()).unwrap(),
            " INFO slow statement rows=7 kind=\"read\" text=\"a\\nb\" \
             error=Parser Error: x\\n\\nLINE 1: SELEC\\n        ^\\r\\u{1b}[31m\n"
        );
    }
}
