//! Several statements: in the open transaction, in one of their own, or in those that they open themselves.

use super::{HALF_DONE, PinnedConnection, Ran, Run};
use crate::{
    engine::{Error, Result, ffi::Prepared, statement::extract, update::Spooled},
    sql::{self, Control},
};

impl Run {
    /// Several statements: in the open transaction, in one of their own, or in those that they open
    /// themselves.
    pub(super) fn script(
        &mut self,
        pinned: &mut PinnedConnection,
        controls: &[Option<Control>],
    ) -> Result<Ran> {
        if self.statement.parameters.is_some() && controls.len() > 1 {
            return Err(Error::MultiStatement(controls.len()));
        }
        check_order(pinned.in_transaction(), controls)?;
        let controlled = controls.iter().any(Option::is_some);
        let wraps = !controlled && pinned.transaction.is_none();
        let only_controls = controls.iter().all(Option::is_some);
        let may_write = self.grant.is_some() || pinned.may_write(&sql::exclusion(&self.statement.sql));
        if !only_controls && !may_write && self.can_write && !reads_only(pinned, controls) {
            return Ok(Ran::NeedsTurn);
        }
        if wraps {
            pinned.begin(false)?;
        }
        let ran = self.each_statement(pinned, controls);
        if !wraps {
            return ran.map(Ran::Done);
        }
        match ran {
            Ok(ran) => pinned.commit(&self.clock).map(|()| Ran::Done(ran)),
            Err(error) => {
                pinned.roll_back()?;
                Err(error)
            }
        }
    }

    fn each_statement(
        &mut self,
        pinned: &mut PinnedConnection,
        controls: &[Option<Control>],
    ) -> Result<Spooled> {
        if let Some(open) = &mut pinned.transaction {
            open.forget_plan();
        }
        let statements = extract(&pinned.connection, pinned.connection.exports(), &self.statement.sql)?;
        // PIVOT counts as several statements, so that a control among them could not be found.
        if statements.len() != controls.len() && controls.iter().any(Option::is_some) {
            return Err(Error::Refused(
                "BEGIN, COMMIT and ROLLBACK cannot stand in one script with this statement; send them by themselves"
                    .into(),
            ));
        }
        let mut last = Spooled::default();
        for index in 0..statements.len() {
            match controls.get(index).copied().flatten() {
                Some(Control::Begin { read_only }) => {
                    pinned.begin(read_only)?;
                }
                Some(Control::Commit) => {
                    self.take_back_grant(pinned);
                    pinned.commit(&self.clock)?;
                }
                Some(Control::Rollback) => {
                    self.take_back_grant(pinned);
                    pinned.roll_back()?;
                }
                None => {
                    let ran = statements.prepare(index).and_then(|prepared| {
                        if statements.is_frame(index, &prepared) {
                            return Ok(std::mem::take(&mut last));
                        }
                        prepared.kind().check_pragma()?;
                        self.one_of_script(pinned, &prepared)
                    });
                    if ran.is_err() && index > 0 {
                        pinned.doom(HALF_DONE);
                    }
                    last = ran?;
                }
            }
        }
        Ok(last)
    }

    fn one_of_script(&mut self, pinned: &mut PinnedConnection, prepared: &Prepared) -> Result<Spooled> {
        if pinned.transaction.is_some() {
            self.accept_grant(pinned);
            self.note_schemas(pinned, prepared);
            return self.run_each(prepared);
        }
        let _writing = self.clock.writing();
        let ran = self.run_each(prepared);
        if !prepared.kind().keeps_schemas() {
            self.clock.schema_changed();
        }
        ran
    }
}

/// A script that ends what it has not begun, or begins twice, is refused before anything of it runs.
fn check_order(mut open: bool, controls: &[Option<Control>]) -> Result<()> {
    for control in controls.iter().flatten() {
        let begins = matches!(control, Control::Begin { .. });
        if begins == open {
            return Err(Error::TransactionState(if begins {
                "a transaction is open already; commit it or roll it back first"
            } else {
                "no transaction is open"
            }));
        }
        open = begins;
    }
    Ok(())
}

/// A script in a READ ONLY transaction never takes the turn.
fn reads_only(pinned: &PinnedConnection, controls: &[Option<Control>]) -> bool {
    let stays_open = controls.split_last().is_some_and(|(_, before)| {
        !before.iter().flatten().any(|control| matches!(control, Control::Commit | Control::Rollback))
    });
    let read_only = pinned.transaction.as_ref().is_some_and(|open| open.read_only)
        || controls.first() == Some(&Some(Control::Begin { read_only: true }));
    stays_open && read_only
}
