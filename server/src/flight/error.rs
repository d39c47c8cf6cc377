//! Every failure as a status: the gRPC code of its kind, and `SLUG: text`.

use tonic::{Code, Status, metadata::MetadataValue};

use crate::{
    engine::Error,
    failure::{Failure, Kind},
    session::{AuthError, SessionError},
};

/// When to try again, in gRPC's own header, for what passes by itself.
const RETRY_HEADER: &str = "grpc-retry-pushback-ms";

/// An engine error as a status.
pub(super) fn engine_status(error: Error) -> Status {
    status(&error.into())
}

/// The same for sessions.
pub(super) fn session_status(error: SessionError) -> Status {
    status(&error.into())
}

/// The same for those who are not let in.
pub(super) fn auth_status(error: AuthError) -> Status {
    status(&error.into())
}

/// Whether a client was given up because it sent nothing.
pub(super) fn is_stalled(status: &Status) -> bool {
    status.message().starts_with("STALLED")
}

/// Something that was there and is no more, or never was.
pub(super) fn not_found(slug: &'static str, text: &str) -> Status {
    status(&Failure::new(Kind::NotFound, slug, text))
}

/// A query that somebody has cancelled.
pub(super) fn cancelled() -> Status {
    status(&Failure::new(Kind::Cancelled, "CANCELLED", "the query was cancelled"))
}

/// A request that makes no sense.
pub(super) fn bad_request(slug: &'static str, text: &str) -> Status {
    status(&Failure::new(Kind::BadRequest, slug, text))
}

/// A bug of ours: the client learns that it is one, the log learns which.
pub(super) fn internal(detail: &dyn std::fmt::Display) -> Status {
    status(&Failure::internal(detail))
}

/// Something of the protocol that this server does not do.
pub(super) fn unimplemented(what: &str) -> Status {
    let text = format!("{what} is not supported by this server");
    status(&Failure::new(Kind::Unsupported, "UNIMPLEMENTED", &text))
}

/// Nobody who was let in; the text says what to send.
pub(super) fn unauthenticated(text: &str) -> Status {
    status(&Failure::new(Kind::Unauthenticated, "UNAUTHENTICATED", text))
}

/// A handle that is unknown, expired or closed.
pub(super) fn unknown_handle() -> Status {
    not_found("UNKNOWN_HANDLE", "the handle is unknown, closed or expired; prepare the statement again")
}

/// What a statement has returned and nobody can have any more. Whoever made a new FlightInfo would run it again.
pub(super) fn result_expired() -> Status {
    not_found(
        "RESULT_EXPIRED",
        "the statement of this ticket has run, and must not be sent again: what it changed stands, unless its transaction was \
         rolled back; only the rows that it returned are gone, because nobody asked for them in time; read them from the table",
    )
}

fn status(failure: &Failure) -> Status {
    let mut status = Status::new(code(failure.kind()), format!("{}: {}", failure.slug(), failure.text()));
    if let Some(after) = failure.retry_after() {
        let milliseconds = MetadataValue::from(after.as_millis() as u64);
        status.metadata_mut().insert(RETRY_HEADER, milliseconds);
    }
    status
}

fn code(kind: Kind) -> Code {
    match kind {
        Kind::BadRequest => Code::InvalidArgument,
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::Forbidden => Code::PermissionDenied,
        Kind::Unauthenticated => Code::Unauthenticated,
        Kind::Precondition => Code::FailedPrecondition,
        Kind::Exhausted => Code::ResourceExhausted,
        Kind::Aborted => Code::Aborted,
        Kind::Cancelled => Code::Cancelled,
        Kind::TooLong => Code::DeadlineExceeded,
        Kind::Unavailable => Code::Unavailable,
        Kind::Unsupported => Code::Unimplemented,
        Kind::Unknown => Code::Unknown,
        Kind::Internal => Code::Internal,
    }
}
