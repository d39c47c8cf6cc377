//! Whether the server serves: one truth for everybody who asks, over gRPC and over HTTP.

use tokio::sync::watch;

/// What the server does just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The database is being opened.
    Starting,
    /// Requests are answered.
    Serving,
    /// The engine has failed and is being opened again.
    Down,
    /// Requests under way may end; new ones are refused. Nothing comes after it.
    Stopping,
}

/// The server's phase. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Readiness {
    phase: watch::Sender<Phase>,
}

impl Readiness {
    /// Of a server that starts.
    pub(crate) fn starting() -> Self {
        Self { phase: watch::Sender::new(Phase::Starting) }
    }

    /// Enters a phase. A server that stops does not serve again, whatever becomes of its engine meanwhile.
    pub(crate) fn enter(&self, next: Phase) {
        self.phase.send_if_modified(|phase| {
            let enters = *phase != Phase::Stopping && *phase != next;
            if enters {
                *phase = next;
            }
            enters
        });
    }

    /// The phase of now.
    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Tells of every change.
    #[cfg(test)]
    pub(crate) fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_is_final() {
        let readiness = Readiness::starting();
        for phase in [Phase::Serving, Phase::Down, Phase::Serving, Phase::Stopping] {
            readiness.enter(phase);
            assert_eq!(readiness.phase(), phase);
        }
        readiness.enter(Phase::Serving);
        assert_eq!(readiness.phase(), Phase::Stopping);
    }

    #[test]
    fn who_watches_learns_of_changes_only() {
        let readiness = Readiness::starting();
        let mut changes = readiness.watch();
        readiness.enter(Phase::Starting);
        assert!(!changes.has_changed().unwrap());
        readiness.enter(Phase::Serving);
        assert_eq!(*changes.borrow_and_update(), Phase::Serving);
    }
}
