//! Prepared statements by handle.

use arrow_array::RecordBatch;
use arrow_flight::{
    IpcMessage, SchemaAsIpc,
    sql::{ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, Any},
};
use arrow_ipc::writer::IpcWriteOptions;
use arrow_schema::Schema;
use merganser_proto::flight::ActionCreatePreparedStatementResult;
use prost::{Message, bytes::Bytes};
use tonic::Status;

use super::{
    Flight,
    asked::Query,
    error::{engine_status, internal, session_status, unknown_handle},
};
use crate::{
    engine::{Description, Error, Statement, StatementKind},
    session::{Prepared, Session},
    sql::statement_count,
};

/// The name under which the protocol packs the result.
const RESULT_TYPE: &str = "type.googleapis.com/arrow.flight.protocol.sql.ActionCreatePreparedStatementResult";

impl Flight {
    /// CreatePreparedStatement: plans the statement, so that mistakes show at once, and remembers its text.
    pub(super) async fn create_prepared(
        &self,
        session: &Session,
        request: ActionCreatePreparedStatementRequest,
    ) -> Result<Any, Status> {
        let transaction = request.transaction_id.unwrap_or_default().to_vec();
        if statement_count(&request.query) > 1 {
            return self.prepare_script(session, request.query, transaction).await;
        }
        let sql = &request.query;
        let described = self.log.plan(session, sql, session.describe(&transaction, sql)).await;
        let described = described.map_err(session_status)?;
        let result = ActionCreatePreparedStatementResult {
            prepared_statement_handle: self.remember(session, request.query, transaction)?,
            dataset_schema: ipc_schema(&described.schema)?.to_vec(),
            parameter_schema: ipc_schema(&described.parameters)?.to_vec(),
            is_update: Some(is_update(&described)),
        };
        Ok(packed(&result))
    }

    /// A script cannot be planned before it runs, because its statements build on one another. It has neither
    /// columns nor parameters, and runs as an update only: a driver that was told so would run it where its
    /// user asks for rows.
    async fn prepare_script(
        &self,
        session: &Session,
        sql: String,
        transaction: Vec<u8>,
    ) -> Result<Any, Status> {
        self.engine.check_script(&sql).await.map_err(engine_status)?;
        Ok(packed(&ActionCreatePreparedStatementResult {
            prepared_statement_handle: self.remember(session, sql, transaction)?,
            ..Default::default()
        }))
    }

    fn remember(&self, session: &Session, sql: String, transaction: Vec<u8>) -> Result<Vec<u8>, Status> {
        let prepared =
            Prepared { statement: Statement::new(sql), session: session.id().to_vec(), transaction };
        self.prepared.insert(prepared).map_err(|error| internal(&error))
    }

    /// ClosePreparedStatement. Closing twice is no error: drivers do.
    pub(super) fn close_prepared(&self, session: &Session, request: &ActionClosePreparedStatementRequest) {
        self.prepared.remove(&request.prepared_statement_handle, session.id());
    }

    /// The statement under a handle, with the parameters that were bound last. Where its client has ended the
    /// transaction in which it was prepared, it runs in whatever is open now, as after a commit it should.
    pub(super) fn prepared_query(&self, session: &Session, handle: &[u8]) -> Result<Query, Status> {
        let Prepared { statement, mut transaction, .. } =
            self.prepared.get(handle, session.id()).ok_or_else(unknown_handle)?;
        if !session.has_transaction(&transaction) {
            transaction.clear();
        }
        Ok(Query { transaction, ..Query::new(statement) })
    }

    /// Binds parameters for the next execution.
    pub(super) fn bind_parameters(
        &self,
        session: &Session,
        handle: &Bytes,
        parameters: Option<RecordBatch>,
    ) -> Result<(), Status> {
        if parameters.as_ref().is_some_and(|batch| batch.num_rows() > 1) {
            return Err(engine_status(Error::SchemaMismatch(
                "a query takes one row of parameters; run it once for each row".into(),
            )));
        }
        let bound = self.prepared.bind(handle, session.id(), parameters).map_err(session_status)?;
        bound.then_some(()).ok_or_else(unknown_handle)
    }
}

/// Whether a driver should ask for the number of changed rows in place of rows. An EXECUTE tells only when it
/// runs.
fn is_update(described: &Description) -> bool {
    described.kind.runs_at_once()
        && described.kind != StatementKind::Execute
        && described.schema.fields().is_empty()
}

fn packed(result: &ActionCreatePreparedStatementResult) -> Any {
    Any { type_url: RESULT_TYPE.into(), value: result.encode_to_vec().into() }
}

/// A schema in the form of the protocol; an empty one is no bytes at all, which is how drivers recognise a
/// statement without a result.
pub(super) fn ipc_schema(schema: &Schema) -> Result<Bytes, Status> {
    if schema.fields().is_empty() {
        return Ok(Bytes::new());
    }
    let options = IpcWriteOptions::default();
    let IpcMessage(bytes) =
        SchemaAsIpc::new(schema, &options).try_into().map_err(|error| internal(&error))?;
    Ok(bytes)
}
