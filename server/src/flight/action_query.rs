//! The action `query`: any SQL, for clients without a driver.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use futures::TryStreamExt;
use tonic::{Response, Status};

use super::{
    Answers, Flight, Reply,
    error::{engine_status, internal, session_status},
    stream,
};
use crate::{
    engine::{BatchStream, Outcome, Statement},
    session::Session,
    sql::statement_count,
    statement_log::Entry,
};

impl Flight {
    /// The action `query`: rows as an Arrow IPC stream, or the number of changed rows as one.
    pub(super) async fn act_query(
        &self,
        session: &Session,
        sql: String,
    ) -> Reply<Answers<arrow_flight::Result>> {
        let mut entry = self.log.begin(session, "action", &sql);
        let is_script = statement_count(&sql) > 1;
        let statement = Statement::new(sql);
        let outcome = entry.run(async {
            if is_script { session.write(&[], statement).await } else { session.run(&[], statement).await }
        });
        match outcome.await.map_err(session_status)? {
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
fn ipc_bodies(rows: BatchStream, entry: Entry) -> Response<Answers<arrow_flight::Result>> {
    let schema = rows.schema();
    let rows = entry.follow(rows).map_err(engine_status);
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
