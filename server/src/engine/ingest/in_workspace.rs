//! Uploads into an open transaction, and into temporary tables: on the connection where those live. The
//! writer has no part in them.

use std::sync::{Arc, Weak};

use arrow_schema::SchemaRef;
use futures::Stream;
use tokio::sync::mpsc;

use super::{
    Ack, Arrived, Entry, IngestRequest, Pending,
    bulk::{PIECE_BYTES, PIECES_WAITING},
    columns,
    merge_stage::MergeStage,
    pieces::{Step, append_pieces},
};
use crate::{
    engine::{
        Engine, Error, Result,
        append::Sink,
        batch_stream::{Cancel, CancelOnDrop},
        catalog::{self, FullName, TEMPORARY, TableInfo},
        database::Database,
        delivery::cancelled,
        error::Class,
        ffi::Connection,
        insert::Target,
        turn::Turn,
        workspace::{ConnectionGuard, PinnedConnection, TransactionId, Workspace},
    },
    sql::Exclusion,
};

impl Engine {
    /// Takes an upload into the transaction `open` of a workspace, or into a temporary table there. Where no transaction was
    /// open when it began, it enters none that has begun since.
    ///
    /// # Errors
    /// As [`Engine::ingest`]; [`Error::TransactionState`] when the transaction is another one when the rows have come. A failure after rows have gone in leaves the transaction fit for nothing but
    /// a rollback, because an upload is all or nothing.
    pub async fn ingest_in(
        &self,
        workspace: &Arc<Workspace>,
        open: Option<TransactionId>,
        request: IngestRequest,
        schema: SchemaRef,
        batches: impl Stream<Item = Result<Arrived>> + Unpin + Send,
    ) -> Result<Pending> {
        // An upload may wait for its client for long, and with it what it holds of the instance.
        self.shared.database.while_open(self.ingest_on(workspace, open, request, schema, batches)).await
    }

    async fn ingest_on(
        &self,
        workspace: &Arc<Workspace>,
        open: Option<TransactionId>,
        request: IngestRequest,
        schema: SchemaRef,
        mut batches: impl Stream<Item = Result<Arrived>> + Unpin + Send,
    ) -> Result<Pending> {
        if request.key.is_some() {
            return Err(Error::KeyNotHere(
                "a key cannot be used inside an explicit transaction or for a temporary table: what makes a unit \
                 safe to send again is its own commit; leave the key out, or end the transaction",
            ));
        }
        if self.read_only() && !request.temporary {
            return Err(Error::ReadOnly);
        }
        columns::check(&schema)?;
        let collected = self.collect(request.loader, &mut batches).await?;
        let name = match request.temporary {
            true => FullName::temporary(&request.table.table),
            false => self.full_name(&request),
        };
        let guard = workspace.take(self.pinned_wait()).await?;
        let (mut guard, mut table) = self.look_up_in(guard, open, name.clone()).await?;
        let mut entry = Entry::decide(&name, table.as_ref(), &request, &schema)?;
        if entry.needs_turn() && !request.temporary {
            self.give_turn(&mut guard, &name, &entry).await?;
            if renews(&mut guard, &name, &entry, &self.shared.turn)? {
                // What was committed while it waited is in its snapshot now.
                (guard, table) = self.look_up_in(guard, open, name.clone()).await?;
                entry = Entry::decide(&name, table.as_ref(), &request, &schema)?;
                self.give_turn(&mut guard, &name, &entry).await?;
            }
        }
        note(guard.pinned(), &name, &entry, &self.shared.turn);
        if !request.temporary {
            self.shared.database.disk.check(collected.bytes as u64)?;
            self.begin_to_write(&mut guard).await?;
        }
        let committed = guard.pinned().transaction.is_none();
        let cancel = CancelOnDrop::default();
        // Rows may arrive for as long as they like, so whoever watches over transactions has to see this one, and to stop it.
        guard.running(&cancel.0);
        guard.publish();
        let (steps, received) = mpsc::channel(PIECES_WAITING);
        let is_there = table.is_some() && (entry.create.is_none() || entry.widens);
        let database = Arc::clone(&self.shared.database);
        let appender = Appender { name, entry, is_there, database };
        // Gone together with whoever waits for the answer.
        let waiting = Arc::new(());
        let listener = Arc::downgrade(&waiting);
        let stop = cancel.0.clone();
        let appending = self.blocking(move || appender.run(guard, received, &stop, &listener));
        let feeding = unless_stopped(&cancel.0, self.feed(PIECE_BYTES, collected, &mut batches, steps));
        let (fed, appended) = tokio::join!(feeding, appending);
        // When both fail, the reason why appending did is what counts, unless it only saw the other's end.
        match (fed, appended) {
            (Err(error), Err(Error::Disconnected)) | (_, Err(error)) | (Err(error), Ok(())) => Err(error),
            (Ok((rows, bytes)), Ok(())) => {
                let (rows, bytes) = (rows as u64, bytes as u64);
                Ok(Pending::answered(Ack { rows, bytes, commit: 0, committed, duplicate: false }))
            }
        }
    }

    /// What the workspace knows of a table: its transaction may have made it.
    async fn look_up_in(
        &self,
        mut guard: ConnectionGuard,
        open: Option<TransactionId>,
        name: FullName,
    ) -> Result<(ConnectionGuard, Option<TableInfo>)> {
        let moment = self.shared.turn.moment();
        self.blocking(move || {
            let pinned = guard.pinned();
            check_is_open(pinned, open)?;
            pinned.check_usable()?;
            if name.catalog != TEMPORARY && pinned.transaction.as_ref().is_some_and(|open| open.read_only) {
                return Err(Error::Duck {
                    class: Class::ReadOnly,
                    message: "the transaction was begun as READ ONLY".into(),
                });
            }
            if let Some(open) = &mut pinned.transaction {
                open.reads(moment);
            }
            let table = catalog::describe(&pinned.connection, &name)?;
            Ok((guard, table))
        })
        .await
    }

    /// Takes the turn for a transaction that has none, and keeps appends away from a table that it changes, or in which it looks
    /// for keys.
    async fn give_turn(&self, guard: &mut ConnectionGuard, name: &FullName, entry: &Entry) -> Result<()> {
        let Some(open) = guard.pinned().transaction.as_mut().filter(|open| !open.read_only) else {
            return Ok(());
        };
        if open.turn.is_none() {
            open.takes_turn(self.shared.turn.take().await?);
        }
        if entry.replaces || entry.widens || entry.matching.is_some() {
            let changed = Exclusion::of_table(&name.table);
            let excluding = self.shared.turn.exclude(&changed, &open.excluding).await?;
            open.excluding.extend(excluding);
        }
        Ok(())
    }
}

/// Gives a transaction in which nothing has run a snapshot of what was committed while it waited for its turn, and says
/// whether it has. One that has read before has to keep its snapshot: where rows were stored since that it would not see in
/// the table that it replaces, or in which it looks for keys, it is rolled back.
fn renews(guard: &mut ConnectionGuard, name: &FullName, entry: &Entry, turn: &Turn) -> Result<bool> {
    let pinned = guard.pinned();
    let Some(open) = pinned.transaction.as_ref().filter(|open| !open.read_only) else { return Ok(false) };
    if !open.has_run {
        pinned.begin_anew()?;
        return Ok(true);
    }
    let looks = entry.replaces || entry.matching.is_some();
    if looks && open.is_outdated(&Exclusion::of_table(&name.table), turn) {
        return Err(pinned.lose_outdated());
    }
    Ok(false)
}

/// Takes note of what an upload is about to do in its transaction.
fn note(pinned: &mut PinnedConnection, name: &FullName, entry: &Entry, turn: &Turn) {
    let Some(open) = pinned.transaction.as_mut() else { return };
    open.has_run = true;
    if name.catalog != TEMPORARY {
        open.stores_in(&name.table, turn);
        if entry.replaces || entry.matching.is_some() {
            pinned.commits_alone();
        }
    }
}

/// What `work` gives, unless the upload is stopped before.
async fn unless_stopped<T>(stop: &Cancel, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        done = work => done,
        () = stop.cancelled() => Err(stop.explain(cancelled())),
    }
}

/// Fails where an upload that began while `open` was open, or nothing, would enter another transaction, or none.
fn check_is_open(pinned: &PinnedConnection, open: Option<TransactionId>) -> Result<()> {
    if pinned.current() == open {
        return Ok(());
    }
    Err(Error::TransactionState(match open {
        Some(_) => "the transaction ended while the upload was arriving; nothing was written",
        None => {
            "a transaction began while the upload was arriving, which is no part of it; nothing was written, so send it again"
        }
    }))
}

/// Appends the pieces of one upload, on a thread that may block.
struct Appender {
    name: FullName,
    entry: Entry,
    /// The table has rows that stay.
    is_there: bool,
    database: Arc<Database>,
}

impl Appender {
    fn run(
        self,
        mut guard: ConnectionGuard,
        mut steps: mpsc::Receiver<Step>,
        stop: &Cancel,
        listener: &Weak<()>,
    ) -> Result<()> {
        let pinned = guard.pinned();
        let own = pinned.transaction.is_none();
        if own {
            pinned.begin(false)?;
        }
        let creates = self.entry.create.is_some() && self.name.catalog != TEMPORARY;
        if let Some(open) = &mut pinned.transaction {
            open.forget_plan();
            if creates {
                pinned.connection.pin_schema(&mut open.pinned, &self.name.catalog);
            }
        }
        let interrupt = guard.pinned().connection.interrupt();
        let outcome = stop.while_running(interrupt, || self.append(&mut guard, &mut steps));
        let outcome = outcome.map_err(|error| stop.explain(error));
        let pinned = guard.pinned();
        if let Some(open) = &mut pinned.transaction {
            open.schemas |= creates;
        }
        match (own, &outcome) {
            (true, Ok(())) => pinned.commit_temporary()?,
            (true, Err(_)) => pinned.roll_back()?,
            (false, Ok(())) if listener.strong_count() == 0 => {
                pinned.doom("an upload in the transaction was cancelled, so it was rolled back; begin again");
            }
            (false, Ok(())) => {}
            (false, Err(_)) => {
                pinned.doom("an upload in the transaction failed, so it was rolled back; begin again")
            }
        }
        outcome
    }

    fn append(self, guard: &mut ConnectionGuard, steps: &mut mpsc::Receiver<Step>) -> Result<()> {
        let connection = &guard.pinned().connection;
        // Whatever the client has set: without it readers see rows before they are committed.
        connection.execute("SET SESSION preserve_insertion_order = true")?;
        if self.entry.matching.is_some() {
            return self.merge(connection, steps);
        }
        let Entry { fit, create, .. } = self.entry;
        if let Some(create) = &create {
            connection.execute(create)?;
        }
        let target = Target { table: self.name, columns: fit.columns().to_vec(), casts: fit.casts() };
        let sink = Sink::open(connection, &self.database.scans, &target)?;
        append_pieces(sink, &fit, &self.database.disk, steps)
    }

    /// The same for rows that are matched with those that are there.
    fn merge(self, connection: &Connection, steps: &mut mpsc::Receiver<Step>) -> Result<()> {
        let Entry { fit, create, matching, .. } = self.entry;
        let stage = MergeStage::open(connection, &self.name, fit, matching)?;
        append_pieces(
            stage.sink(connection, &self.database.scans)?,
            stage.fit(),
            &self.database.disk,
            steps,
        )?;
        stage.settle(connection)?;
        stage.enter_as_staged(connection, &self.name, create.as_deref(), self.is_there)?;
        stage.close(connection)
    }
}
