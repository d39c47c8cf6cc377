//! What a client sends in its session: statements and uploads. Each goes where it belongs: into its transaction, to the
//! session's own connection, or to any.

use arrow_schema::SchemaRef;
use futures::Stream;

use super::{Session, state::Begun};
use crate::{
    engine::{
        Arrived, BatchStream, CatalogView, Description, Error, Execution, IngestRequest, Outcome, Pending,
        Place, Posted, Statement,
    },
    session::SessionError,
    sql,
};

impl Session {
    /// Plans a statement where it would run.
    pub(crate) async fn describe(&self, transaction: &[u8], sql: &str) -> Result<Description, SessionError> {
        self.losses().tell(transaction, sql)?;
        let place = self.place(transaction, sql).await?;
        Ok(self.engine.describe(&place, sql).await?)
    }

    /// Runs one statement; see [`Engine::run`].
    pub(crate) async fn run(
        &self,
        transaction: &[u8],
        statement: Statement,
    ) -> Result<Outcome, SessionError> {
        self.perform(transaction, statement, None).await
    }

    /// Runs a query over rows that came with it. It sees the session's names, and nothing else that lives there.
    pub(crate) async fn read_posted(
        &self,
        statement: Statement,
        posted: Posted,
    ) -> Result<BatchStream, SessionError> {
        self.losses().tell(&[], &statement.sql)?;
        Ok(self.engine.read_posted(self.names.changed(), statement, posted).await?)
    }

    /// Runs one statement that neither leaves anything in the session nor needs what another left there: the
    /// session ends with the request.
    pub(crate) async fn run_once(&self, statement: Statement) -> Result<Outcome, SessionError> {
        if sql::leaves_state(&statement.sql) || sql::is_use(&statement.sql) {
            return Err(SessionError::LeavesState);
        }
        self.run(&[], statement).await
    }

    /// Runs a statement or a script for its effect; see [`Engine::write`].
    pub(crate) async fn write(
        &self,
        transaction: &[u8],
        statement: Statement,
    ) -> Result<Outcome, SessionError> {
        self.perform(transaction, statement, Some(&Execution::default())).await
    }

    /// The same as an execution that somebody watches and may stop.
    pub(crate) async fn write_watched(
        &self,
        transaction: &[u8],
        statement: Statement,
        execution: &Execution,
    ) -> Result<Outcome, SessionError> {
        self.perform(transaction, statement, Some(execution)).await
    }

    /// Runs a statement; for its effect where there is an execution.
    async fn perform(
        &self,
        transaction: &[u8],
        statement: Statement,
        for_effect: Option<&Execution>,
    ) -> Result<Outcome, SessionError> {
        if self.losses().tell_statement(transaction, &statement.sql)? {
            return Ok(Outcome::Changed(0));
        }
        if sql::is_use(&statement.sql) {
            return self.change_names(&statement.sql).await;
        }
        let place = match (self.place(transaction, &statement.sql).await?, &statement.names) {
            (Place::Shared(_), Some(names)) => Place::Shared(self.names.unless_default(names)),
            (place, _) => place,
        };
        Ok(match for_effect {
            Some(execution) => self.engine.write_watched(&place, statement, execution).await?,
            None => self.engine.run(&place, statement).await?,
        })
    }

    /// Takes an upload: into the open transaction or a temporary table where there is one, else through the
    /// writer. Returns when all of its rows have come; see [`Engine::begin_ingest`].
    pub(crate) async fn begin_ingest(
        &self,
        transaction: &[u8],
        mut request: IngestRequest,
        schema: SchemaRef,
        batches: impl Stream<Item = Result<Arrived, Error>> + Unpin + Send,
    ) -> Result<Pending, SessionError> {
        self.losses().tell(transaction, "")?;
        // What is open now: it may end, and another one begin, while the rows arrive.
        let place = match self.transaction(transaction)? {
            Some(Begun { workspace, id }) => Some((workspace, Some(id))),
            None if request.temporary => {
                let own = self.own().await?;
                let mut state = self.state.lock();
                (state.stateful, state.keeps) = (true, true);
                drop(state);
                let open = own.transaction();
                Some((own, open))
            }
            None => {
                let state = self.state.lock();
                let own = state.own.clone().filter(|own| !state.has_handle(own));
                own.and_then(|own| own.transaction().map(|open| (own, Some(open))))
            }
        };
        request.names = match &place {
            Some((workspace, _)) => Some(workspace.names()),
            None => self.names.changed(),
        };
        Ok(match place {
            Some((workspace, open)) => {
                self.engine.ingest_in(&workspace, open, request, schema, batches).await?
            }
            None => self.engine.begin_ingest(request, schema, batches).await?,
        })
    }

    /// The catalog as this session sees it.
    pub(crate) fn catalog(&self) -> CatalogView {
        let state = self.state.lock();
        let own = || state.own.clone().filter(|own| state.stateful && !state.has_handle(own));
        let of_transaction = state.only_transaction().map(|begun| begun.workspace);
        let place = match of_transaction.or_else(own) {
            Some(workspace) => Place::Own(workspace, None),
            None => Place::Shared(None),
        };
        self.engine.catalog_at(place)
    }

    /// Where a statement runs: in its transaction, on the session's own connection, or anywhere.
    async fn place(&self, transaction: &[u8], sql: &str) -> Result<Place, SessionError> {
        let leaves_state = sql::leaves_state(sql);
        if let Some(Begun { workspace, id }) = self.transaction(transaction)? {
            if leaves_state && sql::controls(sql).iter().any(Option::is_some) {
                return Err(SessionError::BegunByDriver);
            }
            let mut state = self.state.lock();
            state.stateful |= leaves_state;
            state.keeps |= leaves_state && sql::keeps_state(sql);
            return Ok(Place::Own(workspace, Some(id)));
        }
        if leaves_state || self.state.lock().stateful {
            let own = self.own().await?;
            let mut state = self.state.lock();
            if state.has_handle(&own) {
                return Err(SessionError::WhichTransaction);
            }
            state.stateful = true;
            state.keeps |= leaves_state && sql::keeps_state(sql);
            return Ok(Place::Own(own, None));
        }
        Ok(Place::Shared(self.names.changed()))
    }
}
