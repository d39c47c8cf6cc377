//! Every error as clients learn it: what kind it is, a stable SLUG, and a text a person can act on. What a client
//! must not see stays in the log. Knows no protocol: `flight/` makes a gRPC status of it, `http/` a problem.

use std::time::Duration;

use crate::{
    engine::{Class, Error},
    session::{AuthError, LoginError, SessionError},
};

/// Longer texts are cut: over gRPC they travel in HTTP/2 trailers, for which clients set aside 8 KiB.
const MAX_TEXT: usize = 1_500;

/// When to try again what passes by itself.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// Not to be sent again as it is: begun anew, or only after somebody has mended something.
const NOT_AGAIN: [&str; 5] =
    ["FENCED", "QUERY_UNAVAILABLE", "SESSION_CLOSED", "SESSION_LOST", "TRANSACTION_LOST"];

/// What a failure is to whoever asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The request makes no sense.
    BadRequest,
    /// Something is not there.
    NotFound,
    /// Something is there already.
    AlreadyExists,
    /// It is not allowed, to anybody or to this one.
    Forbidden,
    /// Nobody knows who asks.
    Unauthenticated,
    /// Something else has to be done before.
    Precondition,
    /// Something is used up for the moment.
    Exhausted,
    /// Somebody else was in the way.
    Aborted,
    /// It was stopped.
    Cancelled,
    /// It took too long.
    TooLong,
    /// The server cannot just now.
    Unavailable,
    /// The server cannot at all.
    Unsupported,
    /// The engine says no more than that it failed.
    Unknown,
    /// A bug of ours.
    Internal,
}

/// An error as a client learns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    kind: Kind,
    slug: &'static str,
    text: String,
}

impl Failure {
    /// One that clients tell by its slug. Long texts are cut.
    pub(crate) fn new(kind: Kind, slug: &'static str, text: &str) -> Self {
        Self { kind, slug, text: shortened(text) }
    }

    /// A bug of ours: the client learns that it is one, the log learns which.
    pub(crate) fn internal(detail: &dyn std::fmt::Display) -> Self {
        tracing::error!(%detail, "internal error");
        Self::new(
            Kind::Internal,
            "INTERNAL",
            "something went wrong inside the server; its log has the details",
        )
    }

    /// What it is to whoever asked.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// By which programs tell it.
    pub(crate) fn slug(&self) -> &'static str {
        self.slug
    }

    /// What a person can act on.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// When to send the same again, where that may help.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let again = matches!(self.kind, Kind::Exhausted | Kind::Unavailable | Kind::Aborted);
        (again && !NOT_AGAIN.contains(&self.slug)).then_some(RETRY_AFTER)
    }
}

/// The one place where an engine error gets its kind and its slug.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        let (kind, slug) = match error {
            Error::Duck { class, message } => return of_duck(class, &message),
            Error::MultiStatement(_) => (Kind::BadRequest, "MULTI_STATEMENT"),
            Error::Empty => (Kind::BadRequest, "EMPTY_STATEMENT"),
            Error::Refused(_) => (Kind::Forbidden, "NOT_ALLOWED"),
            Error::ExportRefused(_) => (Kind::Forbidden, "EXPORT_REFUSED"),
            Error::BadPath(_) => (Kind::BadRequest, "BAD_PATH"),
            Error::TransactionLost(_) => (Kind::Aborted, "TRANSACTION_LOST"),
            Error::TransactionState(_) => (Kind::Precondition, "TRANSACTION_STATE"),
            Error::SessionBusy(_) => (Kind::Exhausted, "SESSION_BUSY"),
            Error::SchemaMismatch(_) => (Kind::BadRequest, "SCHEMA_MISMATCH"),
            Error::BadArrow(_) => (Kind::BadRequest, "BAD_ARROW"),
            Error::MessageTooLarge => (Kind::BadRequest, "MESSAGE_TOO_LARGE"),
            Error::Disconnected => (Kind::Cancelled, "DISCONNECTED"),
            Error::UnsupportedType { .. } => (Kind::BadRequest, "UNSUPPORTED_TYPE"),
            Error::TableMissing(_) => (Kind::NotFound, "TABLE_NOT_FOUND"),
            Error::TableExists(_) => (Kind::AlreadyExists, "TABLE_EXISTS"),
            Error::BadName(_) => (Kind::BadRequest, "BAD_NAME"),
            Error::ReadBusy { .. } => (Kind::Exhausted, "READS_BUSY"),
            Error::WriteBusy { .. } | Error::TableBusy(_) => (Kind::Exhausted, "WRITE_BUSY"),
            Error::TableChanging { .. } => (Kind::Aborted, "TABLE_CHANGING"),
            Error::QueueFull => (Kind::Exhausted, "QUEUE_FULL"),
            Error::ExportBusy(_) => (Kind::Exhausted, "EXPORT_BUSY"),
            Error::QueryMissing(_) => (Kind::NotFound, "QUERY_NOT_FOUND"),
            Error::QueryUnavailable(_) => (Kind::Unavailable, "QUERY_UNAVAILABLE"),
            Error::BadParameter(_) => (Kind::BadRequest, "BAD_PARAMETER"),
            Error::BadKey(_) => (Kind::BadRequest, "BAD_KEY"),
            Error::KeyReused { .. } => (Kind::AlreadyExists, "KEY_REUSED"),
            Error::SequenceGap { .. } => (Kind::Precondition, "SEQ_GAP"),
            Error::Fenced { .. } => (Kind::Aborted, "FENCED"),
            Error::KeyExpired { .. } => (Kind::Precondition, "KEY_EXPIRED"),
            Error::KeyNotHere(_) => (Kind::Precondition, "KEY_NOT_HERE"),
            Error::JobMissing(_) => (Kind::NotFound, "JOB_NOT_FOUND"),
            Error::JobTimeout(_) => (Kind::TooLong, "JOB_TIMEOUT"),
            Error::JobBusy => (Kind::Aborted, "JOB_BUSY"),
            Error::NotOrphans { .. } => (Kind::Precondition, "NOT_ORPHANS"),
            Error::Overtaken(_) => (Kind::Aborted, "OVERTAKEN"),
            Error::NotTogether => (Kind::Aborted, "NOT_TOGETHER"),
            Error::CatalogDown(_) => (Kind::Unavailable, "CATALOG_DOWN"),
            Error::FilesGone => (Kind::Aborted, "FILES_GONE"),
            Error::BadUnit(_) => (Kind::BadRequest, "BAD_UNIT"),
            Error::WalFull => (Kind::Exhausted, "WAL_FULL"),
            Error::DiskFull => (Kind::Exhausted, "DISK_FULL"),
            Error::EngineDown => (Kind::Unavailable, "ENGINE_DOWN"),
            Error::SessionLost => (Kind::Aborted, "SESSION_LOST"),
            Error::SessionClosed => (Kind::Aborted, "SESSION_CLOSED"),
            Error::EndedByOperator => (Kind::Cancelled, "CANCELLED"),
            Error::StatementMissing(_) => (Kind::NotFound, "STATEMENT_NOT_FOUND"),
            Error::StatementCommits(_) => (Kind::Precondition, "STATEMENT_COMMITS"),
            Error::SessionMissing(_) => (Kind::NotFound, "SESSION_NOT_FOUND"),
            Error::Stalled(_) | Error::NotTaken(_) => (Kind::Aborted, "STALLED"),
            Error::Quarantined { .. } => (Kind::Precondition, "QUARANTINED"),
            Error::CauseLost => (Kind::Unknown, "CAUSE_LOST"),
            Error::Timeout(_) => (Kind::TooLong, "QUERY_TIMEOUT"),
            Error::IngestTimeout { .. } | Error::TableSlow { .. } => (Kind::TooLong, "INGEST_TIMEOUT"),
            Error::ReadTooOld(_) => (Kind::TooLong, "READ_TOO_OLD"),
            Error::ResultTooLarge(_) => (Kind::Precondition, "RESULT_TOO_LARGE"),
            Error::RowTooLarge(_) => (Kind::Precondition, "ROW_TOO_LARGE"),
            Error::SchemaChanged => (Kind::Precondition, "SCHEMA_CHANGED"),
            Error::ReadOnly => (Kind::Forbidden, "READ_ONLY"),
            Error::CommitUnknown(detail) => {
                tracing::error!(%detail, "a commit failed");
                return Self::new(
                    Kind::Unknown,
                    "COMMIT_UNKNOWN",
                    "the commit failed and its outcome is unknown; check before sending again",
                );
            }
            Error::Stopping => (Kind::Unavailable, "SHUTTING_DOWN"),
            Error::SeveralSteps
            | Error::InitSql { .. }
            | Error::Setup { .. }
            | Error::NotDuckDb(_)
            | Error::NameClash(_)
            | Error::LedgerClash(_)
            | Error::WalUnreadable(_) => return Self::internal(&text),
            Error::Internal(detail) => return Self::internal(&detail),
        };
        Self::new(kind, slug, &text)
    }
}

fn of_duck(class: Class, message: &str) -> Failure {
    let (kind, slug) = match class {
        Class::Syntax => (Kind::BadRequest, "SYNTAX"),
        Class::NotFound => (Kind::NotFound, "NOT_FOUND"),
        Class::AlreadyExists => (Kind::AlreadyExists, "ALREADY_EXISTS"),
        Class::Binder => (Kind::BadRequest, "BINDER"),
        Class::Conversion => (Kind::BadRequest, "CONVERSION"),
        Class::OutOfRange => (Kind::BadRequest, "VALUE_OUT_OF_RANGE"),
        Class::DuplicateKey => (Kind::AlreadyExists, "DUPLICATE_KEY"),
        Class::Constraint => (Kind::BadRequest, "CONSTRAINT"),
        Class::Conflict => (Kind::Aborted, "CONFLICT"),
        Class::Aborted => (Kind::Precondition, "TRANSACTION_ABORTED"),
        Class::ReadOnly => (Kind::Forbidden, "READ_ONLY"),
        Class::OutOfMemory => (Kind::Exhausted, "OUT_OF_MEMORY"),
        Class::Interrupted => (Kind::Cancelled, "CANCELLED"),
        Class::Io => (Kind::BadRequest, "IO"),
        Class::Permission => (Kind::Forbidden, "PERMISSION"),
        Class::Unsupported => (Kind::Unsupported, "UNSUPPORTED"),
        Class::Internal | Class::Other => (Kind::Unknown, "ENGINE"),
        Class::Unreachable => {
            // What it says may name hosts and paths, which are not for clients.
            tracing::warn!(error = message, "another server cannot be reached");
            return Failure::new(
                Kind::Unavailable,
                "CATALOG_DOWN",
                "a server or storage that this statement needs cannot be reached just now; try again in a moment",
            );
        }
        Class::Storage => {
            // Likewise. What storage answered is in it.
            tracing::warn!(error = message, "storage has failed");
            return Failure::new(
                Kind::Unavailable,
                "STORAGE_FAILED",
                "the storage of files that this statement needs refused a request or broke off; try again in a moment, \
                 and where that does not help, ask the operator, whose log has the storage's answer",
            );
        }
        Class::Down => return Error::EngineDown.into(),
        Class::DiskFull | Class::Locked | Class::Fatal => {
            tracing::error!(error = message, "the engine failed");
            return match class {
                Class::DiskFull => Failure::new(
                    Kind::Exhausted,
                    "DISK_FULL",
                    "the server's disk is full; nothing was written",
                ),
                _ => Failure::new(
                    Kind::Unavailable,
                    "ENGINE_DOWN",
                    "the database has failed and is being opened again; try again in a moment",
                ),
            };
        }
    };
    match advice(class) {
        Some(advice) => Failure::new(kind, slug, &format!("{message}\n\n{advice}")),
        None => Failure::new(kind, slug, message),
    }
}

/// What to do, where DuckDB's own text does not tell.
fn advice(class: Class) -> Option<&'static str> {
    match class {
        Class::Conflict => Some("Another transaction was faster; run yours again."),
        Class::Aborted => {
            Some("A statement before this one has failed; roll the transaction back and begin again.")
        }
        _ => None,
    }
}

/// The same for sessions.
impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        let text = error.to_string();
        let (kind, slug) = match error {
            SessionError::Engine(error) => return error.into(),
            SessionError::Unused(_) | SessionError::Forgotten => (Kind::Aborted, "SESSION_LOST"),
            SessionError::UnknownTransaction => (Kind::NotFound, "UNKNOWN_TRANSACTION"),
            SessionError::BegunByDriver | SessionError::WhichTransaction => {
                (Kind::Precondition, "TRANSACTION_STATE")
            }
            SessionError::LeavesState => (Kind::BadRequest, "NEEDS_SESSION"),
            SessionError::TooManyTransactions(_) => (Kind::Exhausted, "TOO_MANY_TRANSACTIONS"),
            SessionError::TooManyPolls(_) => (Kind::Exhausted, "TOO_MANY_POLLS"),
            SessionError::ParametersFull(_) => (Kind::Exhausted, "PARAMETERS_FULL"),
            SessionError::ResultsFull => (Kind::Exhausted, "RESULTS_FULL"),
            SessionError::TooManySessions(_) => (Kind::Exhausted, "TOO_MANY_SESSIONS"),
        };
        Self::new(kind, slug, &text)
    }
}

/// And for those who are not let in.
impl From<AuthError> for Failure {
    fn from(error: AuthError) -> Self {
        let (kind, slug) = match &error {
            AuthError::Missing
            | AuthError::Unreadable
            | AuthError::UnknownToken
            | AuthError::NoName
            | AuthError::Login(LoginError::Wrong) => (Kind::Unauthenticated, "UNAUTHENTICATED"),
            // Not exhausted, which would ask the client to try again at once.
            AuthError::Login(LoginError::TooMany) => (Kind::Forbidden, "TOO_MANY_LOGINS"),
            AuthError::Login(LoginError::Busy) => (Kind::Exhausted, "LOGINS_BUSY"),
        };
        Self::new(kind, slug, &error.to_string())
    }
}

/// Cuts a long text at a character's border.
fn shortened(text: &str) -> String {
    if text.len() <= MAX_TEXT {
        return text.to_owned();
    }
    let end = (0..=MAX_TEXT).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    format!("{} [...]", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_may_be_sent_again() {
        assert!(Failure::from(Error::QueueFull).retry_after().is_some());
        assert!(Failure::from(Error::EngineDown).retry_after().is_some());
        assert!(Failure::from(Error::SessionLost).retry_after().is_none());
        assert!(Failure::from(Error::Empty).retry_after().is_none());
    }

    #[test]
    fn who_met_another_transaction_is_told_so_and_may_send_again() {
        let message = "TransactionContext Error: Conflict on tuple deletion!".to_owned();
        let failure = Failure::from(Error::Duck { class: Class::Conflict, message });
        assert_eq!((failure.kind(), failure.slug()), (Kind::Aborted, "CONFLICT"));
        assert!(failure.retry_after().is_some());
    }

    #[test]
    fn what_storage_says_is_not_for_clients() {
        let message =
            "HTTP Error: HTTP GET error reading 's3://b/k' in region 'r' (HTTP 403 Forbidden)".to_owned();
        let failure = Failure::from(Error::Duck { class: Class::Storage, message });
        assert_eq!((failure.kind(), failure.slug()), (Kind::Unavailable, "STORAGE_FAILED"));
        assert!(failure.retry_after().is_some());
        assert!(
            !failure.text().contains("s3://") && failure.text().contains("try again"),
            "{}",
            failure.text()
        );
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let failure = Failure::new(Kind::BadRequest, "SYNTAX", &"ä".repeat(MAX_TEXT));
        assert!(failure.text().len() <= MAX_TEXT + " [...]".len());
        assert!(failure.text().ends_with("ä [...]"));
    }
}
