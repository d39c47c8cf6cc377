//! Statements on a workspace.
//!
//! Outside an explicit transaction each is tried in a READ ONLY one first, which still may write to temporary
//! tables; one that turns out to write to the database waits for the turn and runs again. Inside an
//! explicit transaction the first write waits for the turn, which the transaction then keeps.

mod describe;
mod grant;
mod script;

use std::{path::PathBuf, sync::Arc, time::Duration};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use grant::Grant;

use super::{ConnectionGuard, PinnedConnection, TransactionId, Untold, Workspace};
use crate::{
    engine::{
        BatchStream, Engine, Error, Execution, Outcome, Result, Statement, StatementKind,
        batch_stream::CancelOnDrop,
        binding::bind,
        clock::CommitClock,
        delivery::Delivery,
        error::Class,
        ffi::Prepared,
        quarantine::Quarantine,
        spool::Spool,
        statement::plan_unless_stopped,
        types::Wire,
        update::{Spooled, Write, run_prepared},
    },
    sql::{self, Control},
};

/// A result in a transaction that its client has left may go on for so long before it is interrupted, which
/// would cost the whole transaction.
const GRACE: Duration = Duration::from_secs(2);

/// Some rows of a statement, or some statements of a script, are in the transaction, and the rest is not.
const HALF_DONE: &str = "a statement in the transaction failed half way, so it was rolled back; begin again";

/// How a statement starts.
enum Started {
    Rows(SchemaRef),
    Done(Spooled, Untold),
    /// It has failed, and had begun a transaction before.
    Failed(Error, Untold),
    /// It writes, and has not run: it needs the turn. The connection comes back.
    NeedsTurn(ConnectionGuard),
}

/// Where the news goes.
type Start = Option<oneshot::Sender<Result<Started>>>;

impl Engine {
    /// Runs a statement, or a script, on a workspace.
    pub(in crate::engine) async fn run_in(
        &self,
        workspace: &Arc<Workspace>,
        transaction: Option<TransactionId>,
        statement: Statement,
        execution: &Execution,
    ) -> Result<Outcome> {
        self.check_checkpoint(&statement.sql)?;
        let sql = sql::localise(&statement.sql)?.into_owned();
        let statement = Statement { sql, ..statement };
        let mut guard = workspace.take_in(transaction, self.pinned_wait()).await?;
        let mut grant = None;
        loop {
            let cancel = CancelOnDrop::default();
            guard.running(&cancel.0);
            let (start, started) = oneshot::channel();
            let (delivery, batches) = self.delivery(&cancel.0);
            let run = Run {
                statement: statement.clone(),
                delivery,
                permit: if grant.is_none() {
                    Some(self.read_permit_for(&statement.sql).await?)
                } else {
                    None
                },
                grant: grant.take(),
                clock: Arc::clone(&self.shared.clock),
                moment: self.shared.turn.moment(),
                folder: self.temporary_folder(),
                can_write: !self.read_only(),
                watched: execution.is_watched(),
                quarantine: Arc::clone(&self.shared.database.quarantine),
            };
            let reads = run.grant.is_none() && guard.pinned().writes_as().is_none();
            if reads {
                self.limit_read(&cancel.0);
            } else {
                self.limit_write(&cancel.0);
            }
            execution.begins(&cancel.0);
            let span = tracing::Span::current();
            tokio::task::spawn_blocking(move || span.in_scope(|| run.run(guard, start)));
            let started = async {
                started.await.map_err(|_| Error::Internal("the statement ended without an answer".into()))?
            };
            // A write is waited for: it may commit.
            match if reads { cancel.0.unless_overdue(started).await } else { started.await }? {
                Started::Rows(schema) => {
                    return Ok(Outcome::Rows(BatchStream::running(schema, batches, cancel)));
                }
                Started::Done(spooled, untold) => {
                    untold.told();
                    return Ok(spooled.into());
                }
                Started::Failed(error, untold) => {
                    untold.told();
                    return Err(error);
                }
                Started::NeedsTurn(back) => guard = back,
            }
            // This attempt is over: an execution that is stopped while it waits is given up.
            drop(cancel);
            grant = Some(self.grant(&mut guard, &statement.sql).await?);
        }
    }
}

/// One statement or script on its thread.
struct Run {
    statement: Statement,
    delivery: Delivery,
    permit: Option<OwnedSemaphorePermit>,
    grant: Option<Grant>,
    clock: Arc<CommitClock>,
    /// When it began, as the turn counts.
    moment: u64,
    /// Where a result that makes room goes when it is large.
    folder: PathBuf,
    can_write: bool,
    /// Somebody asks how far it is.
    watched: bool,
    quarantine: Arc<Quarantine>,
}

/// What running gave.
enum Ran {
    /// Rows were sent; some may have been put aside.
    Sent(Option<Spool>),
    Done(Spooled),
    NeedsTurn,
}

impl Run {
    fn run(mut self, mut guard: ConnectionGuard, start: oneshot::Sender<Result<Started>>) {
        let mut start = Some(start);
        let before = guard.pinned().current();
        let quarantine = Arc::clone(&self.quarantine);
        let text = self.statement.sql.clone();
        let ran = quarantine.guard(&text, || self.on_connection(&mut guard, &mut start));
        let spool = match ran {
            Ok(Ran::NeedsTurn) => return answer(&mut start, Ok(Started::NeedsTurn(guard))),
            Ok(Ran::Done(spooled)) => {
                return answer(&mut start, Ok(Started::Done(spooled, Untold::new(guard, before))));
            }
            Err(error) if guard.pinned().has_begun_since(before) => {
                let error = self.delivery.cancel.explain(error);
                return answer(&mut start, Ok(Started::Failed(error, Untold::new(guard, before))));
            }
            Ok(Ran::Sent(spool)) => Ok(spool),
            Err(error) => Err(error),
        };
        // From here on the next statement may run.
        drop(guard);
        self.permit = None;
        let sent = spool.and_then(|spool| spool.map_or(Ok(()), |spool| self.delivery.send_spooled(spool)));
        if let Err(error) = sent {
            let error = self.delivery.cancel.explain(error);
            match start {
                // A client that has gone needs no answer.
                Some(start) => drop(start.send(Err(error))),
                None => self.delivery.cancel.fail(error),
            }
        }
    }

    fn on_connection(&mut self, guard: &mut ConnectionGuard, start: &mut Start) -> Result<Ran> {
        let mut watch = guard.watch();
        let pinned = guard.pinned();
        let controls = sql::controls(&self.statement.sql);
        if !ends_first(&controls) {
            pinned.check_usable()?;
            pinned.follow_session()?;
        }
        let _writing = pinned.connection.exports().writing(&self.statement.sql)?;
        self.renew_snapshot(pinned)?;
        if let Some(open) = &mut pinned.transaction {
            open.reads(self.moment);
            if let Some(turn) = &mut open.turn {
                turn.writes(sql::written(&self.statement.sql));
            }
        }
        pinned.lend_names(self.statement.names.as_ref())?;
        pinned.note_taken(&self.statement.sql);
        // DuckDB lets a READ ONLY transaction detach what it does not write to.
        pinned.connection.keep_catalogs(&self.statement.sql)?;
        // Where it cannot be counted, nobody is told how far the statement is.
        let _counting = self.watched.then(|| pinned.connection.count_progress());
        let ran = if controls.len() > 1 || controls.iter().any(Option::is_some) {
            self.script(pinned, &controls)
        } else if pinned.transaction.is_some() {
            self.in_transaction(pinned, &mut watch, start)
        } else if self.grant.is_some() {
            self.with_turn(pinned).map(Ran::Done)
        } else {
            self.read_only_first(pinned, &mut watch, start)
        };
        if !matches!(ran, Ok(Ran::NeedsTurn)) && sql::changes_names(&self.statement.sql) {
            pinned.may_have_set_names();
        } else {
            pinned.settle_names();
        }
        if let Some(open) = &mut pinned.transaction {
            open.troubled |= ran.is_err();
            // It may have begun in this very text.
            if controls.len() > 1 {
                open.reads(self.moment);
            }
            open.has_run |=
                !matches!(ran, Ok(Ran::NeedsTurn)) && (controls.len() > 1 || open.snapshot.is_some());
        }
        ran.map_err(name_global_setting)
    }

    /// Plans, which runs functions whose arguments are constants.
    fn plan(&self, pinned: &PinnedConnection) -> Result<Prepared> {
        plan_unless_stopped(&pinned.connection, &self.statement.sql, &self.delivery.cancel)
    }

    /// A statement outside a transaction, in a READ ONLY one.
    fn read_only_first(
        &self,
        pinned: &mut PinnedConnection,
        watch: &mut super::Watch,
        start: &mut Start,
    ) -> Result<Ran> {
        pinned.connection.execute("BEGIN TRANSACTION READ ONLY")?;
        let ran = self.plan(pinned).and_then(|prepared| self.perform(&prepared, watch, start, false));
        let end = if ran.is_ok() { "COMMIT" } else { "ROLLBACK" };
        let ended = pinned.connection.execute(end);
        match ran {
            Err(error) if tells_of_write(&error) && start.is_some() => Ok(Ran::NeedsTurn),
            ran => {
                let ran = ran?;
                ended?;
                Ok(ran)
            }
        }
    }

    /// A statement outside a transaction that writes.
    fn with_turn(&self, pinned: &PinnedConnection) -> Result<Spooled> {
        let write = Write {
            statement: self.statement.clone(),
            cancel: self.delivery.cancel.clone(),
            clock: Arc::clone(&self.clock),
            check: StatementKind::check_pragma,
            watched: false,
        };
        write.run(&pinned.connection)
    }

    /// A statement inside the open transaction.
    fn in_transaction(
        &mut self,
        pinned: &mut PinnedConnection,
        watch: &mut super::Watch,
        start: &mut Start,
    ) -> Result<Ran> {
        let planned = pinned.transaction.as_mut().and_then(|open| open.take_plan(&self.statement.sql));
        let prepared = match planned {
            Some(prepared) => prepared,
            None => match self.plan(pinned) {
                Err(Error::SeveralSteps) => return self.script(pinned, &[None]),
                planned => planned?,
            },
        };
        if self.must_wait(pinned, &prepared, &self.statement.sql) {
            return Ok(Ran::NeedsTurn);
        }
        self.accept_grant(pinned);
        self.note_schemas(pinned, &prepared);
        if let Some(open) = &mut pinned.transaction
            && !prepared.kind().may_read()
        {
            open.forget_plan();
        }
        let ran = self.perform(&prepared, watch, start, true);
        if ran.is_err() && self.times() > 1 {
            pinned.doom(HALF_DONE);
        }
        let ran = ran?;
        if let Some(open) = &mut pinned.transaction {
            open.keep_plan(&self.statement.sql, prepared);
        }
        Ok(ran)
    }

    /// Runs a plan: a query sends its rows, everything else runs to its end first.
    fn perform(
        &self,
        prepared: &Prepared,
        watch: &mut super::Watch,
        start: &mut Start,
        in_transaction: bool,
    ) -> Result<Ran> {
        if !prepared.kind().may_read() {
            return self.run_each(prepared).map(Ran::Done);
        }
        bind(prepared, &self.statement)?;
        self.delivery.cancel.while_running(prepared.interrupt(), || {
            let rows = prepared.stream()?;
            if in_transaction {
                self.delivery.cancel.be_gentle(GRACE);
            }
            let wire = Wire::new(rows.schema());
            answer(start, Ok(Started::Rows(wire.schema())));
            self.delivery.send_until_wanted(rows, &wire, watch, &self.folder).map(Ran::Sent)
        })
    }

    fn run_each(&self, prepared: &Prepared) -> Result<Spooled> {
        run_prepared(prepared, &self.statement, &self.delivery.cancel)
    }

    fn times(&self) -> usize {
        self.statement.parameters.as_ref().map_or(1, RecordBatch::num_rows)
    }

    fn note_schemas(&self, pinned: &mut PinnedConnection, prepared: &Prepared) {
        let kind = prepared.kind();
        let PinnedConnection { connection, transaction: Some(open), .. } = pinned else { return };
        if !kind.keeps_schemas() && !kind.may_read() && kind != StatementKind::Set {
            open.schemas = true;
            connection.pin_schemas(&mut open.pinned, &self.statement.sql);
        }
    }
}

/// Whether a text begins with the end of a transaction, which it may whatever has become of that.
fn ends_first(controls: &[Option<Control>]) -> bool {
    matches!(controls.first(), Some(Some(Control::Commit | Control::Rollback)))
}

/// DuckDB's text for a setting that only exists once speaks of a missing option.
fn name_global_setting(error: Error) -> Error {
    match error {
        Error::Duck { message, .. }
            if message.contains("cannot be set locally") || message.contains("cannot be reset locally") =>
        {
            Error::Refused(
                "this setting is one for the whole server; its operator sets it, a client cannot".into(),
            )
        }
        other => other,
    }
}

/// Whether a statement has not run in a READ ONLY transaction because it writes.
fn tells_of_write(error: &Error) -> bool {
    matches!(error, Error::SeveralSteps) || error.class() == Some(Class::ReadOnly)
}

fn answer(start: &mut Start, started: Result<Started>) {
    if let Some(start) = start.take() {
        // What nobody is there to hear of undoes itself.
        let _ = start.send(started);
    }
}
