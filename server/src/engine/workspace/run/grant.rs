//! What a statement may need before it can write: the turn, and the tables that it changes to itself.

use super::{ConnectionGuard, PinnedConnection, Run};
use crate::{
    engine::{
        Engine, Error, Result, StatementKind,
        ffi::Prepared,
        gates::Excluding,
        open_writes::{Kind, OpenWrite},
        turn::TurnPermit,
    },
    sql,
};

/// What a statement may need before it can write.
#[derive(Default)]
pub(super) struct Grant {
    excluding: Excluding,
    turn: Option<TurnPermit>,
    write: Option<OpenWrite>,
    /// Rows were stored in a table that the statement takes away, after its transaction had read first.
    outdated: bool,
}

impl Engine {
    /// Waits for whatever the statement lacks, unless the instance fails: the connection is a part of it, so that none is
    /// opened in its place while somebody waits here.
    pub(super) async fn grant(&self, guard: &mut ConnectionGuard, sql: &str) -> Result<Grant> {
        self.shared.database.while_open(self.granted(guard, sql)).await
    }

    async fn granted(&self, guard: &mut ConnectionGuard, sql: &str) -> Result<Grant> {
        if self.read_only() {
            return Err(Error::ReadOnly);
        }
        self.check_disk(sql)?;
        let (turn, write) = if guard.pinned().has_turn() {
            (None, None)
        } else {
            let in_transaction = guard.pinned().transaction.is_some();
            let kind = if in_transaction { Kind::Transaction } else { Kind::Statement };
            let (turn, write) = self.writing_turn(sql, kind).await?;
            guard.lets_write(&write);
            (Some(turn), Some(write))
        };
        let nothing = Excluding::default();
        let held = guard.pinned().transaction.as_ref().map_or(&nothing, |open| &open.excluding);
        let exclusion = sql::exclusion(sql);
        let excluding = self.shared.turn.exclude(&exclusion, held).await?;
        let taken = sql::taken_away(sql);
        let open = guard.pinned().transaction.as_ref();
        let outdated = open.is_some_and(|open| open.is_outdated(&taken, &self.shared.turn));
        Ok(Grant { excluding, turn, write, outdated })
    }
}

impl Run {
    /// True when the statement writes and lacks the turn, or changes a table to which others may append.
    pub(super) fn must_wait(&self, pinned: &PinnedConnection, prepared: &Prepared, text: &str) -> bool {
        let Some(open) = &pinned.transaction else { return false };
        if self.grant.is_some() || open.read_only || !self.can_write {
            return false;
        }
        writes(prepared.kind(), text) && !pinned.may_write(&sql::exclusion(text))
    }

    /// Gives the transaction a snapshot in which all is that was committed while its statement waited. DuckDB lets a
    /// transaction drop or replace a table with rows that it does not see, which were acknowledged: where it has read
    /// before, so that it must keep its snapshot, it is rolled back.
    pub(super) fn renew_snapshot(&self, pinned: &mut PinnedConnection) -> Result<()> {
        let (Some(grant), Some(open)) = (&self.grant, &pinned.transaction) else { return Ok(()) };
        if !open.has_run {
            return pinned.begin_anew();
        }
        if !grant.outdated {
            return Ok(());
        }
        Err(pinned.lose_outdated())
    }

    /// The transaction keeps what its write was granted until it ends.
    pub(super) fn accept_grant(&mut self, pinned: &mut PinnedConnection) {
        if let (Some(open), Some(grant)) = (&mut pinned.transaction, self.grant.take()) {
            if let Some(turn) = grant.turn {
                open.takes_turn(turn);
            }
            open.write = open.write.take().or(grant.write);
            open.excluding.extend(grant.excluding);
        }
    }

    /// A script goes on after the transaction in it: what that was granted serves the rest.
    pub(super) fn take_back_grant(&mut self, pinned: &mut PinnedConnection) {
        if let Some(open) = &mut pinned.transaction
            && let Some(turn) = open.turn.take()
        {
            let (excluding, write) = (std::mem::take(&mut open.excluding), open.write.take());
            self.grant = Some(Grant { excluding, turn: Some(turn), write, outdated: false });
        }
    }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        let workspace = engine.workspace(engine.session_names()).await.unwrap();
        let mut guard = workspace.take(LONG).await.unwrap();
        let mut waiting = Box::pin(engine.grant(&mut guard, "ALTER TABLE t ADD COLUMN c INTEGER"));
        assert!((&mut waiting).now_or_never().is_none(), "{obstacle:?}");

        let mut condition = engine.condition();
        engine.reopen("a test");
        let ended = timeout(LONG, waiting).await.expect("it waits for ever");
        assert!(matches!(ended, Err(Error::EngineDown)), "{obstacle:?}");
        drop((guard, workspace));
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
