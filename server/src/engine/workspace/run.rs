//! Statements on a workspace.
//!
//! Outside an explicit transaction each is tried in a READ ONLY one first, which still may write to temporary
//! tables; one that turns out to write to the database waits for the turn and runs again. Inside an
//! explicit transaction the first write waits for the turn, which the transaction then keeps.

use std::{path::PathBuf, sync::Arc, time::Duration};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, oneshot},
};

use super::{Seat, Taken, Workspace};
use crate::{
    engine::{
        BatchStream, Description, Engine, Error, Execution, Outcome, Result, Statement, StatementKind,
        batch_stream::CancelOnDrop,
        clock::CommitClock,
        delivery::Delivery,
        error::Class,
        ffi::Prepared,
        gates::Excluding,
        open_writes::{Kind, OpenWrite},
        outlet,
        quarantine::Quarantine,
        spool::Spool,
        statement::{bind, describe, description, extract, of_several_steps, prepare_one},
        turn::TurnPermit,
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
    Done(Spooled),
    /// It writes, and has not run: it needs the turn. The seat comes back.
    NeedsTurn(Taken),
}

/// Where the news goes.
type Start = Option<oneshot::Sender<Result<Started>>>;

/// What a statement may need before it can write.
#[derive(Default)]
struct Grant {
    excluding: Excluding,
    turn: Option<TurnPermit>,
    write: Option<OpenWrite>,
}

impl Engine {
    /// Runs a statement, or a script, on a workspace.
    pub(in crate::engine) async fn run_in(
        &self,
        workspace: &Arc<Workspace>,
        statement: Statement,
        execution: &Execution,
    ) -> Result<Outcome> {
        let sql = sql::localise(&statement.sql)?.into_owned();
        let statement = Statement { sql, ..statement };
        let mut taken = workspace.take(self.seat_wait()).await?;
        let mut grant = None;
        loop {
            let cancel = CancelOnDrop::default();
            taken.running(&cancel.0);
            let (start, started) = oneshot::channel();
            let (send, batches) = outlet::channel();
            let run = Run {
                statement: statement.clone(),
                delivery: Delivery {
                    cancel: cancel.0.clone(),
                    send,
                    runtime: Handle::current(),
                    failure: self.shared.database.failure(),
                    patience: self.shared.options.stall_timeout,
                },
                permit: if grant.is_none() { Some(self.read_permit().await?) } else { None },
                grant: grant.take(),
                clock: Arc::clone(&self.shared.clock),
                folder: self.shared.options.temp_directory.clone().unwrap_or_else(std::env::temp_dir),
                can_write: !self.read_only(),
                watched: execution.is_watched(),
                quarantine: Arc::clone(&self.shared.database.quarantine),
            };
            let reads = run.grant.is_none() && taken.seat().writes_as().is_none();
            if reads {
                self.limit_read(&cancel.0);
            } else {
                self.limit_write(&cancel.0);
            }
            execution.begins(&cancel.0);
            let span = tracing::Span::current();
            tokio::task::spawn_blocking(move || span.in_scope(|| run.run(taken, start)));
            let started = async {
                started.await.map_err(|_| Error::Internal("the statement ended without an answer".into()))?
            };
            // A write is waited for: it may commit.
            match if reads { cancel.0.unless_overdue(started).await } else { started.await }? {
                Started::Rows(schema) => {
                    return Ok(Outcome::Rows(BatchStream::running(schema, batches, cancel)));
                }
                Started::Done(spooled) => return Ok(spooled.into()),
                Started::NeedsTurn(back) => taken = back,
            }
            // This attempt is over: an execution that is stopped while it waits is given up.
            drop(cancel);
            grant = Some(self.grant(&mut taken, &statement.sql).await?);
        }
    }

    /// Waits for whatever the statement lacks, unless the instance fails: the seat is a part of it, so that none is
    /// opened in its place while somebody waits here.
    async fn grant(&self, taken: &mut Taken, sql: &str) -> Result<Grant> {
        self.shared.database.while_open(self.granted(taken, sql)).await
    }

    async fn granted(&self, taken: &mut Taken, sql: &str) -> Result<Grant> {
        if self.read_only() {
            return Err(Error::ReadOnly);
        }
        self.check_disk(sql)?;
        let (turn, write) = if taken.seat().has_turn() {
            (None, None)
        } else {
            let in_transaction = taken.seat().transaction.is_some();
            let kind = if in_transaction { Kind::Transaction } else { Kind::Statement };
            let (turn, write) = self.writing_turn(sql, kind).await?;
            taken.lets_write(&write);
            (Some(turn), Some(write))
        };
        let nothing = Excluding::default();
        let held = taken.seat().transaction.as_ref().map_or(&nothing, |open| &open.excluding);
        let excluding = self.shared.turn.exclude(&sql::exclusion(sql), held).await?;
        Ok(Grant { excluding, turn, write })
    }

    /// Plans a statement on a workspace, in its transaction if one is open.
    pub(in crate::engine) async fn describe_in(
        &self,
        workspace: &Arc<Workspace>,
        sql: &str,
    ) -> Result<Description> {
        let sql = sql::localise(sql)?.into_owned();
        let mut taken = workspace.take(self.seat_wait()).await?;
        let quarantine = Arc::clone(&self.shared.database.quarantine);
        self.planning(move |cancel| {
            let seat = taken.seat();
            let interrupt = seat.connection.interrupt();
            quarantine.guard(&sql, || cancel.while_running(interrupt, || describe_on(seat, &sql)))
        })
        .await
    }
}

/// Plans a statement, in the transaction where one is open, and keeps the plan there.
fn describe_on(seat: &mut Seat, sql: &str) -> Result<Description> {
    seat.check_not_lost()?;
    if let Some(open) = &mut seat.transaction {
        open.reads();
        let planned = match open.take_plan(sql) {
            Some(prepared) => Ok(prepared),
            None => prepare_one(&seat.connection, seat.connection.exports(), sql),
        };
        if let Err(Error::SeveralSteps) = planned {
            return of_several_steps(Error::SeveralSteps);
        }
        let described = planned.and_then(|prepared| Ok((description(&prepared, sql)?, prepared)));
        open.troubled |= described.is_err();
        let (described, prepared) = described?;
        open.keep_plan(sql, prepared);
        return Ok(described);
    }
    seat.connection.execute("BEGIN TRANSACTION READ ONLY")?;
    let described = describe(&seat.connection, seat.connection.exports(), sql);
    seat.connection.execute("ROLLBACK")?;
    described
}

/// One statement or script on its thread.
struct Run {
    statement: Statement,
    delivery: Delivery,
    permit: Option<OwnedSemaphorePermit>,
    grant: Option<Grant>,
    clock: Arc<CommitClock>,
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
    fn run(mut self, mut taken: Taken, start: oneshot::Sender<Result<Started>>) {
        let mut start = Some(start);
        let quarantine = Arc::clone(&self.quarantine);
        let text = self.statement.sql.clone();
        let ran = quarantine.guard(&text, || self.on_seat(&mut taken, &mut start));
        if let Ok(Ran::NeedsTurn) = ran {
            answer(&mut start, Ok(Started::NeedsTurn(taken)));
            return;
        }
        if let Ok(Ran::Done(spooled)) = ran {
            taken.publish();
            let told = start.is_some_and(|start| start.send(Ok(Started::Done(spooled))).is_ok());
            if !told {
                // Its client believes that it failed; a later COMMIT must not keep it.
                taken
                    .seat()
                    .doom("a statement in the transaction was cancelled, so it was rolled back; begin again");
            }
            return;
        }
        // From here on the next statement may run.
        drop(taken);
        self.permit = None;
        let sent = match ran {
            Ok(Ran::Sent(Some(spool))) => self.delivery.send_spooled(spool),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = sent {
            let error = self.delivery.cancel.explain(error);
            match start {
                // A client that has gone needs no answer.
                Some(start) => drop(start.send(Err(error))),
                None => self.delivery.cancel.fail(error),
            }
        }
    }

    fn on_seat(&mut self, taken: &mut Taken, start: &mut Start) -> Result<Ran> {
        let mut watch = taken.watch();
        let seat = taken.seat();
        let controls = sql::controls(&self.statement.sql);
        if controls.first() != Some(&Some(Control::Rollback))
            && controls.first() != Some(&Some(Control::Commit))
        {
            seat.check_not_lost()?;
        }
        if let Some(open) = &mut seat.transaction {
            open.reads();
        }
        // DuckDB lets a READ ONLY transaction detach what it does not write to.
        seat.connection.keep_catalogs(&self.statement.sql)?;
        // Where it cannot be counted, nobody is told how far the statement is.
        let _counting = self.watched.then(|| seat.connection.count_progress());
        let ran = if controls.len() > 1 || controls.iter().any(Option::is_some) {
            self.script(seat, &controls)
        } else if seat.transaction.is_some() {
            self.in_transaction(seat, &mut watch, start)
        } else if self.grant.is_some() {
            self.with_turn(seat).map(Ran::Done)
        } else {
            self.read_only_first(seat, &mut watch, start)
        };
        if let Some(open) = &mut seat.transaction {
            open.troubled |= ran.is_err();
            // It may have begun in this very text.
            if controls.len() > 1 {
                open.reads();
            }
        }
        ran.map_err(name_global_setting)
    }

    /// Plans, which runs functions whose arguments are constants.
    fn plan(&self, seat: &Seat) -> Result<Prepared> {
        let plan = || prepare_one(&seat.connection, seat.connection.exports(), &self.statement.sql);
        self.delivery.cancel.while_running(seat.connection.interrupt(), plan)
    }

    /// A statement outside a transaction, in a READ ONLY one.
    fn read_only_first(&self, seat: &mut Seat, watch: &mut super::Watch, start: &mut Start) -> Result<Ran> {
        seat.connection.execute("BEGIN TRANSACTION READ ONLY")?;
        let ran = self.plan(seat).and_then(|prepared| self.perform(&prepared, watch, start, false));
        let end = if ran.is_ok() { "COMMIT" } else { "ROLLBACK" };
        let ended = seat.connection.execute(end);
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
    fn with_turn(&self, seat: &Seat) -> Result<Spooled> {
        let write = Write {
            statement: self.statement.clone(),
            cancel: self.delivery.cancel.clone(),
            clock: Arc::clone(&self.clock),
            check: StatementKind::check_pragma,
            watched: false,
        };
        write.run(&seat.connection)
    }

    /// A statement inside the open transaction.
    fn in_transaction(
        &mut self,
        seat: &mut Seat,
        watch: &mut super::Watch,
        start: &mut Start,
    ) -> Result<Ran> {
        let planned = seat.transaction.as_mut().and_then(|open| open.take_plan(&self.statement.sql));
        let prepared = match planned {
            Some(prepared) => prepared,
            None => match self.plan(seat) {
                Err(Error::SeveralSteps) => return self.script(seat, &[None]),
                planned => planned?,
            },
        };
        if self.must_wait(seat, &prepared, &self.statement.sql) {
            return Ok(Ran::NeedsTurn);
        }
        self.accept_grant(seat);
        self.note_schemas(seat, &prepared);
        if let Some(open) = &mut seat.transaction
            && !prepared.kind().may_read()
        {
            open.forget_plan();
        }
        let ran = self.perform(&prepared, watch, start, true);
        if ran.is_err() && self.times() > 1 {
            seat.doom(HALF_DONE);
        }
        let ran = ran?;
        if let Some(open) = &mut seat.transaction {
            open.keep_plan(&self.statement.sql, prepared);
        }
        Ok(ran)
    }

    /// Several statements: in the open transaction, in one of their own, or in those that they open
    /// themselves.
    fn script(&mut self, seat: &mut Seat, controls: &[Option<Control>]) -> Result<Ran> {
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
        bind(prepared, &self.statement, 0)?;
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

    /// True when the statement writes and lacks the turn, or changes a table to which others may append.
    fn must_wait(&self, seat: &Seat, prepared: &Prepared, text: &str) -> bool {
        let Some(open) = &seat.transaction else { return false };
        if self.grant.is_some() || open.read_only || !self.can_write {
            return false;
        }
        writes(prepared.kind(), text) && !seat.may_write(&sql::exclusion(text))
    }

    /// The transaction keeps what its write was granted until it ends.
    fn accept_grant(&mut self, seat: &mut Seat) {
        if let (Some(open), Some(grant)) = (&mut seat.transaction, self.grant.take()) {
            open.turn = open.turn.take().or(grant.turn);
            open.write = open.write.take().or(grant.write);
            open.excluding.extend(grant.excluding);
        }
    }

    /// A script goes on after the transaction in it: what that was granted serves the rest.
    fn take_back_grant(&mut self, seat: &mut Seat) {
        if let Some(open) = &mut seat.transaction
            && let Some(turn) = open.turn.take()
        {
            let (excluding, write) = (std::mem::take(&mut open.excluding), open.write.take());
            self.grant = Some(Grant { excluding, turn: Some(turn), write });
        }
    }

    fn note_schemas(&self, seat: &mut Seat, prepared: &Prepared) {
        let kind = prepared.kind();
        let Seat { connection, transaction: Some(open), .. } = seat else { return };
        if !kind.keeps_schemas() && !kind.may_read() && kind != StatementKind::Set {
            open.schemas = true;
            connection.pin_schemas(&mut open.pinned, &self.statement.sql);
        }
    }
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

/// Whether a statement inside a transaction needs the turn. Where its kind does not tell, the answer is
/// yes: waiting costs little, a conflict costs the whole transaction.
fn writes(kind: StatementKind, text: &str) -> bool {
    match kind {
        StatementKind::Select => sql::mentions(text, "nextval"),
        StatementKind::Explain => sql::mentions(text, "analyze"),
        StatementKind::Set | StatementKind::Prepare => false,
        StatementKind::Copy => !sql::is_export(text),
        StatementKind::Create => !sql::leaves_state(text),
        _ => true,
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

fn answer(start: &mut Start, started: Result<Started>) {
    if let Some(start) = start.take() {
        let _ = start.send(started);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::time::timeout;

    use super::*;
    use crate::engine::{Condition, Options, catalog::TableRef};

    /// What an ALTER waits for that others hold, and go on holding.
    #[derive(Debug, Clone, Copy)]
    enum Obstacle {
        Append,
        Turn,
    }

    /// Waiting for so long means for ever.
    const LONG: Duration = Duration::from_secs(60);

    async fn an_alter_lets_go(obstacle: Obstacle) {
        let folder = tempfile::tempdir().unwrap();
        let path = Some(folder.path().join("a.db"));
        let engine = Engine::open(Options { path, wait: 60 * LONG, ..Options::default() }).unwrap();
        let turn = &engine.shared.turn;
        let name = TableRef { catalog: None, schema: None, table: "t".into() };
        let name = name.resolve(&engine.default_names());
        let _held = match obstacle {
            Obstacle::Append => (Some(turn.appending_within(&name, Duration::ZERO).await.unwrap()), None),
            Obstacle::Turn => (None, Some(turn.take().await.unwrap())),
        };
        let workspace = engine.workspace(None).await.unwrap();
        let mut taken = workspace.take(LONG).await.unwrap();
        let mut waiting = Box::pin(engine.grant(&mut taken, "ALTER TABLE t ADD COLUMN c INTEGER"));
        assert!((&mut waiting).now_or_never().is_none(), "{obstacle:?}");

        let mut condition = engine.condition();
        engine.reopen("a test");
        let ended = timeout(LONG, waiting).await.expect("it waits for ever");
        assert!(matches!(ended, Err(Error::EngineDown)), "{obstacle:?}");
        drop((taken, workspace));
        let opened =
            condition.wait_for(|now| *now == Condition::Open && engine.shared.database.generation() == 2);
        timeout(LONG, opened).await.expect("the database is opened again").unwrap();
        engine.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_alter_that_waits_lets_go_of_an_instance_that_fails() {
        an_alter_lets_go(Obstacle::Append).await;
        an_alter_lets_go(Obstacle::Turn).await;
    }
}
