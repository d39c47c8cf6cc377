//! What can be known of an instance, and done to it, without keeping it open.

use std::sync::{
    Arc, OnceLock, Weak,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{
    Class, DuckError,
    connection::{Interrupt, RawConnection},
};

/// Shared by an instance, its connections, and whoever watches over it.
#[derive(Default)]
pub(crate) struct Pulse {
    /// Why the instance must be opened again.
    reason: OnceLock<String>,
    failed: CancellationToken,
    closed: AtomicBool,
    connections: Mutex<Vec<Weak<RawConnection>>>,
}

impl Pulse {
    /// Says that the instance is beyond repair. The first reason is kept.
    pub(crate) fn fail(&self, reason: &str) {
        let _ = self.reason.set(reason.to_owned());
        self.failed.cancel();
    }

    /// True once the instance is beyond repair.
    pub(crate) fn has_failed(&self) -> bool {
        self.reason.get().is_some()
    }

    /// Why the instance is beyond repair.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }

    /// Cancelled once the instance is beyond repair.
    pub(crate) fn failed(&self) -> &CancellationToken {
        &self.failed
    }

    /// True once DuckDB has closed the instance.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Interrupts whatever runs on a connection of the instance; returns how many connections are left.
    pub(crate) fn interrupt_all(&self) -> usize {
        // Outside the lock: the last hold on a connection may be dropped here, which closes it.
        let connections: Vec<_> = self.connections.lock().iter().filter_map(Weak::upgrade).collect();
        connections.iter().for_each(|connection| Interrupt::of(connection).interrupt());
        connections.len()
    }

    pub(super) fn closed(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    pub(super) fn connected(&self, connection: &Arc<RawConnection>) {
        let mut connections = self.connections.lock();
        if connections.len() == connections.capacity() {
            connections.retain(|connection| connection.strong_count() > 0);
        }
        connections.push(Arc::downgrade(connection));
    }

    /// Every error of a connection passes here. A fatal one condemns the instance; on an instance that is
    /// condemned already, a statement was stopped or refused for that reason and no other.
    pub(super) fn examine(&self, mut error: DuckError) -> DuckError {
        let refused =
            error.class == Class::Fatal && error.message.contains("because of a previous fatal error");
        if self.has_failed() && (refused || error.class == Class::Interrupted) {
            error.class = Class::Down;
        } else if error.class == Class::Fatal {
            self.fail(&error.message);
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: &str =
        "FATAL Error: Failed: database has been invalidated because of a previous fatal error.";

    fn class(pulse: &Pulse, message: &str) -> Class {
        pulse.examine(DuckError::from_message(message.into())).class
    }

    #[test]
    fn the_first_fatal_error_condemns_and_the_others_follow_from_it() {
        let pulse = Pulse::default();
        assert_eq!(class(&pulse, "INTERRUPT Error: Interrupted!"), Class::Interrupted);
        assert!(!pulse.has_failed());
        assert_eq!(class(&pulse, "FATAL Error: Failed to create checkpoint"), Class::Fatal);
        assert_eq!(pulse.reason(), Some("FATAL Error: Failed to create checkpoint"));
        assert!(pulse.failed().is_cancelled());
        assert_eq!(class(&pulse, REFUSED), Class::Down);
        assert_eq!(class(&pulse, "INTERRUPT Error: Interrupted!"), Class::Down);
        assert_eq!(class(&pulse, "FATAL Error: another"), Class::Fatal);
        assert_eq!(class(&pulse, "Catalog Error: no such table"), Class::NotFound);
        assert_eq!(pulse.reason(), Some("FATAL Error: Failed to create checkpoint"));
    }

    #[test]
    fn a_failure_that_another_connection_caused_is_noticed_too() {
        let pulse = Pulse::default();
        assert_eq!(class(&pulse, REFUSED), Class::Fatal);
        assert!(pulse.has_failed());
    }

    #[test]
    fn a_client_cannot_condemn_the_instance_by_its_own_words() {
        let pulse = Pulse::default();
        for text in [
            "Invalid Input Error: FATAL Error: database has been invalidated",
            "Conversion Error: Could not convert string 'database has been invalidated' to INT32",
            "Conversion Error: Could not convert string 'No space left on device' to INT32",
        ] {
            assert!(!matches!(class(&pulse, text), Class::Fatal | Class::DiskFull), "{text}");
        }
        assert!(!pulse.has_failed());
    }
}
