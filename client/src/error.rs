//! What can go wrong, in words a person can act on.

use std::{error::Error as StdError, io, sync::Arc, time::Duration};

use arrow_flight::error::FlightError;
use arrow_schema::ArrowError;
use tonic::{Code, Status, metadata::MetadataMap};

use crate::{IngestKey, advice::with_advice};

/// gRPC's name for how many milliseconds the server wants to be left alone.
const PUSHBACK_HEADER: &str = "grpc-retry-pushback-ms";
/// How tonic begins what it says of an answer that broke off, or that a proxy gave in a form of its own.
const BROKEN_ANSWERS: [&str; 3] = ["protocol error: ", "h2 protocol error: ", "Unexpected EOF"];
/// Refused with a code that invites to try again, although the same call can never succeed.
const LOST_FOR_GOOD: [&str; 4] = ["FENCED", "SESSION_CLOSED", "SESSION_LOST", "TRANSACTION_LOST"];

/// An error of this library. Its `Display` is one message for a person; most begin with a slug in
/// capitals (`TABLE_NOT_FOUND: ...`) that a program may match on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection came up, so nothing was sent. Try again once the server is there.
    #[error("CONNECT: {0}")]
    Connect(String),

    /// The connection broke during a call, or a proxy answered in the place of the server, as with a 504: whether
    /// the server did what was asked is unknown.
    #[error("DISCONNECTED: the connection to the server was lost: {0}")]
    Disconnected(String),

    /// The server refused or failed; its message says what to do.
    #[error("{slug}: {message}")]
    Server {
        /// The gRPC status code.
        code: Code,
        /// The stable name of the problem, such as `SCHEMA_MISMATCH`; the name of the code when the
        /// message carries none.
        slug: String,
        /// What is wrong, without the slug.
        message: String,
        /// How long the server asks to wait before another try, if it says so.
        retry_after: Option<Duration>,
    },

    /// A [`Loader`](crate::Loader) has come to its end: this unit is not known to be stored, and so is none
    /// after it.
    #[error("{cause}{}", unit_unless_named(key, cause))]
    Unit {
        /// The first unit that is not acknowledged.
        key: IngestKey,
        /// Why.
        cause: Arc<Error>,
    },

    /// The server answered something that Flight SQL does not allow here.
    #[error("PROTOCOL: {0}")]
    Protocol(String),

    /// Arrow data could not be read, converted or written.
    #[error("ARROW: {0}")]
    Arrow(#[from] ArrowError),

    /// A file or a pipe could not be read or written.
    #[error("IO: {0}")]
    Io(#[from] io::Error),

    /// The call itself is wrong; the same call can never succeed.
    #[error("{0}")]
    Usage(String),
}

impl Error {
    /// Whether nothing was done and the same call may succeed later.
    ///
    /// A [`Disconnected`](Error::Disconnected) is not retryable by this measure: a write may have been
    /// committed although its answer was lost.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Connect(_) => true,
            Self::Server { code, slug, .. } => {
                matches!(code, Code::Unavailable | Code::Aborted | Code::ResourceExhausted)
                    && !LOST_FOR_GOOD.contains(&slug.as_str())
            }
            Self::Unit { cause, .. } => cause.retryable(),
            Self::Disconnected(_) | Self::Protocol(_) | Self::Arrow(_) | Self::Io(_) | Self::Usage(_) => {
                false
            }
        }
    }

    /// Whether a call that does no harm when it is done twice may succeed later: a query, or a unit with an
    /// [`IngestKey`]. Besides what is [`retryable`](Self::retryable), that is what leaves open whether the unit
    /// was committed.
    pub fn retryable_with_key(&self) -> bool {
        match self {
            Self::Disconnected(_) => true,
            Self::Unit { cause, .. } => cause.retryable_with_key(),
            _ => self.retryable() || self.slug() == Some("COMMIT_UNKNOWN"),
        }
    }

    /// The stable name of what the server refused, such as `SCHEMA_MISMATCH`; none when it was not the server.
    pub fn slug(&self) -> Option<&str> {
        match self {
            Self::Server { slug, .. } => Some(slug),
            Self::Unit { cause, .. } => cause.slug(),
            _ => None,
        }
    }

    /// How long the server asks to wait before another try, if it says so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Server { retry_after, .. } => *retry_after,
            Self::Unit { cause, .. } => cause.retry_after(),
            _ => None,
        }
    }

    /// Whether the token is no good (any more).
    pub(crate) fn unauthenticated(&self) -> bool {
        matches!(self, Self::Server { code: Code::Unauthenticated, .. })
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        // A status that has a source was made on this side, from a failure of the transport.
        if let Some(source) = status.source() {
            let reason = with_advice(root_cause(source));
            return if chain(source).any(|cause| cause.is::<tonic::ConnectError>()) {
                Self::Connect(format!("cannot reach the server: {reason}"))
            } else {
                Self::Disconnected(reason)
            };
        }
        let (code, text) = (status.code(), status.message());
        let (slug, message) = match split_slug(text) {
            Some(parts) => parts,
            None if is_no_answer(code, text) => return Self::Disconnected(text.to_owned()),
            None => (code_name(code), text),
        };
        let retry_after = pushback(status.metadata());
        Self::Server { code, slug: slug.to_owned(), message: message.to_owned(), retry_after }
    }
}

/// Whether a status without a slug says that the server's own answer did not arrive: tonic makes it of what a proxy
/// answers, and of a stream that ends without a status, while every status of the server has a slug. What the server
/// did is unknown then, whatever the code promises.
fn is_no_answer(code: Code, text: &str) -> bool {
    match code {
        Code::Unavailable
        | Code::Unknown
        | Code::Cancelled
        | Code::Aborted
        | Code::ResourceExhausted
        | Code::DeadlineExceeded => true,
        Code::Internal => BROKEN_ANSWERS.iter().any(|begin| text.starts_with(begin)),
        _ => false,
    }
}

/// What cannot be read is no wish.
fn pushback(metadata: &MetadataMap) -> Option<Duration> {
    let milliseconds = metadata.get(PUSHBACK_HEADER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_millis(milliseconds))
}

impl From<FlightError> for Error {
    fn from(error: FlightError) -> Self {
        match error {
            FlightError::Arrow(error) => Self::Arrow(error),
            FlightError::Tonic(status) => Self::from(*status),
            FlightError::NotYetImplemented(text)
            | FlightError::ProtocolError(text)
            | FlightError::DecodeError(text) => Self::Protocol(text),
            // The only external errors are our own, on their way through arrow_flight's encoder.
            FlightError::ExternalError(error) => match error.downcast::<Self>() {
                Ok(error) => *error,
                Err(error) => Self::Protocol(error.to_string()),
            },
        }
    }
}

/// The server names the unit in most of what it says of a long stream.
fn unit_unless_named(key: &IngestKey, cause: &Error) -> String {
    let key = key.to_string();
    if cause.to_string().contains(&key) { String::new() } else { format!(" (unit {key})") }
}

/// Splits `SLUG: text`; none when the text does not begin with a slug.
fn split_slug(message: &str) -> Option<(&str, &str)> {
    let (slug, text) = message.split_once(": ")?;
    let starts_well = slug.starts_with(|c: char| c.is_ascii_uppercase());
    let is_slug = slug.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    (starts_well && is_slug).then_some((slug, text))
}

/// The name of a status code as the gRPC specification writes it.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// The innermost cause: the outer ones only say "transport error".
pub(crate) fn root_cause(error: &(dyn StdError + 'static)) -> String {
    chain(error).last().map_or_else(String::new, |cause| cause.to_string())
}

fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_split_off() {
        assert_eq!(
            split_slug("SCHEMA_MISMATCH: column a: BIGINT wanted"),
            Some(("SCHEMA_MISMATCH", "column a: BIGINT wanted"))
        );
        assert_eq!(
            split_slug("SYNTAX: near \"FORM\"\nSELECT 1 FORM t\n         ^"),
            Some(("SYNTAX", "near \"FORM\"\nSELECT 1 FORM t\n         ^"))
        );
        assert_eq!(split_slug("V2: x"), Some(("V2", "x")));
    }

    #[test]
    fn other_text_has_no_slug() {
        for text in ["", "no colon", "Parser Error: x", "A:b", ": x", "_A: x", "2ND: x", "TWO WORDS: x"] {
            assert_eq!(split_slug(text), None, "{text}");
        }
    }

    #[test]
    fn a_status_without_slug_gets_the_name_of_its_code() {
        let error = Error::from(Status::not_found("no such thing"));
        assert_eq!(error.to_string(), "NOT_FOUND: no such thing");
        let error = Error::from(Status::not_found("TABLE_NOT_FOUND: no table t"));
        assert_eq!(error.to_string(), "TABLE_NOT_FOUND: no table t");
    }

    #[test]
    fn only_what_was_not_done_is_retryable() {
        assert!(Error::from(Status::unavailable("ENGINE_DOWN: x")).retryable());
        assert!(Error::from(Status::aborted("CONFLICT: x")).retryable());
        assert!(Error::from(Status::resource_exhausted("QUEUE_FULL: x")).retryable());
        assert!(Error::Connect("refused".into()).retryable());
        let ended = Error::from(Status::resource_exhausted("WAL_FULL: nothing of it was written"));
        assert!(ended.retryable() && ended.retryable_with_key(), "an upload that was ended is sent again");
        assert!(!Error::from(Status::unknown("CAUSE_LOST: x")).retryable());
        assert!(!Error::from(Status::invalid_argument("x")).retryable());
        assert!(!Error::Disconnected("reset".into()).retryable());
        for slug in ["FENCED", "SESSION_CLOSED", "SESSION_LOST", "TRANSACTION_LOST"] {
            let error = Error::from(Status::aborted(format!("{slug}: gone")));
            assert!(!error.retryable() && !error.retryable_with_key(), "{error}");
        }
    }

    #[test]
    fn what_did_not_come_from_the_server_leaves_open_what_it_did() {
        for status in [
            Status::unavailable("grpc-status header missing, mapped from HTTP status code 504"),
            Status::unknown("protocol error: missing grpc-status trailer"),
            Status::cancelled("Timeout expired"),
            Status::aborted("x"),
            Status::resource_exhausted("x"),
            Status::deadline_exceeded(""),
            Status::internal("Unexpected EOF decoding stream."),
            Status::internal("protocol error: received message with invalid compression flag: 60"),
        ] {
            let error = Error::from(status);
            assert!(matches!(error, Error::Disconnected(_)), "{error}");
            assert!(!error.retryable() && error.retryable_with_key(), "{error}");
        }
        for status in [Status::internal("x"), Status::unauthenticated("x"), Status::out_of_range("x")] {
            let error = Error::from(status);
            assert!(error.slug().is_some() && !error.retryable_with_key(), "{error}");
        }
    }

    #[test]
    fn a_key_makes_it_harmless_not_to_know() {
        let unknown = Error::from(Status::unknown("COMMIT_UNKNOWN: look before sending again"));
        let unit = |cause| Error::Unit { key: IngestKey::new("a", 1, 2), cause: Arc::new(cause) };
        for error in [unknown, Error::Disconnected("reset".into())] {
            assert!(!error.retryable() && error.retryable_with_key(), "{error}");
            assert!(unit(error).retryable_with_key());
        }
        let other = unit(Error::from(Status::unknown("CAUSE_LOST: x")));
        assert!(!other.retryable_with_key());
        let (slug, text) = (other.slug(), other.to_string());
        assert_eq!((slug, text.as_str()), (Some("CAUSE_LOST"), "CAUSE_LOST: x (unit a/1/2)"));
    }

    #[test]
    fn the_server_may_say_how_long_to_wait() {
        for (text, wanted) in [("250", Some(Duration::from_millis(250))), ("-1", None), ("soon", None)] {
            let mut status = Status::resource_exhausted("QUEUE_FULL: full");
            status.metadata_mut().insert(PUSHBACK_HEADER, text.parse().unwrap());
            assert_eq!(Error::from(status).retry_after(), wanted, "{text}");
        }
    }

    #[test]
    fn our_own_error_survives_the_encoder() {
        let through = FlightError::ExternalError(Box::new(Error::Usage("mine".into())));
        assert!(matches!(Error::from(through), Error::Usage(text) if text == "mine"));
    }
}
