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
    /// They may be others, which DuckDB neither tells nor sets while its transaction is aborted. Nor does anything run there
    /// then.
    doubt: Option<Doubt>,
}

/// Why names may mean something else.
enum Doubt {
    /// A text may have set them.
    Unknown,
    /// Those of one statement were set for it.
    Lent,
}

impl PinnedNames {
    /// Those of a connection that has just been opened with the names of its session.
    pub(super) fn new(of_session: SessionNames, here: Names) -> Self {
        Self { of_session, here, doubt: None }
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
        self.settle()?;
        let names = self.names.of_session.get();
        if !self.in_transaction() && self.names.here != names {
            self.point_to(&names)?;
            self.names.here = names;
        }
        Ok(())
    }

    /// A text has run that may have set names, however it has ended.
    pub(super) fn may_have_set_names(&mut self) {
        self.names.doubt = Some(Doubt::Unknown);
        self.settle_names();
    }

    /// Sets those of one statement, until `settle_names`.
    pub(super) fn lend_names(&mut self, names: Option<&Names>) -> Result<()> {
        let Some(names) = names.filter(|names| **names != self.names.here) else { return Ok(()) };
        self.names.doubt = Some(Doubt::Lent);
        self.point_to(names)
    }

    /// Finds out what names mean, or sets them again, where that is in doubt. It is settled at the end of an aborted transaction at the latest.
    pub(super) fn settle_names(&mut self) {
        if let Err(error) = self.settle() {
            tracing::debug!(%error, "what names mean is not settled yet");
        }
    }

    fn settle(&mut self) -> Result<()> {
        match self.names.doubt {
            None => return Ok(()),
            Some(Doubt::Unknown) => {
                let names = self.ask_for_names()?;
                self.names.of_session.set(names.clone());
                self.names.here = names;
            }
            Some(Doubt::Lent) => {
                let here = self.names.here.clone();
                self.point_to(&here)?;
            }
        }
        self.names.doubt = None;
        Ok(())
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
