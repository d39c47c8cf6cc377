//! Prepared statements by handle.

use arrow_array::RecordBatch;
use arrow_flight::{
    IpcMessage, SchemaAsIpc,
    sql::{
        ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest,
        ActionCreatePreparedStatementResult,
    },
};
use arrow_ipc::writer::IpcWriteOptions;
use arrow_schema::Schema;
use prost::bytes::Bytes;
use tonic::Status;

use super::{
    Flight,
    error::{engine_status, internal, unknown_handle},
    update::check_transaction,
};
use crate::engine::{Error, Statement};

impl Flight {
    /// CreatePreparedStatement: plans the statement, so that mistakes show at once, and remembers its text.
    pub(super) async fn create_prepared(
        &self,
        request: ActionCreatePreparedStatementRequest,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        check_transaction(request.transaction_id.as_ref())?;
        let described = self.engine.describe(&request.query).await.map_err(engine_status)?;
        let handle = self.prepared.insert(Statement::new(request.query)).map_err(|error| internal(&error))?;
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: handle.into(),
            dataset_schema: ipc_schema(&described.schema)?,
            parameter_schema: ipc_schema(&described.parameters)?,
        })
    }

    /// ClosePreparedStatement. Closing twice is no error: drivers do.
    pub(super) fn close_prepared(&self, request: &ActionClosePreparedStatementRequest) {
        self.prepared.remove(&request.prepared_statement_handle);
    }

    /// The statement under a handle, with the parameters that were bound last.
    pub(super) fn prepared_statement(&self, handle: &[u8]) -> Result<Statement, Status> {
        self.prepared.get(handle).ok_or_else(unknown_handle)
    }

    /// Binds parameters for the next execution.
    pub(super) fn bind_parameters(
        &self,
        handle: &Bytes,
        parameters: Option<RecordBatch>,
    ) -> Result<(), Status> {
        if parameters.as_ref().is_some_and(|batch| batch.num_rows() > 1) {
            return Err(engine_status(Error::SchemaMismatch(
                "a query takes one row of parameters; run it once for each row".into(),
            )));
        }
        self.prepared.bind(handle, parameters).then_some(()).ok_or_else(unknown_handle)
    }
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
