//! DuckDB's errors, sorted into the classes that decide what happens next.

use std::ffi::c_char;

use libduckdb_sys as c;

use super::{
    inside::{is_of_unread_metadata, without_stack},
    text,
};

/// What kind of failure it was. Decides the client's status and what the writer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The text is no SQL.
    Syntax,
    /// A table, column, function or schema that does not exist.
    NotFound,
    /// Something of that name exists already.
    AlreadyExists,
    /// The statement is understood and cannot be bound: types, arguments, ambiguity.
    Binder,
    /// A value does not fit: cast, range, division.
    Conversion,
    /// A value of a result that its Arrow type cannot hold.
    OutOfRange,
    /// UNIQUE or PRIMARY KEY.
    DuplicateKey,
    /// NOT NULL, CHECK, FOREIGN KEY.
    Constraint,
    /// Two transactions touched the same thing; trying again may work.
    Conflict,
    /// A statement of the open transaction has failed before; only ROLLBACK is left.
    Aborted,
    /// A write inside a READ ONLY transaction or database.
    ReadOnly,
    /// Memory or temporary storage ran out.
    OutOfMemory,
    /// The query was interrupted.
    Interrupted,
    /// A file could not be read or written.
    Io,
    /// Another server, on which a catalog or a file is, does not answer.
    Unreachable,
    /// Storage on the web answers that it will not or cannot, or breaks off; not that a file is missing.
    Storage,
    /// No room on the device.
    DiskFull,
    /// Another process holds the file.
    Locked,
    /// DuckDB forbids it by configuration.
    Permission,
    /// DuckDB cannot do that.
    Unsupported,
    /// The instance is invalidated; nothing works until it is opened again.
    Fatal,
    /// Stopped or refused, because something else has invalidated the instance.
    Down,
    /// A fault of DuckDB's own. Where it came while a statement ran, the instance takes no more work.
    Internal,
    /// Everything else.
    Other,
}

/// An error with its class and DuckDB's own text, caret lines included.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub(crate) struct DuckError {
    pub(crate) class: Class,
    pub(crate) message: String,
}

impl DuckError {
    pub(crate) fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into() }
    }

    /// Sorts by the text, which begins with the class's name ("Catalog Error: ...") wherever the C API
    /// gives no code: after a failed prepare, extract or open.
    pub(crate) fn from_message(message: String) -> Self {
        let message = unwrapped(plain(message));
        let is_unread = is_of_unread_metadata(&message);
        let message = without_stack(message);
        if is_unread {
            return Self::new(Class::Unreachable, message);
        }
        let message = message.strip_prefix("Failed to append: ").map(str::to_owned).unwrap_or(message);
        if let Some(error) = of_own_functions(&message) {
            return error;
        }
        let class = classify(&message);
        Self { class, message: in_english(message) }
    }

    /// # Safety
    /// `message` is null or a NUL-terminated string that lives for the duration of the call.
    pub(super) unsafe fn from_raw(message: *const c_char) -> Self {
        // SAFETY: passed on from the caller.
        Self::from_message(unsafe { text(message) })
    }

    /// Takes over and frees a `duckdb_error_data`; `Ok` when it holds no error.
    ///
    /// # Safety
    /// `data` came from DuckDB and is not used afterwards.
    pub(super) unsafe fn from_error_data(mut data: c::duckdb_error_data) -> Result<(), Self> {
        if data.is_null() {
            return Ok(());
        }
        // SAFETY: `data` is a live error object; its message lives until it is destroyed below.
        unsafe {
            let failed = c::duckdb_error_data_has_error(data);
            let error = failed.then(|| Self::from_raw(c::duckdb_error_data_message(data)));
            c::duckdb_destroy_error_data(&mut data);
            error.map_or(Ok(()), Err)
        }
    }
}

/// An error of the Arrow functions comes as a JSON object, whatever `errors_as_json` says.
fn plain(message: String) -> String {
    #[derive(serde::Deserialize)]
    struct Raw {
        exception_type: String,
        exception_message: String,
    }
    match serde_json::from_str::<Raw>(&message) {
        Ok(raw) => format!("{} Error: {}", raw.exception_type, raw.exception_message),
        Err(_) => message,
    }
}

/// How DuckDB refuses to go on with a result that has failed between two of its batches, before it says why.
const WRAPPED: [&str; 2] = [
    "Invalid Input Error: Attempting to execute an unsuccessful or closed pending query result\nError: ",
    "Invalid Input Error: Attempting to fetch from an unsuccessful query result\nError: ",
];

/// Why it was in the first place.
fn unwrapped(message: String) -> String {
    WRAPPED.iter().find_map(|head| message.strip_prefix(head)).map(str::to_owned).unwrap_or(message)
}

/// DuckDB's words for what the operator does not allow, and what to tell clients instead.
const DISABLED: [(&str, &str); 2] = [
    (
        " - file system operations are disabled by configuration",
        ": this server reads only where its operator lets it (read_directories)",
    ),
    (
        "Loading external extensions is disabled through configuration",
        "this server loads no extension once it is open; its operator can name those that are needed (extensions)",
    ),
];

/// Says who has disabled something. DuckDB writes the same article before every kind of thing.
fn in_english(message: String) -> String {
    if let Some((theirs, ours)) = DISABLED.iter().find(|(theirs, _)| message.contains(theirs)) {
        return message.replacen(theirs, ours, 1);
    }
    let line = message.lines().next().unwrap_or_default();
    match line.strip_suffix(" is not an table") {
        Some(head) => format!("{head} is not a table{}", &message[line.len()..]),
        None => message,
    }
}

/// An error of the server's own functions, in front of which DuckDB puts a head of its own.
fn of_own_functions(message: &str) -> Option<DuckError> {
    let heads = ["Binder Error: ", "Invalid Input Error: "];
    let inner = heads.iter().find_map(|head| message.strip_prefix(head))?;
    let class = match (inner.split_once(" Error: ")?.0, classify(inner)) {
        ("IO" | "HTTP" | "Invalid", class @ (Class::Storage | Class::Unreachable)) => class,
        ("IO" | "HTTP", _) => Class::Io,
        ("Permission", _) => Class::Permission,
        _ => return None,
    };
    Some(DuckError::new(class, in_english(inner.to_owned())))
}

/// What the system says when there is no room: on the device, for the user, for the process.
const FULL: [&str; 3] = ["No space left on device", "Disk quota exceeded", "File too large"];

/// What DuckDB says when memory or the room to spill ran out.
const OUT_OF_MEMORY: [&str; 4] = [
    "failed to offload data block",
    "failed to allocate data of size",
    "failed to pin block of size",
    "could not allocate block of size",
];

/// Whether DuckLake, PostgreSQL or SQLite says that somebody else was faster. PostgreSQL rolls one of two transactions back
/// that wait for each other, such as a commit and a run of maintenance.
pub(crate) fn tells_of_faster(message: &str) -> bool {
    const TEXTS: [&str; 5] = [
        "Transaction conflict",
        "Exceeded the maximum retry count",
        "could not serialize access",
        "deadlock detected",
        "database is locked",
    ];
    let told = behind_query(message);
    TEXTS.iter().any(|text| told.contains(text))
}

/// What a message says behind the query that it quotes, in which values of clients stand.
pub(crate) fn behind_query(message: &str) -> &str {
    match message.split_once("Failed to execute query \"") {
        Some((_, quoted)) => quoted.rsplit_once("\": ").map_or("", |(_, told)| told),
        None => message,
    }
}

/// How DuckDB refuses whatever comes after a failure in an open transaction.
const ABORTED: &str = "TransactionContext Error: Current transaction is aborted";

/// Whether what a lake is looked up with has failed, such as its newest snapshot or a list of its files. That is said to be the
/// binder's, and quotes no client before it says so.
fn is_of_lookup(message: &str) -> bool {
    let said = message.strip_prefix("Binder Error: Failed to ").and_then(|rest| rest.split(':').next());
    said.is_some_and(|said| said.ends_with(" DuckLake") && !said.contains(['"', '\'']))
}

/// How extensions say that a server does not answer, or has gone.
const UNREACHABLE: [&str; 9] = [
    "Unable to connect to Postgres",
    "server closed the connection",
    "connection to server",
    "no connection to the server",
    "Could not connect to server",
    "Connection error for HTTP",
    "Could not resolve hostname error for HTTP",
    "terminating connection",
    "Failed to execute query \"ROLLBACK\"",
];

/// Whether a request to storage on the web has failed by anything but that the file is missing.
fn tells_of_storage(head: &str, message: &str) -> bool {
    // In front of what names the file, which is whatever somebody has called it.
    let before_name = message.split(['\'', '"']).next().unwrap_or_default();
    match head {
        "HTTP" => !message.contains(MISSING),
        "IO" => before_name.contains(" error for HTTP "),
        _ => message.starts_with(BROKEN_OFF),
    }
}

/// How storage says that a file is missing.
const MISSING: &str = "(HTTP 404";

/// How a request without tries of its own says that its answer has ended too early.
const BROKEN_OFF: &str = "Invalid Error: Transferred a partial file";

/// The classes by prefix; details that the prefix hides are looked for in the text.
fn classify(message: &str) -> Class {
    let head = message.split_once(" Error").map_or("", |(head, _)| head);
    let has = |part: &str| message.contains(part);
    // By the head alone: other texts may quote what a client has written.
    match head {
        "FATAL" => return Class::Fatal,
        "INTERNAL" => return Class::Internal,
        _ => {}
    }
    if message.starts_with(ABORTED) {
        return Class::Aborted;
    }
    let is_of_storage = matches!(head, "IO" | "TransactionContext" | "Transaction" | "Out of Memory" | "");
    if is_of_storage && FULL.iter().any(|full| has(full)) {
        return Class::DiskFull;
    }
    // A commit that runs out of memory has no name of a class in front.
    if OUT_OF_MEMORY.iter().any(|text| has(text)) {
        return Class::OutOfMemory;
    }
    const QUOTING: [&str; 6] =
        ["Parser", "Binder", "Conversion", "Constraint", "Invalid Input", "Out of Range"];
    let may_quote = QUOTING.contains(&head) && !is_of_lookup(message);
    if !may_quote && UNREACHABLE.iter().any(|text| has(text)) {
        return Class::Unreachable;
    }
    if tells_of_storage(head, message) {
        return Class::Storage;
    }
    if has("a single transaction can only write to a single attached database") {
        return Class::Unsupported;
    }
    if has("Could not set lock on file") || has("already open in") {
        return Class::Locked;
    }
    // DuckLake says by which unique key of its own it has met another commit.
    if head != "Conversion" && tells_of_faster(message) {
        return Class::Conflict;
    }
    if has("duplicate key") || has("Duplicate key") {
        return Class::DuplicateKey;
    }
    if has("Transaction conflict") || has("write-write conflict") || has("Conflict on ") {
        return Class::Conflict;
    }
    if has("constraint failed") || has("constraint violated") || has("Violates foreign key constraint") {
        return Class::Constraint;
    }
    if head.is_empty() && has("readonly database") {
        return Class::ReadOnly;
    }
    if has("read-only") && (head == "TransactionContext" || head == "Invalid Input" || head == "Catalog") {
        return Class::ReadOnly;
    }
    match head {
        "Parser" | "Syntax" => Class::Syntax,
        "Catalog" if has("already exists") => Class::AlreadyExists,
        "Catalog" if has("has been altered") => Class::Conflict,
        "Catalog" => Class::NotFound,
        "Binder" if has("does not exist") || has("not found in FROM clause") => Class::NotFound,
        "Binder" | "Parameter Not Resolved" | "Parameter Not Allowed" | "Expression" => Class::Binder,
        "Conversion" | "Out of Range" | "Divide by Zero" | "Mismatch Type" | "Decimal" => Class::Conversion,
        "Constraint" => Class::Constraint,
        "TransactionContext" | "Transaction" => Class::Conflict,
        "Out of Memory" => Class::OutOfMemory,
        "INTERRUPT" | "Interrupt" => Class::Interrupted,
        "IO" | "HTTP" | "Network" => Class::Io,
        "Permission" => Class::Permission,
        "Not implemented" | "Missing Extension" | "Autoload" => Class::Unsupported,
        "Invalid Input" | "Invalid" | "Invalid Type" | "Settings" | "Sequence" | "Dependency" => {
            Class::Binder
        }
        _ if has("is not an table") => Class::Binder,
        _ => Class::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_a_view_is_told_in_english() {
        for (message, told) in [
            ("v is not an table", "v is not a table"),
            ("Catalog Error: v is not an table\n\nLINE 1", "Catalog Error: v is not a table\n\nLINE 1"),
            (
                "Conversion Error: 'x is not an table' is no number",
                "Conversion Error: 'x is not an table' is no number",
            ),
            ("Catalog Error: t is not an index", "Catalog Error: t is not an index"),
        ] {
            assert_eq!(DuckError::from_message(message.into()).message, told);
        }
    }

    #[test]
    fn texts_fall_into_their_classes() {
        for (message, class) in [
            ("Parser Error: syntax error at or near \"SELEC\"\n\nLINE 1: SELEC 1\n        ^", Class::Syntax),
            ("Catalog Error: Table with name t does not exist!", Class::NotFound),
            ("Catalog Error: Table with name \"t\" already exists!", Class::AlreadyExists),
            (
                "Constraint Error: Duplicate key \"id: 1\" violates primary key constraint.",
                Class::DuplicateKey,
            ),
            ("Failed to append: NOT NULL constraint failed: t.id", Class::Constraint),
            (
                "Failed to append: Violates foreign key constraint because key \"id: 2\" does not exist",
                Class::Constraint,
            ),
            ("v is not an table", Class::Binder),
            (
                "Binder Error: Failed to get data file list from DuckLake: Failed to prepare query \"COPY (SELECT 1)\": \
                 server closed the connection unexpectedly",
                Class::Unreachable,
            ),
            (
                "Invalid Input Error: Attempting to fetch from an unsuccessful query result\nError: IO Error: server closed \
                 the connection unexpectedly",
                Class::Unreachable,
            ),
            ("Binder Error: Failed to bind \"x from DuckLake: server closed the connection\"", Class::Binder),
            (
                "Invalid Input Error: Attempting to execute an unsuccessful or closed pending query result\nError: \
                 HTTP Error: Request returned HTTP 503 for HTTP GET to 'http://10.0.0.1/b/k'",
                Class::Storage,
            ),
            ("Connection error for HTTP HEAD to 'http://nosuch.invalid/b/k'", Class::Unreachable),
            (
                "Could not resolve hostname error for HTTP PUT to 'http://nosuch.invalid/b/k'",
                Class::Unreachable,
            ),
            (
                "HTTP Error: Request returned HTTP 503 for HTTP HEAD to 'http://10.0.0.1/b/k'\n\nLINE 1: FROM x",
                Class::Storage,
            ),
            (
                "HTTP Error: HTTP GET error reading 's3://b/k' in region 'r' (HTTP 403 Forbidden)",
                Class::Storage,
            ),
            ("HTTP Error: HTTP GET error reading 's3://b/k' in region 'r' (HTTP 404 Not Found)", Class::Io),
            (
                "IO Error: Transferred a partial file error for HTTP GET to 'http://10.0.0.1/b/k'",
                Class::Storage,
            ),
            ("IO Error: No files found that match the pattern \"an error for HTTP GET\"", Class::Io),
            ("Invalid Error: Transferred a partial file\n\nLINE 1: FROM x", Class::Storage),
            ("Binder Error: HTTP Error: HTTP GET error on 'http://h/k' (HTTP 500 Internal)", Class::Storage),
            ("Binder Error: Invalid Error: Transferred a partial file", Class::Storage),
            ("Invalid Input Error: HTTP Error: HTTP GET error on 'http://h/k' (HTTP 404 Not)", Class::Io),
            ("Conversion Error: 'HTTP Error: Request returned HTTP 503' is no number", Class::Conversion),
            ("Binder Error: IO Error: file a.arrow: it is cut off", Class::Io),
            ("Invalid Input Error: Permission Error: file system operations are disabled", Class::Permission),
            ("Invalid Input Error: Out of Memory Error: no", Class::Binder),
            (
                "Transaction conflict: attempting to insert into table \"t\" but it has been altered",
                Class::Conflict,
            ),
            ("Constraint Error: NOT NULL constraint failed: t.id", Class::Constraint),
            ("TransactionContext Error: Catalog write-write conflict on create with \"t\"", Class::Conflict),
            ("TransactionContext Error: Current transaction is aborted (please ROLLBACK)", Class::Aborted),
            (
                "FATAL Error: Failed: database has been invalidated because of a previous fatal error.",
                Class::Fatal,
            ),
            ("Failed to commit: failed to offload data block of size 256.0 KiB", Class::OutOfMemory),
            ("IO Error: Could not write file: No space left on device", Class::DiskFull),
            (
                "TransactionContext Error: Failed to commit: Could not write file \"a.wal\": File too large",
                Class::DiskFull,
            ),
        ] {
            assert_eq!(DuckError::from_message(message.into()).class, class, "{message}");
        }
    }
}
