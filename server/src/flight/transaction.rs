//! BeginTransaction and EndTransaction.

use arrow_flight::sql::{ActionBeginTransactionResult, ActionEndTransactionRequest, EndTransaction};
use tonic::Status;

use super::{
    Flight,
    error::{bad_request, session_status},
};
use crate::session::{Line, Session};

impl Flight {
    /// BeginTransaction: the handle is good in this session only.
    pub(super) async fn begin_transaction(
        &self,
        session: &Session,
        line: Option<&Line>,
    ) -> Result<ActionBeginTransactionResult, Status> {
        let handle = session.begin(line).await.map_err(session_status)?;
        Ok(ActionBeginTransactionResult { transaction_id: handle.into() })
    }

    /// EndTransaction: commits or rolls back.
    pub(super) async fn end_transaction(
        &self,
        session: &Session,
        request: ActionEndTransactionRequest,
    ) -> Result<(), Status> {
        let commit = match EndTransaction::try_from(request.action) {
            Ok(EndTransaction::Commit) => true,
            Ok(EndTransaction::Rollback) => false,
            Ok(EndTransaction::Unspecified) | Err(_) => {
                return Err(bad_request("BAD_COMMAND", "say whether to commit or to roll back"));
            }
        };
        session.end(&request.transaction_id, commit).await.map_err(session_status)
    }
}
