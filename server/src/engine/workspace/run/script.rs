//! Several statements: in the open transaction, in one of their own, or in those that they open themselves.

use super::{HALF_DONE, Ran, Run, Seat};
use crate::{
    engine::{Error, Result, ffi::Prepared, statement::extract, update::Spooled},
    sql::{self, Control},
};

impl Run {
    /// Several statements: in the open transaction, in one of their own, or in those that they open
    /// themselves.
    pub(super) fn script(&mut self, seat: &mut Seat, controls: &[Option<Control>]) -> Result<Ran> {
        if self.statement.parameters.is_some() && controls.len() > 1 {
            return Err(Error::MultiStatement(controls.len()));
        }
        check_order(seat.in_transaction(), controls)?;
        let controlled = controls.iter().any(Option::is_some);
        let wraps = !controlled && seat.transaction.is_none();
        let only_controls = controls.iter().all(Option::is_some);
        let may_write = self.grant.is_some() || seat.may_write(&sql::exclusion(&self.statement.sql));
        if !only_controls && !may_write && self.can_write && !reads_only(seat, controls) {
            return Ok(Ran::NeedsTurn);
        }
        if wraps {
            seat.begin(false)?;
        }
        let ran = self.each_statement(seat, controls);
        if !wraps {
            return ran.map(Ran::Done);
        }
        match ran {
            Ok(ran) => seat.commit(&self.clock).map(|()| Ran::Done(ran)),
            Err(error) => {
                seat.roll_back()?;
                Err(error)
            }
        }
    }

    fn each_statement(&mut self, seat: &mut Seat, controls: &[Option<Control>]) -> Result<Spooled> {
        if let Some(open) = &mut seat.transaction {
            open.forget_plan();
        }
        let statements = extract(&seat.connection, seat.connection.exports(), &self.statement.sql)?;
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
                Some(Control::Begin { read_only }) => seat.begin(read_only)?,
                Some(Control::Commit) => {
                    self.take_back_grant(seat);
                    seat.commit(&self.clock)?;
                }
                Some(Control::Rollback) => {
                    self.take_back_grant(seat);
                    seat.roll_back()?;
                }
                None => {
                    let ran = statements.prepare(index).and_then(|prepared| {
                        if statements.is_frame(index, &prepared) {
                            return Ok(std::mem::take(&mut last));
                        }
                        prepared.kind().check_pragma()?;
                        self.one_of_script(seat, &prepared)
                    });
                    if ran.is_err() && index > 0 {
                        seat.doom(HALF_DONE);
                    }
                    last = ran?;
                }
            }
        }
        Ok(last)
    }

    fn one_of_script(&mut self, seat: &mut Seat, prepared: &Prepared) -> Result<Spooled> {
        if seat.transaction.is_some() {
            self.accept_grant(seat);
            self.note_schemas(seat, prepared);
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
fn reads_only(seat: &Seat, controls: &[Option<Control>]) -> bool {
    let stays_open = controls.split_last().is_some_and(|(_, before)| {
        !before.iter().flatten().any(|control| matches!(control, Control::Commit | Control::Rollback))
    });
    let read_only = seat.transaction.as_ref().is_some_and(|open| open.read_only)
        || controls.first() == Some(&Some(Control::Begin { read_only: true }));
    stays_open && read_only
}
