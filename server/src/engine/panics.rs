//! Panics of threads that the database cannot go on without.

use std::{
    any::Any,
    panic::{self, AssertUnwindSafe},
};

/// Does a thread's work; tells why it has panicked, if it has. The log says so.
pub(super) fn caught(thread: &str, work: impl FnOnce()) -> Option<String> {
    let panic = panic::catch_unwind(AssertUnwindSafe(work)).err()?;
    let reason = text_of(panic.as_ref());
    tracing::error!(thread, reason, "a thread has panicked");
    Some(reason.to_owned())
}

/// What a panic says.
pub(super) fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a reason")
}
