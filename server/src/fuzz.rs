//! A door for fuzzing: what takes foreign bytes, as functions of bytes. Each returns whether the bytes were taken,
//! and must neither panic nor run without end, whatever they are.

use crate::{engine, flight, sql};

/// A ticket, a descriptor's command, and a descriptor's path.
pub fn ticket(bytes: &[u8]) -> bool {
    flight::fuzz::ticket(bytes)
}

/// The body of a DoPut request: gRPC frames with Flight data. All of its batches are decoded, and
/// where it is a long stream the names of its units.
pub fn upload(bytes: &[u8]) -> bool {
    flight::fuzz::upload(bytes)
}

/// SQL text, before DuckDB's parser may see it. What is no UTF-8 never gets here.
pub fn sql(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let _ = (sql::statement_count(text), sql::may_hold_secrets(text), sql::has_returning(text));
    let _ = (sql::mentions(text, "select"), sql::plans_over_data(text));
    let _ = (sql::leaves_state(text), sql::is_use(text), sql::changes_names(text));
    let _ = (sql::pieces(text), sql::is_export(text));
    let _ = (sql::controls(text), sql::localise(text).is_ok(), sql::exclusion(text));
    sql::gate(text).is_ok()
}

/// A file of Arrow's IPC formats. All of its rows are brought into the types that DuckDB imports.
pub fn arrow_file(bytes: &[u8]) -> bool {
    engine::reads_arrow_file(bytes)
}
