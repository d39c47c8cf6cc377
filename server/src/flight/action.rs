//! DoAction, ListActions and Handshake.

use arrow_array::RecordBatch;
use arrow_flight::{
    Action, ActionType, HandshakeResponse,
    sql::{ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, Any, ProstMessageExt},
};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use futures::{StreamExt, TryStreamExt};
use prost::{Message, bytes::Bytes};
use std::sync::Arc;
use tonic::{Response, Status};

use super::{
    Answers, Flight, Reply,
    asked::sql_text,
    error::{bad_request, engine_status, internal, unimplemented},
    statement_log::Entry,
    stream,
};
use crate::{
    engine::{BatchStream, Outcome, Statement},
    session::new_token,
    sql::statement_count,
};

const QUERY: &str = "query";
const CREATE_PREPARED: &str = "CreatePreparedStatement";
const CLOSE_PREPARED: &str = "ClosePreparedStatement";

/// What works, and what it takes and gives.
const ACTIONS: [(&str, &str); 3] = [
    (
        QUERY,
        "Run any SQL, a script too. Body: the text. Results: one Arrow IPC stream, cut into bodies; for a write, one column \"count\".",
    ),
    (
        CREATE_PREPARED,
        "Prepare a statement. Body: ActionCreatePreparedStatementRequest. Result: ActionCreatePreparedStatementResult.",
    ),
    (CLOSE_PREPARED, "Close a prepared statement. Body: ActionClosePreparedStatementRequest. No result."),
];

/// ListActions.
pub(super) fn list() -> Reply<Answers<ActionType>> {
    let actions = ACTIONS
        .map(|(name, description)| ActionType { r#type: name.into(), description: description.into() });
    Ok(stream::many(actions.to_vec()))
}

/// Handshake: without authentication everybody is welcome, and gets a token to be told apart by.
pub(super) fn handshake() -> Reply<Answers<HandshakeResponse>> {
    let token = new_token().map_err(|error| internal(&error))?;
    let mut response = stream::one(HandshakeResponse { protocol_version: 0, payload: token.clone().into() });
    let bearer = format!("Bearer {token}").parse().map_err(|error| internal(&error))?;
    response.metadata_mut().insert("authorization", bearer);
    Ok(response)
}

impl Flight {
    /// DoAction.
    pub(super) async fn act(&self, action: Action) -> Reply<Answers<arrow_flight::Result>> {
        match action.r#type.as_str() {
            QUERY => self.act_query(sql_text(&action.body)?).await,
            CREATE_PREPARED => {
                let request: ActionCreatePreparedStatementRequest = unpack(&action.body)?;
                let result = self.create_prepared(request).await?;
                Ok(stream::one(arrow_flight::Result { body: result.as_any().encode_to_vec().into() }))
            }
            CLOSE_PREPARED => {
                let request: ActionClosePreparedStatementRequest = unpack(&action.body)?;
                self.close_prepared(&request);
                Ok(stream::many(Vec::new()))
            }
            other => {
                Err(unimplemented(&format!("the action {:?}", other.chars().take(100).collect::<String>())))
            }
        }
    }

    /// The action `query`: rows as an Arrow IPC stream, or the number of changed rows as one.
    async fn act_query(&self, sql: String) -> Reply<Answers<arrow_flight::Result>> {
        let mut entry = self.log.begin("action", &sql);
        let is_script = statement_count(&sql) > 1;
        let statement = Statement::new(sql);
        let outcome =
            if is_script { self.engine.write(statement).await } else { self.engine.run(statement).await };
        let outcome = outcome.inspect_err(|error| entry.failed(error));
        match outcome.map_err(engine_status)? {
            Outcome::Rows(rows) => Ok(ipc_bodies(rows, entry)),
            Outcome::Changed(count) => {
                entry.rows(count);
                let batch = count_batch(count).map_err(|error| internal(&error))?;
                let mut writer = IpcBodies::new(batch.schema())?;
                let mut bodies = vec![writer.write(&batch)?];
                bodies.push(writer.finish()?);
                Ok(stream::many(bodies))
            }
        }
    }
}

/// Rows as bodies of one Arrow IPC stream, each body as soon as its batch is there.
fn ipc_bodies(rows: BatchStream, mut entry: Entry) -> Response<Answers<arrow_flight::Result>> {
    let schema = rows.schema();
    let rows = rows.inspect(move |batch| entry.saw(batch)).map_err(engine_status);
    let bodies = async_bodies(schema, rows);
    Response::new(Box::pin(bodies))
}

fn async_bodies(
    schema: SchemaRef,
    rows: impl futures::Stream<Item = Result<RecordBatch, Status>> + Send + 'static,
) -> impl futures::Stream<Item = Result<arrow_flight::Result, Status>> + Send + 'static {
    let rows = Box::pin(rows);
    futures::stream::try_unfold(
        (None::<IpcBodies>, rows, schema, false),
        |(writer, mut rows, schema, ended)| async move {
            if ended {
                return Ok(None);
            }
            let mut writer = match writer {
                Some(writer) => writer,
                None => IpcBodies::new(Arc::clone(&schema))?,
            };
            let next = rows.try_next().await?;
            let ended = next.is_none();
            let body = match next {
                Some(batch) => writer.write(&batch)?,
                None => writer.finish()?,
            };
            Ok(Some((body, (Some(writer), rows, schema, ended))))
        },
    )
}

/// Cuts an Arrow IPC stream into bodies.
struct IpcBodies {
    writer: StreamWriter<Vec<u8>>,
}

impl IpcBodies {
    fn new(schema: SchemaRef) -> Result<Self, Status> {
        let writer = StreamWriter::try_new(Vec::new(), &schema).map_err(|error| internal(&error))?;
        Ok(Self { writer })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<arrow_flight::Result, Status> {
        self.writer.write(batch).map_err(|error| internal(&error))?;
        Ok(self.take())
    }

    fn finish(&mut self) -> Result<arrow_flight::Result, Status> {
        self.writer.finish().map_err(|error| internal(&error))?;
        Ok(self.take())
    }

    fn take(&mut self) -> arrow_flight::Result {
        arrow_flight::Result { body: std::mem::take(self.writer.get_mut()).into() }
    }
}

fn count_batch(count: u64) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let schema = Schema::new(vec![Field::new("count", DataType::UInt64, false)]);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(arrow_array::UInt64Array::from(vec![count]))])
}

/// A message inside an action's body, which Flight SQL wraps in `Any`.
fn unpack<T: ProstMessageExt + Default>(body: &Bytes) -> Result<T, Status> {
    let unreadable = || bad_request("BAD_COMMAND", "the action's body cannot be read");
    let any = Any::decode(body.clone()).map_err(|_| unreadable())?;
    any.unpack::<T>().map_err(|_| unreadable())?.ok_or_else(unreadable)
}
