//! What unqualified names mean on a connection that keeps state, and by that in its session.
//!
//! DuckDB undoes no USE: it counts also where its script fails, its transaction is rolled back, or its client has gone. So
//! the connection is asked after every text that may have set names, before anybody else gets it.

use super::PinnedConnection;
use crate::engine::{Names, Result, SessionNames, names::current};

/// What names mean on one connection.
pub(super) struct PinnedNames {
    of_session: SessionNames,
    /// Here, as far as is known.
    here: Names,
    /// They may be others, and DuckDB does not tell while its transaction is aborted. Nor does anything run there then.
    unknown: bool,
}

impl PinnedNames {
    /// Those of a connection that has just been opened with the names of its session.
    pub(super) fn new(of_session: SessionNames, here: Names) -> Self {
        Self { of_session, here, unknown: false }
    }
}

impl PinnedConnection {
    /// What names mean here.
    pub(super) fn names(&self) -> &Names {
        &self.names.here
    }

    /// Sets them, here and in the session.
    pub(super) fn set_names(&mut self, names: Names) -> Result<()> {
        self.point_to(&names)?;
        self.names.of_session.set(names.clone());
        self.names.here = names;
        Ok(())
    }

    /// Sets those of the session, which another of its connections may have changed. A transaction keeps its own.
    pub(super) fn follow_session(&mut self) -> Result<()> {
        let names = self.names.of_session.get();
        if !self.in_transaction() && self.names.here != names {
            self.point_to(&names)?;
            self.names.here = names;
        }
        Ok(())
    }

    /// A text has run that may have set names, however it has ended.
    pub(super) fn may_have_set_names(&mut self) {
        self.names.unknown = true;
        self.settle_names();
    }

    /// Finds out what names mean, where that is not known. It shows at the end of an aborted transaction at the latest.
    pub(super) fn settle_names(&mut self) {
        if !self.names.unknown {
            return;
        }
        match self.ask_for_names() {
            Ok(names) => {
                self.names.of_session.set(names.clone());
                (self.names.here, self.names.unknown) = (names, false);
            }
            Err(error) => tracing::debug!(%error, "what names mean is not known yet"),
        }
    }

    fn ask_for_names(&self) -> Result<Names> {
        let names = current(&self.connection)?;
        self.connection.has_used(&names)?;
        Ok(names)
    }

    fn point_to(&mut self, names: &Names) -> Result<()> {
        if let Some(open) = &mut self.transaction {
            open.forget_plan();
        }
        self.connection.set_names(names)
    }
}
