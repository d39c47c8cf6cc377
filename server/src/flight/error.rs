//! Every error as a status: the gRPC code, a stable SLUG, and a text a person can act on. What a client
//! must not see stays in the log.

use tonic::{Code, Status, metadata::MetadataValue};

use crate::{
    engine::{Class, Error},
    session::{LoginError, SessionError},
};

/// Longer texts are cut: a status travels in HTTP/2 trailers, for which clients set aside 8 KiB.
const MAX_TEXT: usize = 1_500;

/// When to try again, in gRPC's own header, for what passes by itself.
const RETRY_HEADER: &str = "grpc-retry-pushback-ms";
const RETRY_AFTER_MS: &str = "250";

/// The one place where an engine error becomes a status.
pub(super) fn engine_status(error: Error) -> Status {
    let text = error.to_string();
    let (code, slug) = match error {
        Error::Duck { class, message } => return duck_status(class, &message),
        Error::MultiStatement(_) => (Code::InvalidArgument, "MULTI_STATEMENT"),
        Error::Empty => (Code::InvalidArgument, "EMPTY_STATEMENT"),
        Error::Refused(_) => (Code::PermissionDenied, "NOT_ALLOWED"),
        Error::TransactionLost(_) => (Code::Aborted, "TRANSACTION_LOST"),
        Error::TransactionState(_) => (Code::FailedPrecondition, "TRANSACTION_STATE"),
        Error::SessionBusy(_) => (Code::ResourceExhausted, "SESSION_BUSY"),
        Error::SchemaMismatch(_) => (Code::InvalidArgument, "SCHEMA_MISMATCH"),
        Error::BadArrow(_) => (Code::InvalidArgument, "BAD_ARROW"),
        Error::MessageTooLarge => (Code::InvalidArgument, "MESSAGE_TOO_LARGE"),
        Error::Disconnected => (Code::Cancelled, "DISCONNECTED"),
        Error::UnsupportedType { .. } => (Code::InvalidArgument, "UNSUPPORTED_TYPE"),
        Error::TableMissing(_) => (Code::NotFound, "TABLE_NOT_FOUND"),
        Error::TableExists(_) => (Code::AlreadyExists, "TABLE_EXISTS"),
        Error::BadName(_) => (Code::InvalidArgument, "BAD_NAME"),
        Error::ReadBusy { .. } => (Code::ResourceExhausted, "READS_BUSY"),
        Error::WriteBusy(_) => (Code::ResourceExhausted, "WRITE_BUSY"),
        Error::TableChanging { .. } => (Code::Aborted, "TABLE_CHANGING"),
        Error::QueueFull => (Code::ResourceExhausted, "QUEUE_FULL"),
        Error::QueryMissing(_) => (Code::NotFound, "QUERY_NOT_FOUND"),
        Error::BadParameter(_) => (Code::InvalidArgument, "BAD_PARAMETER"),
        Error::BadKey(_) => (Code::InvalidArgument, "BAD_KEY"),
        Error::KeyReused { .. } => (Code::AlreadyExists, "KEY_REUSED"),
        Error::SequenceGap { .. } => (Code::FailedPrecondition, "SEQ_GAP"),
        Error::Fenced { .. } => (Code::Aborted, "FENCED"),
        Error::KeyExpired { .. } => (Code::FailedPrecondition, "KEY_EXPIRED"),
        Error::KeyNotHere(_) => (Code::FailedPrecondition, "KEY_NOT_HERE"),
        Error::BadUnit(_) => (Code::InvalidArgument, "BAD_UNIT"),
        Error::WalFull => (Code::ResourceExhausted, "WAL_FULL"),
        Error::DiskFull => (Code::ResourceExhausted, "DISK_FULL"),
        Error::EngineDown => (Code::Unavailable, "ENGINE_DOWN"),
        Error::SessionLost => (Code::Aborted, "SESSION_LOST"),
        Error::Stalled(_) | Error::NotTaken(_) => (Code::Aborted, "STALLED"),
        Error::Timeout(_) => (Code::DeadlineExceeded, "QUERY_TIMEOUT"),
        Error::ReadTooOld(_) => (Code::DeadlineExceeded, "READ_TOO_OLD"),
        Error::ResultTooLarge(_) => (Code::FailedPrecondition, "RESULT_TOO_LARGE"),
        Error::SchemaChanged => (Code::FailedPrecondition, "SCHEMA_CHANGED"),
        Error::ReadOnly => (Code::PermissionDenied, "READ_ONLY"),
        Error::CommitUnknown(detail) => {
            tracing::error!(%detail, "a commit failed");
            return status(
                Code::Unknown,
                "COMMIT_UNKNOWN",
                "the commit failed and its outcome is unknown; check before sending again",
            );
        }
        Error::Stopping => (Code::Unavailable, "SHUTTING_DOWN"),
        Error::InitSql { .. }
        | Error::Setup { .. }
        | Error::NameClash(_)
        | Error::LedgerClash(_)
        | Error::WalUnreadable(_) => return internal(&text),
        Error::Internal(detail) => return internal(&detail),
    };
    status(code, slug, &text)
}

fn duck_status(class: Class, message: &str) -> Status {
    let (code, slug) = match class {
        Class::Syntax => (Code::InvalidArgument, "SYNTAX"),
        Class::NotFound => (Code::NotFound, "NOT_FOUND"),
        Class::AlreadyExists => (Code::AlreadyExists, "ALREADY_EXISTS"),
        Class::Binder => (Code::InvalidArgument, "BINDER"),
        Class::Conversion => (Code::InvalidArgument, "CONVERSION"),
        Class::OutOfRange => (Code::InvalidArgument, "VALUE_OUT_OF_RANGE"),
        Class::DuplicateKey => (Code::AlreadyExists, "DUPLICATE_KEY"),
        Class::Constraint => (Code::InvalidArgument, "CONSTRAINT"),
        Class::Conflict => (Code::Aborted, "CONFLICT"),
        Class::ReadOnly => (Code::PermissionDenied, "READ_ONLY"),
        Class::OutOfMemory => (Code::ResourceExhausted, "OUT_OF_MEMORY"),
        Class::Interrupted => (Code::Cancelled, "CANCELLED"),
        Class::Io => (Code::InvalidArgument, "IO"),
        Class::Permission => (Code::PermissionDenied, "PERMISSION"),
        Class::Unsupported => (Code::Unimplemented, "UNSUPPORTED"),
        Class::Other => (Code::Unknown, "ENGINE"),
        Class::Down => return engine_status(Error::EngineDown),
        Class::DiskFull | Class::Locked | Class::Fatal => {
            tracing::error!(error = message, "the engine failed");
            return match class {
                Class::DiskFull => status(
                    Code::ResourceExhausted,
                    "DISK_FULL",
                    "the server's disk is full; nothing was written",
                ),
                _ => status(
                    Code::Unavailable,
                    "ENGINE_DOWN",
                    "the database has failed and is being opened again; try again in a moment",
                ),
            };
        }
    };
    if class == Class::Conflict {
        return status(code, slug, &format!("{message}\n\nAnother transaction was faster; run yours again."));
    }
    status(code, slug, message)
}

/// The same for sessions.
pub(super) fn session_status(error: SessionError) -> Status {
    let text = error.to_string();
    match error {
        SessionError::Engine(error) => engine_status(error),
        SessionError::UnknownTransaction => not_found("UNKNOWN_TRANSACTION", &text),
        SessionError::BegunByDriver | SessionError::WhichTransaction => {
            status(Code::FailedPrecondition, "TRANSACTION_STATE", &text)
        }
        SessionError::TooManyTransactions(_) => {
            status(Code::ResourceExhausted, "TOO_MANY_TRANSACTIONS", &text)
        }
        SessionError::TooManyPolls(_) => status(Code::ResourceExhausted, "TOO_MANY_POLLS", &text),
        SessionError::ParametersFull(_) => status(Code::ResourceExhausted, "PARAMETERS_FULL", &text),
        SessionError::TooManySessions(_) => status(Code::ResourceExhausted, "TOO_MANY_SESSIONS", &text),
    }
}

/// Whether a client was given up because it sent nothing.
pub(super) fn is_stalled(status: &Status) -> bool {
    status.message().starts_with("STALLED")
}

/// Something that was there and is no more, or never was.
pub(super) fn not_found(slug: &str, text: &str) -> Status {
    status(Code::NotFound, slug, text)
}

/// A query that somebody has cancelled.
pub(super) fn cancelled() -> Status {
    status(Code::Cancelled, "CANCELLED", "the query was cancelled")
}

/// A request that makes no sense.
pub(super) fn bad_request(slug: &str, text: &str) -> Status {
    status(Code::InvalidArgument, slug, text)
}

/// A bug of ours: the client learns that it is one, the log learns which.
pub(super) fn internal(detail: &dyn std::fmt::Display) -> Status {
    tracing::error!(%detail, "internal error");
    status(Code::Internal, "INTERNAL", "something went wrong inside the server; its log has the details")
}

/// Something of the protocol that this server does not do.
pub(super) fn unimplemented(what: &str) -> Status {
    status(Code::Unimplemented, "UNIMPLEMENTED", &format!("{what} is not supported by this server"))
}

/// Nobody who was let in; the text says what to send.
pub(super) fn unauthenticated(text: &str) -> Status {
    status(Code::Unauthenticated, "UNAUTHENTICATED", text)
}

/// A user and a password that were not let in.
pub(super) fn login_status(error: &LoginError) -> Status {
    let (code, slug) = match error {
        LoginError::Wrong => (Code::Unauthenticated, "UNAUTHENTICATED"),
        // Not RESOURCE_EXHAUSTED, which would ask the client to try again at once.
        LoginError::TooMany => (Code::PermissionDenied, "TOO_MANY_LOGINS"),
        LoginError::Busy => (Code::ResourceExhausted, "LOGINS_BUSY"),
    };
    status(code, slug, &error.to_string())
}

/// A handle that is unknown, expired or closed.
pub(super) fn unknown_handle() -> Status {
    status(
        Code::NotFound,
        "UNKNOWN_HANDLE",
        "the handle is unknown, closed or expired; prepare the statement again",
    )
}

/// Aborted, and to be begun anew or not at all: sending the same again is no use.
const NOT_AGAIN: [&str; 3] = ["FENCED", "SESSION_LOST", "TRANSACTION_LOST"];

fn status(code: Code, slug: &str, text: &str) -> Status {
    let mut status = Status::new(code, format!("{slug}: {}", shortened(text)));
    let again = matches!(code, Code::ResourceExhausted | Code::Unavailable | Code::Aborted);
    if again && !NOT_AGAIN.contains(&slug) {
        status.metadata_mut().insert(RETRY_HEADER, MetadataValue::from_static(RETRY_AFTER_MS));
    }
    status
}

/// Cuts a long text at a character's border.
fn shortened(text: &str) -> String {
    if text.len() <= MAX_TEXT {
        return text.to_owned();
    }
    let end = (0..=MAX_TEXT).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    format!("{} [...]", &text[..end])
}
