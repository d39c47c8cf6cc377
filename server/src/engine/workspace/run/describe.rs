//! Planning a statement on a workspace, without running it.

use std::sync::Arc;

use super::{PinnedConnection, TransactionId, Workspace, ends_first};
use crate::{
    engine::{
        Description, Engine, Error, Result,
        batch_stream::Cancel,
        statement::{description, of_several_steps, plan_unless_stopped},
    },
    sql,
};

impl Engine {
    /// Plans a statement on a workspace, in its transaction if one is open.
    pub(in crate::engine) async fn describe_in(
        &self,
        workspace: &Arc<Workspace>,
        transaction: Option<TransactionId>,
        sql: &str,
    ) -> Result<Description> {
        let sql = sql::localise(sql)?.into_owned();
        let mut guard = workspace.take_in(transaction, self.pinned_wait()).await?;
        let quarantine = Arc::clone(&self.shared.database.quarantine);
        let places = self.planning_places(&sql);
        let moment = self.shared.turn.moment();
        self.planning(&places, move |cancel| {
            let pinned = guard.pinned();
            if let Some(open) = &mut pinned.transaction {
                open.reads(moment);
            }
            quarantine.guard(&sql, || describe_on(pinned, &sql, cancel))
        })
        .await
    }
}

/// Plans a statement, in the transaction where one is open, and keeps the plan there.
fn describe_on(pinned: &mut PinnedConnection, sql: &str, cancel: &Cancel) -> Result<Description> {
    if !ends_first(&sql::controls(sql)) {
        pinned.check_usable()?;
        pinned.follow_session()?;
    }
    if let Some(open) = &mut pinned.transaction {
        let planned = match open.take_plan(sql) {
            Some(prepared) => Ok(prepared),
            None => plan_unless_stopped(&pinned.connection, sql, cancel),
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
    pinned.connection.execute("BEGIN TRANSACTION READ ONLY")?;
    let described = plan_unless_stopped(&pinned.connection, sql, cancel)
        .and_then(|prepared| description(&prepared, sql))
        .or_else(of_several_steps);
    pinned.connection.execute("ROLLBACK")?;
    described
}
