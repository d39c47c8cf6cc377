//! DoAction and ListActions.

use std::sync::Arc;

use arrow_flight::{
    Action, ActionType, CancelFlightInfoRequest, RenewFlightEndpointRequest,
    sql::{
        ActionBeginTransactionRequest, ActionCancelQueryRequest, ActionClosePreparedStatementRequest,
        ActionCreatePreparedStatementRequest, ActionEndTransactionRequest, Any, ProstMessageExt,
    },
};
use merganser_proto::flight::SetSessionOptionsRequest;
use prost::{Message, bytes::Bytes};
use tonic::{Response, Status};

use super::{
    Answers, Flight, Reply,
    asked::sql_text,
    cookie::Cookie,
    error::{bad_request, internal, unimplemented},
    stream,
};
use crate::session::{Line, Session};

const QUERY: &str = "query";
const CREATE_PREPARED: &str = "CreatePreparedStatement";
const CLOSE_PREPARED: &str = "ClosePreparedStatement";
const BEGIN_TRANSACTION: &str = "BeginTransaction";
const END_TRANSACTION: &str = "EndTransaction";
const CANCEL_QUERY: &str = "CancelQuery";
const CANCEL_FLIGHT_INFO: &str = "CancelFlightInfo";
const RENEW_ENDPOINT: &str = "RenewFlightEndpoint";
const SET_OPTIONS: &str = "SetSessionOptions";
const GET_OPTIONS: &str = "GetSessionOptions";
const CLOSE_SESSION: &str = "CloseSession";

/// What works, and what it takes and gives.
const ACTIONS: [(&str, &str); 11] = [
    (
        QUERY,
        "Run any SQL, a script too. Body: the text. Results: one Arrow IPC stream, cut into bodies; for a write, one column \"count\".",
    ),
    (
        CREATE_PREPARED,
        "Prepare a statement. Body: ActionCreatePreparedStatementRequest. Result: ActionCreatePreparedStatementResult.",
    ),
    (CLOSE_PREPARED, "Close a prepared statement. Body: ActionClosePreparedStatementRequest. No result."),
    (
        BEGIN_TRANSACTION,
        "Begin a transaction. Body: ActionBeginTransactionRequest. Result: ActionBeginTransactionResult.",
    ),
    (END_TRANSACTION, "Commit or roll back. Body: ActionEndTransactionRequest. No result."),
    (CANCEL_QUERY, "Stop a query. Body: ActionCancelQueryRequest. Result: ActionCancelQueryResult."),
    (CANCEL_FLIGHT_INFO, "Stop a query. Body: CancelFlightInfoRequest. Result: CancelFlightInfoResult."),
    (RENEW_ENDPOINT, "Make a ticket live on. Body: RenewFlightEndpointRequest. Result: FlightEndpoint."),
    (
        SET_OPTIONS,
        "Set the session's \"catalog\" and \"schema\". Body: SetSessionOptionsRequest. Result: SetSessionOptionsResult.",
    ),
    (
        GET_OPTIONS,
        "Tell the session's options. Body: GetSessionOptionsRequest. Result: GetSessionOptionsResult.",
    ),
    (CLOSE_SESSION, "End the session. Body: CloseSessionRequest. Result: CloseSessionResult."),
];

/// ListActions.
pub(super) fn list() -> Reply<Answers<ActionType>> {
    let actions = ACTIONS
        .map(|(name, description)| ActionType { r#type: name.into(), description: description.into() });
    Ok(stream::many(actions.to_vec()))
}

impl Flight {
    /// DoAction.
    pub(super) async fn act(
        &self,
        session: &Arc<Session>,
        line: Option<&Line>,
        action: Action,
    ) -> Reply<Answers<arrow_flight::Result>> {
        let body = &action.body;
        match action.r#type.as_str() {
            QUERY => self.act_query(session, sql_text(body)?).await,
            CREATE_PREPARED => {
                let request: ActionCreatePreparedStatementRequest = unpack(body)?;
                Ok(one(&self.create_prepared(session, request).await?))
            }
            CLOSE_PREPARED => {
                let request: ActionClosePreparedStatementRequest = unpack(body)?;
                self.close_prepared(session, &request);
                Ok(stream::many(Vec::new()))
            }
            BEGIN_TRANSACTION => {
                let _: ActionBeginTransactionRequest = unpack(body)?;
                let begun = self.begin_transaction(session, line).await;
                with_cookie(begun.map(|begun| one(&begun.as_any())), &self.cookie(session).to_set())
            }
            END_TRANSACTION => {
                let ended = self.end_transaction(session, unpack::<ActionEndTransactionRequest>(body)?).await;
                with_cookie(ended.map(|()| stream::many(Vec::new())), &self.cookie(session).to_set())
            }
            CANCEL_QUERY => {
                let request: ActionCancelQueryRequest = unpack(body)?;
                Ok(one(&self.cancel_query(session, &request).await?.as_any()))
            }
            CANCEL_FLIGHT_INFO => {
                let request: CancelFlightInfoRequest = decode(body)?;
                let info = request.info.unwrap_or_default();
                Ok(one(&self.cancel_flight_info(session, &info).await?))
            }
            RENEW_ENDPOINT => {
                let request: RenewFlightEndpointRequest = decode(body)?;
                Ok(one(&self.renew_endpoint(session, request.endpoint.unwrap_or_default())?))
            }
            SET_OPTIONS => {
                let request: SetSessionOptionsRequest = decode(body)?;
                let set = self.set_session_options(session, request).await;
                with_cookie(Ok(one(&set)), &self.cookie(session).to_set())
            }
            GET_OPTIONS => Ok(one(&self.session_options(session))),
            CLOSE_SESSION => with_cookie(Ok(one(&self.close_session(session))), &Cookie::to_forget()),
            other => {
                Err(unimplemented(&format!("the action {:?}", other.chars().take(100).collect::<String>())))
            }
        }
    }
}

/// A result of one message.
fn one(message: &impl Message) -> Response<Answers<arrow_flight::Result>> {
    stream::one(arrow_flight::Result { body: message.encode_to_vec().into() })
}

/// An answer with the cookie by which a client that keeps cookies finds its session on another connection, or forgets it.
/// A refusal has one as well: a transaction is over where its end has failed.
fn with_cookie(
    mut answer: Reply<Answers<arrow_flight::Result>>,
    to_set: &str,
) -> Reply<Answers<arrow_flight::Result>> {
    let cookie = to_set.parse().map_err(|error| internal(&error))?;
    match &mut answer {
        Ok(answer) => answer.metadata_mut().insert("set-cookie", cookie),
        Err(refusal) => refusal.metadata_mut().insert("set-cookie", cookie),
    };
    answer
}

/// A message that is an action's body as it is: those of Flight itself are.
fn decode<T: Message + Default>(body: &Bytes) -> Result<T, Status> {
    T::decode(body.clone()).map_err(|_| bad_request("BAD_COMMAND", "the action's body cannot be read"))
}

/// A message inside an action's body, which Flight SQL wraps in `Any`.
fn unpack<T: ProstMessageExt + Default>(body: &Bytes) -> Result<T, Status> {
    let unreadable = || bad_request("BAD_COMMAND", "the action's body cannot be read");
    let any = Any::decode(body.clone()).map_err(|_| unreadable())?;
    any.unpack::<T>().map_err(|_| unreadable())?.ok_or_else(unreadable)
}
