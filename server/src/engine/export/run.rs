//! Running an export. It is a read: it has one of their places, no turn, and a READ ONLY transaction, so that it runs
//! beside every write, and on a server that is read-only.

use std::sync::Arc;

use crate::engine::{
    Engine, Execution, Names, Outcome, Result, Statement,
    batch_stream::{Cancel, CancelOnDrop},
    database::Pooled,
    statement::prepare_one,
    update::{Spooled, run_prepared},
};

impl Engine {
    /// Runs one `COPY ... TO` and tells how many rows it wrote.
    ///
    /// # Errors
    /// Everything DuckDB says; [`crate::engine::Error::ExportRefused`], [`crate::engine::Error::ReadBusy`].
    pub(in crate::engine) async fn export(
        &self,
        names: Option<Names>,
        statement: Statement,
        execution: &Execution,
    ) -> Result<Outcome> {
        let permit = self.read_permit().await?;
        let cancel = CancelOnDrop::default();
        execution.begins(&cancel.0);
        self.limit_read(&cancel.0);
        let job = Job { statement, cancel: cancel.0.clone(), watched: execution.is_watched() };
        let database = Arc::clone(&self.shared.database);
        let ran = self.blocking(move || {
            let _permit = permit;
            let connection = database.connection_with(names.as_ref())?;
            let _writing = connection.exports().writing(&job.statement.sql)?;
            database.quarantine.guard(&job.statement.sql, || job.run(connection))
        });
        let ran = cancel.0.unless_overdue(ran).await;
        ran.map(Outcome::from).map_err(|error| cancel.0.explain(error))
    }
}

/// One export on its thread.
struct Job {
    statement: Statement,
    cancel: Cancel,
    /// Somebody asks how far it is.
    watched: bool,
}

impl Job {
    fn run(&self, connection: Pooled) -> Result<Spooled> {
        connection.execute("BEGIN TRANSACTION READ ONLY")?;
        let ran = self.in_transaction(&connection);
        if connection.execute("ROLLBACK").is_err() {
            connection.discard();
        }
        ran
    }

    fn in_transaction(&self, connection: &Pooled) -> Result<Spooled> {
        // Where it cannot be counted, nobody is told how far the statement is.
        let _counting = self.watched.then(|| connection.count_progress());
        let prepared = prepare_one(connection, connection.exports(), &self.statement.sql)?;
        run_prepared(&prepared, &self.statement, &self.cancel)
    }
}
